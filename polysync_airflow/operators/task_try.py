"""
One try of a Start task in one process: it gets the execution, and decides with the core what becomes of it.

A task whose process has died cannot run this code; for such tasks there is ``failure_callback.py``. For
deferred tasks, ``on_kill`` of the trigger stops the execution.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.airflow_compat.task_process import exit_if_replaced
from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.beginning import begin
from polysync_airflow.execution.lifecycle.ending import (
    Exit,
    Leaving,
    after_wait,
    leave,
    needs_record,
)
from polysync_airflow.execution.lifecycle.instructions import (
    ENDS_THE_START,
    NOT_WHEN_KILLED,
    Accepted,
    Do,
    Event,
    Instruction,
    Killed,
    LookedUp,
    Store,
    Try,
)
from polysync_airflow.execution.lifecycle.lookup import arn_of, own_record_of
from polysync_airflow.execution.lifecycle.machine import after, killed_error
from polysync_airflow.execution.models import ExecutionEvent, pipeline_name_from_arn, region_from_arn
from polysync_airflow.execution.outcome import StopReason, refusal_error
from polysync_airflow.execution.record import StoredExecution
from polysync_airflow.metrics.catalogue import EXECUTIONS_RESUMED, EXECUTIONS_STARTED
from polysync_airflow.metrics.sending import count
from polysync_airflow.operators.base import TryChoices
from polysync_airflow.operators.execution_calls import ExecutionCalls, sent_parameters
from polysync_airflow.operators.stopping import StopReport, stop_recorded_execution
from polysync_airflow.records.identities import task_identity
from polysync_airflow.records.store import RecordStore, own_record
from polysync_airflow.retrying import next_retry

if TYPE_CHECKING:
    from airflow.sdk import Context

    from polysync_airflow.airflow_compat.sdk import RetryPolicy
    from polysync_airflow.hooks import PolysyncSageMakerHook

# Airflow's supervisor sends SIGKILL five seconds after SIGTERM, or 60 from Airflow 3.4 on. The stop request
# must leave before that.
OWNER_TIMEOUT_SECONDS: Final = 2.0
KILL_THREAD: Final = "polysync-on-kill"
_REASONS: Final[dict[StopReason, str]] = {
    "ended_task": "The process received SIGTERM",
    "timeout": "execution_timeout has passed",
    "failure": "The task failed",
}
# A request that is sent again was not counted: its try has died before it knew the response.
_COUNTED: Final = {
    Do.START: EXECUTIONS_STARTED,
    Do.LOOK_UP: EXECUTIONS_STARTED,
    Do.RESEND_START: EXECUTIONS_STARTED,
    Do.RESUME: EXECUTIONS_RESUMED,
    Do.RESEND_RESUME: EXECUTIONS_RESUMED,
}


class TaskTry:
    """
    The state of one try.

    :param hook_for_region: returns the hook for a region; None is the task's own region.
    """

    def __init__(
        self,
        choices: TryChoices,
        hook_for_region: Callable[[str | None], PolysyncSageMakerHook],
        log: Any,
    ) -> None:
        self._choices = choices
        self._hook_for_region = hook_for_region
        self._log = log
        self._ti: Any = None
        self._store: RecordStore | None = None
        self._now: Instruction | None = None
        self._is_killed = False
        self._is_shutdown = False
        self._sleeps = False
        # The record with the stop that this process has requested.
        self._announced: StoredExecution | None = None
        # What stores how that stop ends.
        self._report: StopReport | None = None
        # Whether this process executes the task, so that its templates are rendered.
        self.is_executed = False
        # Whether the execution has ended, was stopped, or is the next try's, so that the failure callback has
        # nothing to do.
        self.is_handled = False

    @property
    def record(self) -> StoredExecution | None:
        """The record of the execution that this process started or waits for; None if there is none."""
        return self._now.record if self._now else None

    def get_execution(self, context: Context, arguments: Mapping[str, Any], timeout: float) -> Instruction:
        """
        Start an execution, or get that of an earlier try.

        :param arguments: the rendered arguments for a new execution. They are checked only if one is started:
            arguments that are no longer valid must not keep a try from the execution that runs.
        :param timeout: how long transient errors of AWS's are retried, in seconds.
        :return: ``Do.WATCH``, or ``Do.WAIT_FOR_END`` if another execution has to end before.
        :raises StoredRecordError: the stored record cannot be believed, and names an execution that runs.
        :raises ParametersError: the request for a new execution is not valid.
        :raises SageMakerApiError: AWS refused a call.
        """
        ti = self._ti = context["ti"]
        calls = ExecutionCalls(
            hook_for_region=self._hook_for_region,
            log=self._log,
            arguments=arguments,
            validate_parameters=self._choices.validate_parameters,
            deadline=clock.time() + timeout,
        )
        store = self._store = RecordStore(context)
        record = store.claim()
        task_try = Try(store.try_number, ti.max_tries, task_identity(context), self._choices, lost=store.lost)
        now = self._enter(store, begin(task_try, record))
        while now.do not in ENDS_THE_START:
            event = calls.perform(now)
            try:
                following = self._enter(store, after(now, event))
            finally:
                # After the record is stored, and also if the process was killed meanwhile.
                self._count(now, event)
            now = following
        return now

    def parameters_of(self, now: Instruction) -> Mapping[str, str]:
        """Return the parameters of an execution, which AWS tells if an earlier try has sent them."""
        record = now.known
        if now.description is None and record.resumes == 0:
            return record.request.pipeline_parameters
        hook = self._hook_for_region(region_from_arn(record.arn))
        return sent_parameters(hook, record, self._log.warning)

    def _count(self, now: Instruction, event: Event) -> None:
        metric = _COUNTED.get(now.do)
        is_found = isinstance(event, LookedUp) and now.record and arn_of(now.record, event)
        if metric and (is_found or isinstance(event, Accepted)):
            connection = self._hook_for_region(None).polysync_conn_id
            count(metric, connection=connection, region=now.known.region_name)

    def _enter(self, store: RecordStore, now: Instruction) -> Instruction:
        """
        Log and store what comes before an instruction; return it, if the task was not killed meanwhile.

        :raises PolysyncError: the instruction is to fail.
        """
        # Nothing is started if the record cannot be stored, so until then a kill has nothing to stop.
        if now.do is not Do.START:
            self._now = now
        for line in now.lines:
            self._log.log(line.level, "%s", line.text)
        if now.store is Store.WRITE:
            store.write(now.known)
        elif now.store is Store.DELETE:
            store.delete()
        if now.error:
            raise now.error
        if self._is_killed and now.do in NOT_WHEN_KILLED:
            return self._enter(store, after(now, Killed(is_shutdown=self._is_shutdown)))
        self._now = now
        return now

    def raise_if_killed(self) -> None:
        """Raise an error if the process was killed."""
        if self._is_killed:
            raise killed_error(is_shutdown=self._is_shutdown)

    def sleep(self, seconds: float) -> None:
        """
        Wait on the worker.

        :raises PolysyncError: the worker shuts down, at any moment of the wait.
        """
        self._sleeps = True
        try:
            self._raise_if_shut_down()
            clock.sleep(seconds)
            exit_if_replaced(self._ti, self._log.warning)
        finally:
            self._sleeps = False

    def _raise_if_shut_down(self) -> None:
        if self._is_shutdown:
            raise killed_error(is_shutdown=True)

    def own_record(self, context: Context) -> tuple[RecordStore, StoredExecution | None]:
        """Return the record of this try's execution; after a deferral, it is read again."""
        if self._store and self._now:
            return self._store, self._announced or self._now.record
        return own_record(context)

    def forget_record(self, context: Context) -> None:
        """Delete the record, because the task succeeds."""
        store = self._store
        if store is None:
            store = RecordStore(context)
            store.read()
        store.forget()

    def _confirm(
        self, context: Context, store: RecordStore, end: ExecutionEvent
    ) -> tuple[StoredExecution | None, str | None]:
        """
        Return the record of an execution that has not ended, if AWS says that it is this task's.

        :return: the record, or why there is none.
        """
        claims = store.lost.record if store.lost else None
        try:
            hook = self._hook_for_region(region_from_arn(end.execution_arn))
            execution = hook.describe_pipeline_execution(end.execution_arn)
            name = end.pipeline_name or pipeline_name_from_arn(end.execution_arn)
            record = own_record_of(execution, task_identity(context), claims, name)
            if record:
                record = record.model_copy(update={"try_number": store.try_number})
                store.write(record)
                return record, None
        except PolysyncError as error:
            return None, str(error)
        return None, store.lost.problem if store.lost else None

    def finish(self, context: Context, end: ExecutionEvent, policy: RetryPolicy | None) -> Leaving:
        """
        Decide about the execution after the end of the wait. From here on, a kill has nothing to stop.

        :param policy: the task's ``retry_policy``.
        :return: ``Exit.BEGIN_AGAIN``, or what became of the execution.
        """
        stop_on_kill = self._choices.stop_on_kill
        record, problem = None, None
        if needs_record(end, stop_on_kill=stop_on_kill):
            self._store, record = self.own_record(context)
            if record is None and end.outcome != "ended":
                record, problem = self._confirm(context, self._store, end)
        leaving = after_wait(
            end,
            record,
            context["ti"].try_number,
            stop_on_kill=stop_on_kill,
            retry_follows=end.outcome == "refused"
            and next_retry(policy, refusal_error(end, ""), context) is not None,
            problem=problem,
        )
        if leaving.exit is Exit.BEGIN_AGAIN:
            self._log.warning(
                "An earlier try of this task had requested the stop before this try reattached. A new "
                "execution is started in place of execution %s",
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
        Decide about the execution that this process started or waits for, because the process shall end.

        :param timed_out: whether ``execution_timeout`` has passed. Otherwise a signal has come.
        :raises PolysyncError: the worker shuts down, and the interrupted code only waits.
        """
        self._is_killed = True
        if self.record is None:
            return
        # Airflow calls this in a signal handler, at any point of the main thread's code. The stop runs in
        # another thread: if the main thread holds a lock that the stop needs, the stop fails, but the process
        # does not hang.
        answered = threading.Event()
        leave = partial(self._leave, "timeout" if timed_out else "ended_task", answered)
        thread = threading.Thread(target=leave, name=KILL_THREAD, daemon=True)
        thread.start()
        # The main thread may hold Airflow's channel itself. Then it must go on before there can be an answer;
        # the thread waits for that, and the main thread asks again when it fails.
        if answered.wait(OWNER_TIMEOUT_SECONDS) or self._sleeps:
            thread.join(STOP_TIMEOUT_SECONDS)
        if self._sleeps:
            # Airflow's signal handler raises it in the interrupted code, which therefore ends at once.
            self._raise_if_shut_down()

    @contextmanager
    def stop_on_final_failure(self, context: Context, policy: RetryPolicy | None) -> Iterator[None]:
        """Decide about the execution if an error ends the try, for example an XCom that cannot be pushed."""
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
        :param answered: set when Airflow has said whose execution it is, if the process shall end.
        :return: False if the failure callback must decide about the execution.
        """
        store, record = self._store, self.record
        if store is None or record is None:
            return True
        leaving = leave(
            record,
            store.try_number,
            stop_on_kill=self._choices.stop_on_kill,
            retry_follows=retry_follows,
            is_signalled=reason == "ended_task",
        )
        leaving = self._carry_out(leaving, store, record, reason, answered)
        arn = record.execution_arn or "its ARN is not known"
        self._log.warning("%s: %s Execution: %s", _REASONS[reason], leaving.text, arn)
        if answered and self._report and record.execution_arn:
            self._report.follow(self._hook_for_region)
        return leaving.handled

    def _carry_out(
        self,
        leaving: Leaving,
        store: RecordStore,
        record: StoredExecution,
        reason: StopReason,
        answered: threading.Event | None = None,
    ) -> Leaving:
        """Do what the core returns about an execution that this try does not wait for any longer."""
        if leaving.exit is Exit.ASK_OWNER:
            leaving = leaving.owned_by(store.owner(record))
        self._is_shutdown |= leaving.is_shutdown
        announced = leaving.announced(record)
        if leaving.exit is Exit.ANNOUNCE_STOP:
            leaving = leaving.owned_by(store.announce_stop(announced))
        if answered:
            answered.set()
        if leaving.exit is Exit.STOP:
            self._announced = announced
            self._report = report = StopReport(
                self._ti, record, reason, self._log, is_killed=answered is not None
            )
            report.store_request()
            result = stop_recorded_execution(record, self._hook_for_region, self._log.warning)
            report.store_answer(result)
            leaving = leaving.stop_requested(result.text, failed=result.failed)
        if leaving.exit is Exit.WITHDRAW_STOP:
            self._announced = self._report = None
            store.withdraw_stop(record)
        return leaving
