"""
One try of a Start task in one process: it gets the execution, and decides with the core
what becomes of it.

``execution/lifecycle/machine.py`` decides what is called, and when;
``execution_calls.py`` calls it.

A task whose process has died cannot run this code; for such tasks there is
``failure_callback.py``. For deferred tasks, ``on_kill`` of the trigger stops the
execution.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import Context

from polysync_airflow import retrying, states
from polysync_airflow.airflow_compat.reschedules import is_rescheduled
from polysync_airflow.airflow_compat.supervisor import exit_if_replaced
from polysync_airflow.airflow_compat.task_instances import pull_own, read_state
from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS
from polysync_airflow.exceptions import (
    ParametersError,
    PolysyncError,
    SageMakerApiError,
)
from polysync_airflow.execution import clock, cost, lifecycle, models
from polysync_airflow.execution.job_pipelines import JobPipeline
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.capacity import CapacityLimits
from polysync_airflow.execution.lifecycle.decisions import (
    Nothing,
    Outlook,
    wait_for_capacity,
)
from polysync_airflow.execution.lifecycle.ending import EndAction, TryEnd
from polysync_airflow.execution.lifecycle.instruction_kinds import (
    Beginning,
    Begun,
    Failure,
    Identified,
    Instruction,
    ends_the_start,
)
from polysync_airflow.execution.outcome import StopReason, stop_reason
from polysync_airflow.execution.prices import SPENDING_KEY, CostLimit, Spending
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.waiter import ExecutionEvent
from polysync_airflow.hooks.jobs import JobMethods
from polysync_airflow.hooks.prices import has_limit, read_limit
from polysync_airflow.hooks.spending import SpendingReader, StepJobStore, basis_of
from polysync_airflow.metrics import EXECUTIONS_RESUMED, EXECUTIONS_STARTED, count
from polysync_airflow.operators import execution_calls
from polysync_airflow.operators.kill import Kill
from polysync_airflow.operators.task_run import write_lines
from polysync_airflow.operators.worker_stop import WorkerStop
from polysync_airflow.records.store import RecordStore

if TYPE_CHECKING:
    from polysync_airflow.operators.base import TryOptions
    from polysync_airflow.operators.start import PolysyncStartPipelineOperator

# How long a killed process waits for Airflow to say whose execution it is.
OWNER_TIMEOUT_SECONDS: Final = 2.0
KILL_THREAD: Final = "polysync-on-kill"
_REASONS: Final[dict[StopReason, str]] = {
    "ended_task": "The process received SIGTERM",
    "timeout": "execution_timeout has passed",
    "failure": "The task failed",
    "cost": "max_cost is spent",
}
# A request that is sent again was not counted: its try has died before it knew the
# response.
_COUNTED: Final = {
    instructions.Command.START: EXECUTIONS_STARTED,
    instructions.Command.LOOK_UP: EXECUTIONS_STARTED,
    instructions.Command.RESEND_START: EXECUTIONS_STARTED,
    instructions.Command.RESUME: EXECUTIONS_RESUMED,
    instructions.Command.RESEND_RESUME: EXECUTIONS_RESUMED,
}


class TryStepJobs(StepJobStore):
    """Keeps the jobs of the steps in the record of a try, while it waits."""

    def __init__(self, runner: TryRunner, jobs: instructions.StepJobs | None) -> None:
        super().__init__(jobs)
        self._runner = runner

    def write(self, jobs: instructions.StepJobs) -> None:
        """Keep the jobs, and store them in the record."""
        super().write(jobs)
        self._runner.write_step_jobs(jobs)


class TryRunner:
    """
    One try: what it starts, continues with, and stops.

    :param task: the operator, whose templates are rendered.
    :param options: returns the options of the try, which a clear may change.
    :param hook_for_region: returns the hook for a region; None is the task's own
        region.
    :param limits: how long the try retries its calls, and waits for capacity.
    :param max_cost: the rendered argument of the task; ``NOT_GIVEN`` without one.
    :param is_of_group: whether the task is that of a group of steps.
    """

    def __init__(
        self,
        task: PolysyncStartPipelineOperator,
        context: Context,
        *,
        options: Callable[[], TryOptions],
        hook_for_region: execution_calls.HookForRegion,
        limits: CapacityLimits,
        max_cost: object,
        is_of_group: bool,
    ) -> None:
        self.kill = Kill()
        self._context = context
        self._ti: Any = context["ti"]
        self._log = task.log
        self._policy = task.retry_policy
        self._options = options
        self._hook_for_region = hook_for_region
        self._limits = limits
        self._max_cost = max_cost
        self._own_pipeline: JobPipeline | None = None
        if task.makes_pipeline:
            arguments = task.attributes(JobPipeline.__dataclass_fields__)
            self._own_pipeline = JobPipeline(**arguments)
        self._is_of_group = is_of_group
        # Airflow has just begun this session.
        self._began_at = clock.time()
        self._store = self._new_store()
        # What this process does with the execution that it started or waits for; None
        # without one.
        self._instruction: Instruction | None = None
        # The stop that this process requests, or has requested.
        self._stop: WorkerStop | None = None
        self._is_handled = False

    def _new_store(self) -> RecordStore:
        return RecordStore.on_worker(self._context, is_of_group=self._is_of_group)

    @property
    def is_handled(self) -> bool:
        """
        Whether the execution has ended, was stopped, or is the next try's, so that the
        failure callback has nothing to do.
        """
        return self._is_handled

    @property
    def record(self) -> instructions.ExecutionRecord | None:
        """
        The record of the execution that this process started or waits for; None without
        one.
        """
        if self._instruction is None:
            return None
        return self._instruction.record

    # ---- the start

    def get_execution(self, arguments: Mapping[str, Any]) -> Begun | Identified:
        """
        Start an execution, or get that of an earlier try.

        :param arguments: the rendered arguments for a new execution. They are checked
            only if one is started: arguments that are no longer valid must not keep a
            try from the execution that runs.
        :return: ``Command.WATCH``, or ``Command.WAIT_FOR_END`` if another execution has
            to end before, or ``Command.WAIT_FOR_CAPACITY``.
        :raises StoredRecordError: the stored record cannot be believed, and names an
            execution that runs.
        :raises ParametersError: the request for a new execution is not valid.
        :raises SageMakerApiError: AWS refused a call.
        """
        calls = self._calls(arguments)
        self._store = self._new_store()
        record = self._store.read()
        task_try = self._task_try()
        task_try = replace(task_try, is_rescheduled=is_rescheduled(self._context))
        instruction = self._enter(lifecycle.machine.begin(task_try, record))
        while not ends_the_start(instruction):
            if instruction.delay:
                self.sleep(instruction.delay)
                self.kill.raise_if_requested()
            if instruction.command in lifecycle.instructions.COSTS_MONEY:
                self._store.confirm()
            performed = instruction
            event = calls.perform(performed)
            try:
                instruction = self._enter(lifecycle.machine.after(performed, event))
            finally:
                # After the record is stored, and also if the process was killed
                # meanwhile.
                self._count(performed, event)
        has_begun = isinstance(instruction, Identified) and instruction.started_at
        if has_begun and self._options().wait_for_completion:
            self._raise_if_ended()
        return instruction

    def look_up(
        self, arguments: Mapping[str, Any]
    ) -> instructions.ExecutionRecord | None:
        """
        Return the record of this task's execution, made from what AWS says, where there
        is none that can be believed; None if AWS lists no such execution.

        :param arguments: as for ``get_execution``.
        """
        # The try also looks for the execution that an unproven record names.
        self._store.read()
        task_try = self._task_try()
        instruction = Beginning(instructions.Command.LOOK_UP, task_try)
        event = self._calls(arguments).perform(instruction)
        if not isinstance(event, instructions.ExecutionsListed):
            return None
        record = lifecycle.lookup.find(task_try, event)
        if record is None or record.replaced_by_epoch is not None:
            # Another incarnation has started it.
            return None
        return record

    def _calls(self, arguments: Mapping[str, Any]) -> execution_calls.ExecutionCalls:
        return execution_calls.ExecutionCalls(
            hook_for_region=self._hook_for_region,
            log=self._log,
            arguments=arguments,
            validate_parameters=self._options().validate_parameters,
            max_cost=self._max_cost,
            own_pipeline=self._own_pipeline,
            deadline=clock.time() + self._limits.timeout,
        )

    def _raise_if_ended(self) -> None:
        """
        End the try if somebody has ended the task while it had no record by which the
        watch would find that: before its start, or before its end.
        """
        state = read_state(self._ti)
        waits = self._options().wait_for_completion
        if lifecycle.ending.has_ended_before_wait(state, waits=waits):
            raise PolysyncError(
                f"The task has ended meanwhile (state {state}).", permanent=False
            )

    def _task_try(self) -> instructions.TaskTry:
        options = self._options()
        capacity = None
        if options.wait_for_capacity:
            capacity = self._limits
        return instructions.TaskTry(
            number=self._store.try_number,
            epoch=self._ti.max_tries,
            task=self._store.identity,
            options=options,
            unproven=self._store.unproven,
            unattended_stop=self._unattended_stop(),
            capacity=capacity,
            has_cost_limit=has_limit(self._max_cost),
        )

    def _unattended_stop(self) -> instructions.UnattendedStop | None:
        options = self._options()
        if not options.stop_on_kill:
            return None
        return instructions.UnattendedStop(
            polysync_conn_id=self._hook_for_region(None).polysync_conn_id,
            after_success=options.wait_for_completion,
        )

    def _enter(self, instruction: Instruction) -> Instruction:
        """
        Write the log lines and the record that come before an instruction.

        :return: the instruction; if the process was killed meanwhile, the one that
            follows from that.
        :raises PolysyncError: the instruction is to fail.
        """
        if instruction.command is not instructions.Command.START:
            # Nothing is started if the record cannot be stored, so until then a kill
            # has nothing to stop.
            self._instruction = instruction
        write_lines(self._log, instruction.lines)
        if isinstance(instruction.store, instructions.ExecutionRecord):
            self._store.write(instruction.store)
        elif instruction.store is instructions.Store.DELETE:
            self._store.delete()
        if isinstance(instruction, Failure):
            raise instruction.error
        killed = self.kill.event
        if killed and instruction.command in lifecycle.instructions.NOT_WHEN_KILLED:
            return self._enter(lifecycle.machine.after(instruction, killed))
        self._instruction = instruction
        return instruction

    def _count(self, instruction: Instruction, event: instructions.Event) -> None:
        metric = _COUNTED.get(instruction.command)
        record = instruction.record
        if metric and record and _has_begun(record, event):
            connection = self._hook_for_region(None).polysync_conn_id
            count(metric, connection=connection, region=record.region_name)

    def parameters_of(self, instruction: Identified) -> Mapping[str, str]:
        """
        Return the parameters of an execution. If an earlier try has sent them, AWS is
        asked.
        """
        record = instruction.record
        if instruction.description is None and record.resumes == 0:
            return record.request.pipeline_parameters
        hook = self._hook_for_region(models.region_from_arn(instruction.arn))
        return execution_calls.sent_parameters(hook, instruction, self._log.warning)

    # ---- the wait

    def sleep(self, seconds: float) -> None:
        """
        Wait on the worker.

        :raises PolysyncError: the worker shuts down, at any moment of the wait.
        """
        with self.kill.sleeping():
            clock.sleep(seconds)
            exit_if_replaced(self._ti, self._log.warning)

    def cost_limit(
        self,
        record: instructions.ExecutionRecord,
        of_attempt: Callable[[CostLimit], CostLimit],
    ) -> str | None:
        """
        Return what an attempt may still cost, as JSON; None if it has no limit.

        :param of_attempt: adds what was spent before to a limit.
        """
        try:
            limit = read_limit(self._max_cost, models.region_from_arn(record.arn))
        except ParametersError as error:
            # Nothing may keep a try from an execution that runs.
            self._log.warning("The execution goes on without max_cost: %s", error)
            return None
        if limit is None:
            return None
        return of_attempt(limit).model_dump_json()

    def forget_estimate(self) -> None:
        """Delete the XCom ``spending``, which is that of an earlier execution."""
        if has_limit(self._max_cost):
            self._ti.xcom_push(SPENDING_KEY, None)

    def basis(self, execution_arn: str | None) -> cost.Basis:
        """Return what is known of the money of an execution that was waited for."""
        if execution_arn is None or not has_limit(self._max_cost):
            return cost.Basis()
        limit = None
        with suppress(ParametersError):
            # Without it, the wait has warned.
            region = models.region_from_arn(execution_arn)
            limit = read_limit(self._max_cost, region)
        record = None
        spending = None
        try:
            record = self.own_record()
            spending = pull_own(self._context, SPENDING_KEY)
        except Exception as error:
            # The outcome of the task is known without it.
            self._log.warning("What was spent before is not known: %s", error)
        if record is None or record.execution_arn != execution_arn:
            return basis_of(None, spending, limit)
        if limit:
            limit = record.limit_of_attempt(limit)
        return basis_of(record, spending, limit)

    def estimate(
        self, hook: JobMethods, limit: str
    ) -> Callable[[Sequence[StepDescription]], Spending]:
        """
        Return what estimates by a list of the steps what the task has spent, and pushes
        it.

        :param limit: its ``CostLimit``, as JSON.
        """
        known = None
        if self.record:
            known = self.record.step_jobs
        reader = SpendingReader(hook, self._log.warning, TryStepJobs(self, known))
        parsed_limit = CostLimit.parse(limit)

        def estimate(steps: Sequence[StepDescription]) -> Spending:
            spending = reader.spending(parsed_limit, steps)
            value = spending.model_dump(mode="json")
            self._ti.xcom_push(SPENDING_KEY, value)
            return spending

        return estimate

    # ---- the record

    def write_step_jobs(self, jobs: instructions.StepJobs) -> None:
        """
        Store the jobs of the steps in the record of the execution that is waited for.

        :raises PolysyncError: this try is no longer the current one.
        :raises Exception: Airflow does not respond.
        """
        if not isinstance(self._instruction, Identified):
            return
        changes = {"step_jobs": jobs}
        record = self._instruction.record.model_copy(update=changes)
        self._store.write(record)
        self._instruction = replace(self._instruction, record=record)

    def own_record(self) -> instructions.ExecutionRecord | None:
        """
        Return the record of this try's execution. After a deferral, it is read again.
        """
        if self._instruction is None:
            self._store = self._new_store()
            return self._store.read()
        if self._stop and self._stop.announced:
            return self._stop.announced
        return self._instruction.record

    def seen_by_next_try(
        self, end: ExecutionEvent
    ) -> tuple[instructions.ExecutionRecord | Nothing | None, str | None]:
        """
        Return the record and the status that the next try finds of an execution; None
        in place of what is not known.
        """
        status = end.status if end.outcome == "ended" else None
        try:
            record = self.own_record()
            if record is None and status:
                return self._looked_up_by_next_try(end), status
            if record is None or record.execution_arn != end.execution_arn:
                return None, status
        except Exception as error:
            self._log.warning("What the next try does is not known: %s", error)
            return None, status
        return record, status

    def done_by_retry(self) -> lifecycle.plans.Does | None:
        """
        Return what a retry does after an error that has kept this try from its wait;
        None if that is not known.
        """
        instruction = self._instruction
        if instruction is None:
            return None
        record = instruction.record
        if record is None or record.execution_arn is None:
            return "start"
        status = None
        if record.resume_is_pending or record.waits_for_capacity:
            status = states.STATUS_FAILED
        elif isinstance(instruction, Identified) and instruction.description:
            status = instruction.description.status
        return Outlook(record, status, self._options()).retry_does

    def _looked_up_by_next_try(
        self, end: ExecutionEvent
    ) -> instructions.ExecutionRecord | Nothing:
        """Return what the next try finds in AWS, since it has no record to believe."""
        arn = end.execution_arn
        hook = self._hook_for_region(models.region_from_arn(arn))
        execution = hook.describe_pipeline_execution(arn)
        name = end.pipeline_name or models.pipeline_name_of(arn)
        listing = instructions.ExecutionsListed(name, [execution])
        return lifecycle.lookup.find(self._task_try(), listing) or Nothing.FOUND

    def forget_record(self) -> None:
        """
        Delete the record, because the task succeeds.

        :raises PolysyncError: somebody has ended the task, and its execution runs.
        """
        if self.kill.event:
            # The task may have a later try.
            return
        self._store.forget(began_at=self._began_at)
        if not self._options().wait_for_completion:
            self._raise_if_ended()

    def _make_record(self, end: ExecutionEvent) -> instructions.ExecutionRecord | None:
        """
        Make and store the record of an execution that has not ended: that of this try
        was deleted, or cannot be believed.

        :return: None if nothing proves that this task has started the execution.
        :raises PolysyncError: the record cannot be made or stored.
        """
        store = self._store
        arn = end.execution_arn
        pipeline_name = end.pipeline_name or models.pipeline_name_of(arn)
        changes: dict[str, Any] = {
            "try_number": store.try_number,
            "unattended_stop": self._unattended_stop(),
        }
        record: instructions.ExecutionRecord | None
        execution = self._describe_unrecorded(arn)
        if store.unproven is None or execution is None:
            # The event proves it: this try's own trigger has sent it.
            record = lifecycle.lookup.record_of_wait(
                arn, end.attempt, store.identity, pipeline_name
            )
            changes["epoch"] = self._ti.max_tries
        else:
            # The name of the execution says whether this task has started it.
            record = lifecycle.lookup.record_if_own(
                execution, store.identity, store.unproven.record, pipeline_name
            )
            if record is None:
                return None
        record = record.model_copy(update=changes)
        store.write(record)
        return record

    def _describe_unrecorded(self, arn: str) -> models.ExecutionDescription | None:
        """
        Describe an execution without a proven record.

        :return: None if AWS does not tell, and there is no record that claims it.
        :raises PolysyncError: another deployment has started it, so the trigger of this
            task is that of a copied database.
        """
        hook = self._hook_for_region(models.region_from_arn(arn))
        try:
            execution = hook.describe_pipeline_execution(arn)
        except SageMakerApiError:
            if self._store.unproven:
                raise
            return None
        if self._store.provenance.is_of_other_deployment(
            lifecycle.lookup.name_of(execution)
        ):
            raise PolysyncError(lifecycle.ending.OF_OTHER_DEPLOYMENT)
        return execution

    def wait_for_capacity(
        self, end: ExecutionEvent, reason: str
    ) -> instructions.ExecutionRecord | None:
        """
        Store that the execution, which has failed for want of capacity, is resumed
        after a pause.

        :return: the record; None if the task fails instead.
        """
        record = self.own_record()
        if record is None or record.execution_arn != end.execution_arn:
            return None
        arn = end.execution_arn
        watching = Identified(instructions.Command.WATCH, self._task_try(), record, arn)
        now = clock.now()
        instruction = wait_for_capacity(watching, reason, now, nothing_runs=True)
        if instruction is None:
            return None
        self._is_handled = False
        return self._enter(instruction).record

    # ---- the end: what becomes of the execution

    def release(self, *, is_handled: bool = True) -> None:
        """
        Note that this try no longer waits, so that a kill has nothing to stop.

        :param is_handled: whether the failure callback has nothing to do, either.
        """
        self._is_handled = is_handled
        self._instruction = None

    def finish(self, end: ExecutionEvent, refusal: PolysyncError | None) -> TryEnd:
        """
        Decide about an execution that has not ended by itself, after the end of the
        wait. From here on, a kill has nothing to stop.

        :param refusal: the error with which the task fails, because it cannot poll its
            execution any longer; None if it can.
        :return: ``EndAction.BEGIN_AGAIN``, or what became of the execution.
        """
        stop_on_kill = self._options().stop_on_kill
        record = None
        problem = None
        if lifecycle.ending.needs_record(end, stop_on_kill=stop_on_kill):
            record = self.own_record()
            if record is None and end.outcome != "ended":
                try:
                    record = self._make_record(end)
                except PolysyncError as refused:
                    problem = str(refused)
                unproven = self._store.unproven
                if record is None and problem is None and unproven:
                    problem = unproven.problem
        try_end = lifecycle.ending.after_wait(
            end,
            record,
            self._ti.try_number,
            stop_on_kill=stop_on_kill,
            retry_follows=refusal is not None and self._is_followed(refusal),
            problem=problem,
        )
        if try_end.action is EndAction.BEGIN_AGAIN:
            self._log.warning(
                "An earlier try of this task had requested the stop before this try "
                "reattached. A new execution is started in place of execution %s",
                end.execution_arn,
            )
            return try_end
        if record:
            try_end = self._carry_out(try_end, record, stop_reason(end))
        self.release(is_handled=try_end.handled)
        return try_end

    def stop_when_killed(self, *, timed_out: bool) -> None:
        """
        Decide about the execution that this process started or waits for, because the
        process shall end.

        :param timed_out: whether ``execution_timeout`` has passed. Otherwise a signal
            has come.
        :raises PolysyncError: the worker shuts down, and the interrupted code only
            waits.
        """
        self.kill.request()
        if self.record is None:
            return
        reason: StopReason = "ended_task"
        if timed_out:
            reason = "timeout"
        # Airflow calls this in a signal handler, at any point of the main thread's
        # code. The stop runs in another thread: if the main thread holds a lock that
        # the stop needs, the stop fails, but the process does not hang.
        answered = threading.Event()
        leave = partial(self._leave, reason, answered)
        thread = threading.Thread(target=leave, name=KILL_THREAD, daemon=True)
        thread.start()
        # The main thread may hold Airflow's channel itself. Then it must go on before
        # there can be an answer; the thread waits for that, and the main thread asks
        # again when it fails.
        if answered.wait(OWNER_TIMEOUT_SECONDS) or self.kill.sleeps:
            thread.join(STOP_TIMEOUT_SECONDS)
        if self.kill.sleeps:
            # Airflow's signal handler raises it in the interrupted code, which
            # therefore ends at once.
            self.kill.raise_if_shut_down()

    @contextmanager
    def stop_on_final_failure(self) -> Iterator[None]:
        """
        Decide about the execution if an error ends the try, for example an XCom that
        cannot be pushed.
        """
        try:
            yield
        except Exception as error:
            # If a user has ended the task, so that no retry follows, Airflow says so.
            retry_follows = self._is_followed(error)
            self._is_handled = self._leave("failure", retry_follows=retry_follows)
            raise

    def _is_followed(self, error: Exception) -> bool:
        """Return whether the task goes on in another session after an error."""
        return retrying.next_session(self._policy, error, self._context) is not None

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
        record = self.record
        if record is None:
            return True
        try_end = lifecycle.ending.leave(
            record,
            self._store.try_number,
            stop_on_kill=self._options().stop_on_kill,
            retry_follows=retry_follows,
            is_signalled=reason == "ended_task",
        )
        try_end = self._carry_out(try_end, record, reason, answered)
        arn = record.execution_arn or "its ARN is not known"
        self._log.warning("%s: %s Execution: %s", _REASONS[reason], try_end.text, arn)
        if answered and record.execution_arn and self._stop and self._stop.announced:
            self._stop.follow()
        return try_end.handled

    def _carry_out(
        self,
        try_end: TryEnd,
        record: instructions.ExecutionRecord,
        reason: StopReason,
        answered: threading.Event | None = None,
    ) -> TryEnd:
        """
        Do what the core says about an execution that this try no longer waits for.
        """
        if try_end.action is EndAction.ASK_OWNER:
            owner, *_ = self._store.owner(record)
            try_end = try_end.owned_by(owner)
        if try_end.is_shutdown:
            self.kill.note_shutdown()
        if try_end.action is EndAction.END_EPOCH:
            self._store.announce_stop(try_end.announced(record))
        if try_end.action is not EndAction.ANNOUNCE_STOP:
            if answered:
                answered.set()
            return try_end
        self._stop = WorkerStop(
            ti=self._ti,
            log=self._log,
            reason=reason,
            store=self._store,
            record=record,
            hook_for_region=self._hook_for_region,
            basis=partial(self.basis, record.execution_arn),
            answered=answered,
        )
        return self._stop.carry_out(try_end).try_end


def _has_begun(record: instructions.ExecutionRecord, event: instructions.Event) -> bool:
    """Return whether an event says that an execution, or its resume, has begun."""
    match event:
        case instructions.Accepted() | instructions.Started():
            return True
        case instructions.ExecutionsListed():
            return lifecycle.lookup.arn_of(record, event) is not None
        case _:
            return False
