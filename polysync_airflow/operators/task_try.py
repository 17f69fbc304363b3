"""
One try of a Start task in one process: it gets the execution, and decides with the core
what becomes of it. A stop also finds an execution whose ARN is not known yet, and the
XCom ``run`` says how it ends.

``execution/lifecycle/machine.py`` decides what is called, and when.

A task whose process has died cannot run this code; for such tasks there is
``failure_callback.py``. For deferred tasks, ``on_kill`` of the trigger stops the
execution.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from airflow.providers.common.compat.sdk import Context

from polysync_airflow.airflow_compat.sdk import RetryPolicy
from polysync_airflow.airflow_compat.supervisor import (
    call_in_daemon_thread,
    exit_if_replaced,
)
from polysync_airflow.aws.responses import PAGE_SIZE
from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, Result, call_with_retry
from polysync_airflow.exceptions import (
    RESOURCE_NOT_FOUND,
    PolysyncError,
    SageMakerApiError,
    has_code,
)
from polysync_airflow.execution import clock, models
from polysync_airflow.execution.lifecycle import decisions, instructions, machine
from polysync_airflow.execution.lifecycle.instructions import (
    Do,
    Instruction,
    StoredExecution,
)
from polysync_airflow.execution.outcome import (
    ExecutionRecord,
    RequestedStop,
    StopReason,
    refusal_error,
)
from polysync_airflow.execution.parameters import (
    check_pipeline_names,
    make_start_request,
    with_role,
)
from polysync_airflow.execution.waiter import (
    ExecutionEvent,
    ExecutionWaiter,
    Finish,
    Wait,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import StopResult, request_stop, stop_execution
from polysync_airflow.metrics import EXECUTIONS_RESUMED, EXECUTIONS_STARTED, count
from polysync_airflow.operators import parameter_check
from polysync_airflow.operators.base import TryChoices, write_lines
from polysync_airflow.operators.reporting import pull_run, push_run
from polysync_airflow.records import RecordStore, task_identity
from polysync_airflow.retrying import next_retry

HookForRegion = Callable[[str | None], PolysyncSageMakerHook]


@dataclass(kw_only=True)
class ExecutionCalls:
    """
    The calls of one try.

    :param hook_for_region: returns the hook for a region; None is the task's own
        region.
    :param arguments: the rendered arguments of the task for a new execution.
    :param deadline: when to stop retrying calls that fail with transient errors, in
        seconds since the epoch.
    """

    hook_for_region: HookForRegion
    log: Any
    arguments: Mapping[str, Any]
    validate_parameters: bool
    deadline: float
    # Whether the call that is being made got no clear response at first.
    _was_repeated: bool = field(default=False, init=False)

    def perform(self, now: Instruction) -> instructions.Event:
        """Do what an instruction says, and return what happened."""
        self._was_repeated = False
        calls: dict[Do, Callable[[Instruction], instructions.Event]] = {
            Do.PREPARE: self._prepare,
            Do.LOOK_UP: self._look_up,
            Do.LOOK_UP_STARTED: self._look_up,
            Do.START: self._start,
            Do.RESEND_START: self._resend_start,
            Do.RESUME: self._resume,
            Do.RESEND_RESUME: self._resume,
            Do.STOP: self._stop,
        }
        try:
            return calls.get(now.do, self._describe)(now)
        except PolysyncError as error:
            return instructions.Refused(error, was_repeated=self._was_repeated)

    def _look_up(self, now: Instruction) -> instructions.LookedUp:
        record = now.record
        hook = self.hook_for_region(record.region_name if record else None)
        pipeline_name = (
            record.request.pipeline_name if record else self.arguments["pipeline_name"]
        )
        claims = now.task_try.lost and now.task_try.lost.record
        claimed = (
            self._describe_claimed(claims.execution_arn)
            if claims and claims.execution_arn
            else None
        )
        listed: list[models.ExecutionDescription] = []
        try:
            check_pipeline_names([pipeline_name])
            listed = list(self._newest_executions(hook, pipeline_name))
        except PolysyncError as error:
            if error.transient:
                raise
            # If the pipeline's name is not valid, the error of the request says what
            # is.
            self.log.warning(
                "The executions of earlier tries cannot be looked up: %s", error
            )
        return instructions.LookedUp(pipeline_name, listed, claimed)

    def _newest_executions(
        self, hook: PolysyncSageMakerHook, pipeline_name: str
    ) -> Iterator[models.ExecutionDescription]:
        token = None
        for _ in range(machine.MAX_LOOKED_AT // PAGE_SIZE):
            page, token = self._retry(
                partial(hook.list_pipeline_executions, pipeline_name, page_token=token)
            )
            yield from page
            if not token:
                return

    def _describe_claimed(
        self, execution_arn: str
    ) -> models.ExecutionDescription | None:
        hook = self.hook_for_region(models.region_from_arn(execution_arn))
        try:
            return self._retry(partial(hook.describe_pipeline_execution, execution_arn))
        except SageMakerApiError as error:
            if has_code(error, RESOURCE_NOT_FOUND):
                return None
            raise

    def _prepare(self, now: Instruction) -> instructions.Prepared:
        hook = self.hook_for_region(None)
        request = self._make_request(hook, now)
        if self.validate_parameters or request.selected_steps:
            try:
                pipeline = self._retry(
                    partial(parameter_check.describe_version, hook, request)
                )
            except SageMakerApiError as error:
                raise parameter_check.explain_refusal(hook, request, error) from None
            if self.validate_parameters:
                parameter_check.check_parameters(pipeline.definition, request)
            parameter_check.check_selection(pipeline.definition, request)
        request = parameter_check.with_source(hook, request, self._retry)
        # Never empty: without a region, the hook has raised an error.
        return instructions.Prepared(request, hook.region_name or "")

    def _make_request(
        self, hook: PolysyncSageMakerHook, now: Instruction
    ) -> models.StartRequest:
        task, start = now.task_try.task, (now.task_try.epoch, now.start_number)
        request = make_start_request(
            self.arguments, task.token(*start), task.display_name(*start)
        )
        request = with_role(
            request, hook.credentials.execution_role_arn if hook.credentials else None
        )
        hook.check_supported(request)
        return request

    def _start(self, now: Instruction) -> instructions.Accepted:
        try:
            return self._resend_start(now)
        except SageMakerApiError as error:
            hook = self.hook_for_region(now.known.region_name)
            raise parameter_check.explain_refusal(
                hook, now.known.request, error
            ) from None

    def _resend_start(self, now: Instruction) -> instructions.Accepted:
        hook = self.hook_for_region(now.known.region_name)
        arn = self._retry(partial(hook.start_pipeline_execution, now.known.request))
        return instructions.Accepted(hook.responded_at or clock.now(), arn)

    def _describe(self, now: Instruction) -> instructions.Described:
        record = now.known
        hook = self._hook_of(record)
        return instructions.Described(
            clock.now(),
            self._retry(partial(hook.describe_pipeline_execution, record.arn)),
        )

    def _stop(self, now: Instruction) -> instructions.Accepted:
        record = now.known
        hook = self._hook_of(record)
        self._retry(partial(request_stop, hook, record.arn, attempt=record.resumes))
        return instructions.Accepted(clock.now())

    def _resume(self, now: Instruction) -> instructions.Accepted:
        record = now.known
        hook = self._hook_of(record)
        self._log_unused_arguments(now, record)
        self._log_steps(hook, record.arn)
        resume = partial(
            hook.retry_pipeline_execution, record.arn, token=record.resume_token or ""
        )
        self._retry(
            partial(resume, max_parallel_steps=record.request.max_parallel_steps)
        )
        return instructions.Accepted(hook.responded_at or clock.now())

    def _log_unused_arguments(self, now: Instruction, record: StoredExecution) -> None:
        try:
            current = self._make_request(self.hook_for_region(None), now)
            sent = sent_parameters(self._hook_of(record), record, self.log.warning)
            unused = decisions.unused_arguments(record.request, sent, current)
        except PolysyncError as error:
            text = (
                "The arguments of this try are not valid, and are not used: %s"
                " Execution: %s"
            )
            self.log.warning(text, error, record.arn)
            return
        if unused:
            self.log.warning(
                "AWS resumes with the values of the start. The arguments that have"
                " other values now are not used: %s: execution %s",
                ", ".join(unused),
                record.arn,
            )

    def _log_steps(self, hook: PolysyncSageMakerHook, arn: str) -> None:
        try:
            steps = hook.list_pipeline_execution_steps(arn)
        except PolysyncError as error:
            self.log.warning(
                "The steps that will be repeated could not be listed: %s", error
            )
            return
        kept = sorted(step.name for step in steps if step.status == "Succeeded")
        repeated = sorted(
            f"{step.name} ({step.status})"
            for step in steps
            if step.status != "Succeeded"
        )
        self.log.info(
            "Resuming from the failed steps. Kept: %s. Repeated: %s, and all steps"
            " after: execution %s",
            ", ".join(kept) or "none",
            ", ".join(repeated) or "none",
            arn,
        )

    def _hook_of(self, record: StoredExecution) -> PolysyncSageMakerHook:
        return self.hook_for_region(models.region_from_arn(record.arn))

    def _retry(self, call: Callable[[], Result]) -> Result:
        return call_with_retry(call, until=self.deadline, warn=self._warn)

    def _warn(self, message: str) -> None:
        self._was_repeated = True
        self.log.warning(message)


def sent_parameters(
    hook: PolysyncSageMakerHook, record: StoredExecution, warn: Callable[..., object]
) -> Mapping[str, str]:
    """
    Return the parameters of an execution. Once its ARN is stored, the record does not
    have their values.

    :param hook: the hook for the region of the execution.
    :param warn: called with a format and its arguments if AWS does not tell them.
    """
    # This try has sent them, or an earlier version wrote the record.
    if record.request.pipeline_parameters:
        return record.request.pipeline_parameters
    try:
        return hook.list_pipeline_parameters_for_execution(record.arn)
    except PolysyncError as error:
        warn(
            "The parameters of the execution are not known: %s Execution: %s",
            error,
            record.arn,
        )
        return {}


# Airflow's supervisor sends SIGKILL five seconds after SIGTERM, or 60 from Airflow 3.4
# on. The stop request must leave before that, and not wait for a slow Airflow. The end
# of the stop is seen only if it comes soon.
OWNER_TIMEOUT_SECONDS: Final = 2.0
STORE_TIMEOUT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
MAX_LOOKS: Final = 3


def _arn_of(record: StoredExecution, hook: PolysyncSageMakerHook) -> str:
    """
    Return the ARN of the execution that a stored request has started, or may have
    started.
    """
    request = record.request
    with suppress(SageMakerApiError):
        # AWS may have forgotten the client token.
        newest, _ = hook.list_pipeline_executions(request.pipeline_name)
        arn = machine.arn_of(
            record, instructions.LookedUp(request.pipeline_name, newest)
        )
        if arn:
            return arn
    # AWS returns the ARN if it knows the client token. If not, this starts an
    # execution, which is then stopped.
    return hook.start_pipeline_execution(request)


def stop_recorded_execution(
    record: StoredExecution,
    hook_for_region: HookForRegion,
    warn: Callable[[str], object],
) -> StopResult:
    """
    Stop the execution that runs, or may run, because of a record. Raises no
    ``PolysyncError`` of AWS's.

    :param warn: called with a message when a request is retried.
    """
    try:
        arn = record.execution_arn or call_with_retry(
            lambda: _arn_of(record, hook_for_region(record.region_name)),
            until=clock.time() + STOP_TIMEOUT_SECONDS,
            warn=warn,
        )
        # The connection may have been deleted meanwhile.
        hook = hook_for_region(models.region_from_arn(arn))
    except PolysyncError as error:
        text = f"The execution may still be running: it cannot be stopped: {error}"
        return StopResult(text, error=str(error))
    result = stop_execution(hook, arn, attempt=record.resumes, warn=warn)
    return (
        result
        if record.execution_arn
        else result._replace(text=f"{result.text} Execution: {arn}")
    )


@dataclass
class StopReport:
    """
    Stores in the XCom ``run`` of a task what becomes of the stop of its execution. For
    a worker.

    It raises no error: the stop comes first.

    :param ti: the task instance. Its try must own the execution.
    :param record: the record of the execution.
    :param is_killed: whether the process has little time.
    """

    ti: Any
    record: StoredExecution
    reason: StopReason
    log: Any
    is_killed: bool
    # A change that Airflow stores late does not replace a later one.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def store_request(self) -> None:
        """Store that the stop is going to be requested."""
        stop = RequestedStop(
            requested_at=clock.now(), reason=self.reason, process="worker"
        )
        self._change(lambda run: run.stop_requested(stop))

    def store_answer(self, result: StopResult) -> None:
        """Store what AWS has answered."""
        self._change(
            lambda run: run.stop_answered(result.status, result.error, clock.now())
        )

    def follow(self, hook_for_region: HookForRegion) -> None:
        """Look a few times for the end of the execution, and store it."""
        arn, now = self.record.arn, clock.time()
        since = self.record.resumed_at.timestamp() if self.record.resumed_at else now
        name, until = self.record.request.pipeline_name, now + MAX_LOOKS * LOOK_SECONDS
        waiter = ExecutionWaiter(
            execution_arn=arn,
            pipeline_name=name,
            poll_interval=LOOK_SECONDS,
            since=since,
            deadline=until,
            attempt=self.record.resumes,
        )
        hook = hook_for_region(models.region_from_arn(arn))
        step: Wait[ExecutionWaiter] | Finish[ExecutionEvent] = Wait(
            LOOK_SECONDS, waiter
        )
        while isinstance(step, Wait):
            clock.sleep(step.seconds)
            step = step.waiter.decide(hook.poll_pipeline_execution(arn), clock.time())
        run = self._change(lambda run: run.stop_followed(step.event, clock.now()))
        if run:
            self.log.warning("%s", run.stop_text)

    def _change(
        self, change: Callable[[ExecutionRecord], ExecutionRecord]
    ) -> ExecutionRecord | None:
        timeout = STORE_TIMEOUT_SECONDS if self.is_killed else None
        try:
            return call_in_daemon_thread(partial(self._change_run, change)).result(
                timeout
            )
        except FutureTimeoutError:
            self.log.warning(
                "Airflow does not store the XCom 'run' within %s s", timeout
            )
        except Exception as error:
            self.log.warning(
                "Airflow does not store the XCom 'run': %s: %s",
                type(error).__name__,
                error,
            )
        return None

    def _change_run(
        self, change: Callable[[ExecutionRecord], ExecutionRecord]
    ) -> ExecutionRecord | None:
        context: Any = {"ti": self.ti}
        with self._lock:
            run = pull_run(context)
            if run is None or run.execution_arn != self.record.execution_arn:
                return None
            run = change(run)
            push_run(context, run)
        return run


KILL_THREAD: Final = "polysync-on-kill"
_REASONS: Final[dict[StopReason, str]] = {
    "ended_task": "The process received SIGTERM",
    "timeout": "execution_timeout has passed",
    "failure": "The task failed",
}
# A request that is sent again was not counted: its try has died before it knew the
# response.
_COUNTED: Final = {
    Do.START: EXECUTIONS_STARTED,
    Do.LOOK_UP: EXECUTIONS_STARTED,
    Do.RESEND_START: EXECUTIONS_STARTED,
    Do.RESUME: EXECUTIONS_RESUMED,
    Do.RESEND_RESUME: EXECUTIONS_RESUMED,
}


@dataclass(eq=False)
class TaskTry:
    """
    The state of one try.

    :param hook_for_region: returns the hook for a region; None is the task's own
        region.
    """

    choices: TryChoices
    hook_for_region: HookForRegion
    log: Any
    # Whether this process executes the task, so that its templates are rendered.
    is_executed: bool = False
    # Whether the execution has ended, was stopped, or is the next try's, so that the
    # failure callback has nothing to do.
    is_handled: bool = False
    # Airflow has just begun this session.
    _began_at: float = field(default_factory=clock.time)
    _ti: Any = None
    _store: RecordStore | None = None
    _now: Instruction | None = None
    _is_killed: bool = False
    _is_shutdown: bool = False
    _sleeps: bool = False
    # The record with the stop that this process has requested, and what stores how that
    # stop ends.
    _announced: StoredExecution | None = None
    _report: StopReport | None = None

    @property
    def record(self) -> StoredExecution | None:
        """
        The record of the execution that this process started or waits for; None if
        there is none.
        """
        return self._now.record if self._now else None

    def get_execution(
        self, context: Context, arguments: Mapping[str, Any], timeout: float
    ) -> Instruction:
        """
        Start an execution, or get that of an earlier try.

        :param arguments: the rendered arguments for a new execution. They are checked
            only if one is started: arguments that are no longer valid must not keep a
            try from the execution that runs.
        :param timeout: how long transient errors of AWS's are retried, in seconds.
        :return: ``Do.WATCH``, or ``Do.WAIT_FOR_END`` if another execution has to end
            before.
        :raises StoredRecordError: the stored record cannot be believed, and names an
            execution that runs.
        :raises ParametersError: the request for a new execution is not valid.
        :raises SageMakerApiError: AWS refused a call.
        """
        ti = self._ti = context["ti"]
        calls = ExecutionCalls(
            hook_for_region=self.hook_for_region,
            log=self.log,
            arguments=arguments,
            validate_parameters=self.choices.validate_parameters,
            deadline=clock.time() + timeout,
        )
        store = self._store = RecordStore(context)
        record = store.claim()
        task_try = instructions.Try(
            store.try_number,
            ti.max_tries,
            task_identity(context),
            self.choices,
            lost=store.lost,
        )
        now = self._enter(store, machine.begin(task_try, record))
        while now.do not in instructions.ENDS_THE_START:
            if now.do in instructions.COSTS_MONEY:
                store.confirm()
            event = calls.perform(now)
            try:
                following = self._enter(store, machine.after(now, event))
            finally:
                # After the record is stored, and also if the process was killed
                # meanwhile.
                self._count(now, event)
            now = following
        return now

    def parameters_of(self, now: Instruction) -> Mapping[str, str]:
        """
        Return the parameters of an execution, which AWS tells if an earlier try has
        sent them.
        """
        record = now.known
        if now.description is None and record.resumes == 0:
            return record.request.pipeline_parameters
        hook = self.hook_for_region(models.region_from_arn(record.arn))
        return sent_parameters(hook, record, self.log.warning)

    def _count(self, now: Instruction, event: instructions.Event) -> None:
        metric = _COUNTED.get(now.do)
        is_found = (
            isinstance(event, instructions.LookedUp)
            and now.record
            and machine.arn_of(now.record, event)
        )
        if metric and (is_found or isinstance(event, instructions.Accepted)):
            connection = self.hook_for_region(None).polysync_conn_id
            count(metric, connection=connection, region=now.known.region_name)

    def _enter(self, store: RecordStore, now: Instruction) -> Instruction:
        """
        Log and store what comes before an instruction; return it, if the task was not
        killed meanwhile.

        :raises PolysyncError: the instruction is to fail.
        """
        # Nothing is started if the record cannot be stored, so until then a kill has
        # nothing to stop.
        if now.do is not Do.START:
            self._now = now
        write_lines(self.log, now.lines)
        if now.store is instructions.Store.WRITE:
            store.write(now.known)
        elif now.store is instructions.Store.DELETE:
            store.delete()
        if now.error:
            raise now.error
        if self._is_killed and now.do in instructions.NOT_WHEN_KILLED:
            return self._enter(
                store,
                machine.after(now, instructions.Killed(is_shutdown=self._is_shutdown)),
            )
        self._now = now
        return now

    def raise_if_killed(self) -> None:
        """Raise an error if the process was killed."""
        if self._is_killed:
            raise machine.killed_error(is_shutdown=self._is_shutdown)

    def sleep(self, seconds: float) -> None:
        """
        Wait on the worker.

        :raises PolysyncError: the worker shuts down, at any moment of the wait.
        """
        self._sleeps = True
        try:
            self._raise_if_shut_down()
            clock.sleep(seconds)
            exit_if_replaced(self._ti, self.log.warning)
        finally:
            self._sleeps = False

    def _raise_if_shut_down(self) -> None:
        if self._is_shutdown:
            raise machine.killed_error(is_shutdown=True)

    def own_record(
        self, context: Context
    ) -> tuple[RecordStore, StoredExecution | None]:
        """
        Return the record of this try's execution; after a deferral, it is read again.
        """
        if self._store and self._now:
            return self._store, self._announced or self._now.record
        store = RecordStore(context)
        return store, store.read()

    def forget_record(self, context: Context) -> None:
        """
        Delete the record, because the task succeeds. A task that was killed may have a
        later try.
        """
        if not self._is_killed:
            (self._store or RecordStore(context, confirmed_at=self._began_at)).forget()

    def _confirm(
        self, context: Context, store: RecordStore, end: ExecutionEvent
    ) -> tuple[StoredExecution | None, str | None]:
        """
        Return the record of an execution that has not ended, if AWS says that it is
        this task's.

        :return: the record, or why there is none.
        """
        claims = store.lost.record if store.lost else None
        try:
            hook = self.hook_for_region(models.region_from_arn(end.execution_arn))
            execution = hook.describe_pipeline_execution(end.execution_arn)
            name = end.pipeline_name or models.pipeline_name_of(end.execution_arn)
            record = machine.own_record_of(
                execution, task_identity(context), claims, name
            )
            if record:
                record = record.model_copy(update={"try_number": store.try_number})
                store.write(record)
                return record, None
        except PolysyncError as error:
            return None, str(error)
        return None, store.lost.problem if store.lost else None

    def finish(
        self, context: Context, end: ExecutionEvent, policy: RetryPolicy | None
    ) -> decisions.Leaving:
        """
        Decide about the execution after the end of the wait. From here on, a kill has
        nothing to stop.

        :param policy: the task's ``retry_policy``.
        :return: ``Exit.BEGIN_AGAIN``, or what became of the execution.
        """
        stop_on_kill = self.choices.stop_on_kill
        record, problem = None, None
        if decisions.needs_record(end, stop_on_kill=stop_on_kill):
            self._store, record = self.own_record(context)
            if record is None and end.outcome != "ended":
                record, problem = self._confirm(context, self._store, end)
        leaving = decisions.after_wait(
            end,
            record,
            context["ti"].try_number,
            stop_on_kill=stop_on_kill,
            retry_follows=end.outcome == "refused"
            and next_retry(policy, refusal_error(end, ""), context) is not None,
            problem=problem,
        )
        if leaving.exit is decisions.Exit.BEGIN_AGAIN:
            self.log.warning(
                "An earlier try of this task had requested the stop before this try"
                " reattached. A new execution is started in place of execution %s",
                end.execution_arn,
            )
            return leaving
        if self._store and record:
            self._ti = context["ti"]
            reason: StopReason = "timeout" if end.outcome == "timed_out" else "failure"
            leaving = self._carry_out(leaving, self._store, record, reason)
        self.is_handled = leaving.handled
        self._now = None
        return leaving

    def kill(self, *, timed_out: bool) -> None:
        """
        Decide about the execution that this process started or waits for, because the
        process shall end.

        :param timed_out: whether ``execution_timeout`` has passed. Otherwise a signal
            has come.
        :raises PolysyncError: the worker shuts down, and the interrupted code only
            waits.
        """
        self._is_killed = True
        if self.record is None:
            return
        # Airflow calls this in a signal handler, at any point of the main thread's
        # code. The stop runs in another thread: if the main thread holds a lock that
        # the stop needs, the stop fails, but the process does not hang.
        answered = threading.Event()
        end = partial(self._leave, "timeout" if timed_out else "ended_task", answered)
        thread = threading.Thread(target=end, name=KILL_THREAD, daemon=True)
        thread.start()
        # The main thread may hold Airflow's channel itself. Then it must go on before
        # there can be an answer; the thread waits for that, and the main thread asks
        # again when it fails.
        if answered.wait(OWNER_TIMEOUT_SECONDS) or self._sleeps:
            thread.join(STOP_TIMEOUT_SECONDS)
        if self._sleeps:
            # Airflow's signal handler raises it in the interrupted code, which
            # therefore ends at once.
            self._raise_if_shut_down()

    @contextmanager
    def stop_on_final_failure(
        self, context: Context, policy: RetryPolicy | None
    ) -> Iterator[None]:
        """
        Decide about the execution if an error ends the try, for example an XCom that
        cannot be pushed.
        """
        try:
            yield
        except Exception as error:
            # If a user has ended the task, so that no retry follows, Airflow says so.
            retried = next_retry(policy, error, context) is not None
            self.is_handled = self._leave("failure", retry_follows=retried)
            raise

    def _leave(
        self,
        reason: StopReason,
        answered: threading.Event | None = None,
        *,
        retry_follows: bool = False,
    ) -> bool:
        """
        Decide what becomes of the execution that runs, or may run, because of this try.

        :param reason: why the try ends.
        :param answered: set when Airflow has said whose execution it is, if the process
            shall end.
        :return: False if the failure callback must decide about the execution.
        """
        store, record = self._store, self.record
        if store is None or record is None:
            return True
        leaving = decisions.leave(
            record,
            store.try_number,
            stop_on_kill=self.choices.stop_on_kill,
            retry_follows=retry_follows,
            is_signalled=reason == "ended_task",
        )
        leaving = self._carry_out(leaving, store, record, reason, answered)
        arn = record.execution_arn or "its ARN is not known"
        self.log.warning("%s: %s Execution: %s", _REASONS[reason], leaving.text, arn)
        if answered and self._report and record.execution_arn:
            self._report.follow(self.hook_for_region)
        return leaving.handled

    def _carry_out(
        self,
        leaving: decisions.Leaving,
        store: RecordStore,
        record: StoredExecution,
        reason: StopReason,
        answered: threading.Event | None = None,
    ) -> decisions.Leaving:
        """
        Do what the core returns about an execution that this try does not wait for any
        longer.
        """
        if leaving.exit is decisions.Exit.ASK_OWNER:
            leaving = leaving.owned_by(store.owner(record)[0])
        self._is_shutdown |= leaving.is_shutdown
        announced = leaving.announced(record)
        if leaving.exit is decisions.Exit.ANNOUNCE_STOP:
            leaving = leaving.owned_by(store.announce_stop(announced))
        if answered:
            answered.set()
        if leaving.exit is decisions.Exit.STOP:
            self._announced = announced
            self._report = report = StopReport(
                self._ti, record, reason, self.log, is_killed=answered is not None
            )
            report.store_request()
            result = stop_recorded_execution(
                record, self.hook_for_region, self.log.warning
            )
            report.store_answer(result)
            leaving = leaving.stop_requested(
                result.text, failed=result.error is not None
            )
        if leaving.exit is decisions.Exit.WITHDRAW_STOP:
            self._announced = self._report = None
            store.withdraw_stop(record)
        return leaving
