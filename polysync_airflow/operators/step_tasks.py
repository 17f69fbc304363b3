"""
The tasks of a group that shows a pipeline step by step: the execution task, and a task
for each step.

``execution/step_tasks.py`` decides how a step's task ends, and
``execution/step_clears.py`` what a clear means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import StartTriggerArgs

from polysync_airflow import exceptions, links
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import (
    AirflowRescheduleException,
    AirflowSkipException,
    conf,
)
from polysync_airflow.airflow_compat.supervisor import call_slow_airflow
from polysync_airflow.airflow_compat.task_instances import (
    read_states,
    read_xcom,
    write_xcom,
)
from polysync_airflow.execution import clock, outcome
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.execution.parameters import REQUEST_ARGUMENTS
from polysync_airflow.execution.waiter import check_event
from polysync_airflow.operators import base, reporting
from polysync_airflow.operators.start import PolysyncStartPipelineOperator
from polysync_airflow.states import PolysyncState, has_ended, state_of_step

if TYPE_CHECKING:
    from airflow.sdk import Context

    from polysync_airflow.execution.lifecycle.instructions import (
        ExecutionRecord,
        Instruction,
    )
    from polysync_airflow.execution.lifecycle.next_session import NextSession
    from polysync_airflow.execution.models import ExecutionDescription
    from polysync_airflow.execution.step_clears import Clear, ClearedSteps, FirstListing
    from polysync_airflow.execution.step_tasks import StepTaskEvent
    from polysync_airflow.execution.waiter import ExecutionEvent, ExecutionWaiter
    from polysync_airflow.hooks import PolysyncSageMakerHook
    from polysync_airflow.operators.try_runner import TryRunner

# Airflow sends the whole DAG to the triggerer for each task that starts there. With 200
# such tasks at a time in a DAG of a thousand, that takes 2 GiB.
MAX_TASKS_IN_TRIGGERER: Final = 200
# Between two looks for the notes of the steps' tasks.
_SECONDS_BETWEEN_LOOKS: Final = 1.0
# Between two polls of ``dag.test()``, which has no triggerer.
_SECONDS_BETWEEN_POLLS: Final = 1.0
_AT_ONCE: Final = datetime(2000, 1, 1, tzinfo=UTC)
# The class path that Airflow stores of the trigger that runs a whole task.
_TASK_END_TRIGGER: Final = (
    "polysync_airflow.start_in_triggerer.PolysyncStepTaskEndTrigger"
)


class PolysyncStepsExecutionOperator(PolysyncStartPipelineOperator):
    """
    Start the execution whose steps are tasks of their own, and wait for its end: the
    *execution task*.

    ``PolysyncPipelineTaskGroup`` makes it. It is below the tasks of all steps, so that
    a clear with "Downstream" clears it, too, and starts as soon as the group's first
    task has succeeded.

    :param first_task_id: the first task of the group. It never runs, so its XComs stay
        when it is cleared.
    :param step_task_ids: the ids of the tasks of the steps, by step, in the order of
        the definition.
    :param kwargs: the arguments of ``PolysyncStartPipelineOperator``. It is always
        deferred, and a retry resumes the execution.
    """

    def __init__(
        self, *, first_task_id: str, step_task_ids: Mapping[str, str], **kwargs: Any
    ) -> None:
        kwargs |= {
            "deferrable": True,
            "wait_for_completion": True,
            "retry_mode": "resume",
            "on_clear": "new",
        }
        self._listing: FirstListing | None = None
        # It starts at once, although it is below the tasks of the steps.
        super().__init__(**{**kwargs, "trigger_rule": "one_success"})
        self.first_task_id = first_task_id
        self.step_task_ids = dict(step_task_ids)

    @cached_property
    def try_runner(self) -> TryRunner:
        """The state of this try."""
        runner = super().try_runner
        runner.is_of_group = True
        return runner

    @base.apply_retry_policy
    def execute(self, context: Context) -> str:
        """
        Start or continue with an execution, as the clear of some of the steps' tasks
        asks for.
        """
        # The failure callback has nothing to do before there is an execution.
        self.try_runner.is_executed = True
        self._listing = None
        record = self._read_cleared_execution(context)
        if record:
            clear = self._decide_after_clear(context, record)
            for name, value in clear.options.items():
                setattr(self, name, value)
            if clear.action == "select":
                self.log.info(
                    "Repeated, as their tasks were cleared: %s", ", ".join(clear.steps)
                )
                self.selected_steps = list(clear.steps)
                self.source_execution = record.arn
            self.try_runner.options = self.options
        return super().execute(context)

    def _read_cleared_execution(self, context: Context) -> ExecutionRecord | None:
        """
        Return the record of the earlier tries' execution, if some of its steps were
        cleared.

        :return: None if this is the first try, or a retry, or if there is no execution
            that can be continued.
        """
        ti = context["ti"]
        if ti.try_number == 1:
            return None
        from polysync_airflow.execution.lifecycle.decisions import (
            is_of_other_incarnation,
        )
        from polysync_airflow.records.store import incarnation_of

        record = self._read_record(context)
        if record is None:
            arguments = self._attributes(REQUEST_ARGUMENTS)
            record = self.try_runner.look_up(context, arguments)
        if record is None or record.epoch == ti.max_tries:
            return None
        if record.execution_arn is None:
            # An earlier clear has sent a start, and its response is not known. What is
            # repeated now follows from the execution that it was to replace.
            record = record.replaces
        if record is None or record.execution_arn is None:
            return None
        if is_of_other_incarnation(record, incarnation_of(context), ti.try_number):
            return None
        if record.choice_in(ti.max_tries):
            # Somebody has chosen in the tab what becomes of it.
            return None
        return record

    def _decide_after_clear(self, context: Context, record: ExecutionRecord) -> Clear:
        """
        Return what is done now that steps of an execution were cleared.

        :raises ParametersError: AWS has nothing that does what was cleared.
        """
        from polysync_airflow.execution.step_clears import Clear

        arn = record.arn
        hook = self.hook_for_region(region_from_arn(arn))
        status = None
        try:
            execution = self._call_with_retry(
                partial(hook.describe_pipeline_execution, arn)
            )
            status = execution.status
            return self._decide(context["ti"], record, execution, hook)
        except Exception as error:
            if status and has_ended(status):
                self.try_runner.is_handled = True
                reporting.push_status(context, arn, status)
                raise
            # Nobody else is responsible for the execution. If this try cannot go on
            # with it, it stops it.
            self.log.warning(
                "What was cleared is not known yet: %s: %s", type(error).__name__, error
            )
            return Clear("wait")

    def _decide(
        self,
        ti: Any,
        record: ExecutionRecord,
        execution: ExecutionDescription,
        hook: PolysyncSageMakerHook,
    ) -> Clear:
        from polysync_airflow.execution import step_clears

        arn = record.arn
        status = execution.status
        steps = self._call_with_retry(partial(hook.list_pipeline_execution_steps, arn))
        first_task = self._first_task(ti)
        stored = read_xcom(first_task, step_clears.CLEAR_KEY)
        first = step_clears.listing_of_clear(stored, arn, ti.max_tries)
        if first:
            cleared = step_clears.still_cleared(first, self._read_step_states(ti))
            clear = step_clears.after_clear(cleared, status, steps, first)
            if clear.action == "wait":
                self._listing = first
            return clear

        waiting = step_clears.waiting_steps(stored, arn, record.resumes)
        began_at = record.resumed_at or execution.created_at
        cleared = self._find_cleared(ti, status, began_at, waiting)
        clear = step_clears.after_clear(cleared, status, steps)
        if clear.action == "wait":
            self._listing = step_clears.first_listing(
                arn, ti.max_tries, steps, cleared, record.resumes
            )
            value = self._listing.model_dump(mode="json")
            write_xcom(first_task, step_clears.CLEAR_KEY, value)
        return clear

    def _find_cleared(
        self,
        ti: Any,
        status: str,
        began_at: datetime | None,
        waiting: Sequence[str],
    ) -> ClearedSteps:
        """
        Return which steps were cleared. The tasks that begin again get some time for
        their notes.
        """
        from polysync_airflow.execution import step_clears

        until = clock.time() + step_clears.NOTES_SECONDS
        while True:
            states = self._read_step_states(ti)
            noted = [step for step in states if self._has_note(ti, step, began_at)]
            cleared = step_clears.cleared_steps(states, noted, status, waiting)
            if cleared.is_certain or clock.time() >= until:
                return cleared
            clock.sleep(_SECONDS_BETWEEN_LOOKS)

    def _read_step_states(self, ti: Any) -> dict[str, str | None]:
        """Return the states of the tasks of the steps, by step."""
        states = read_states(ti, list(self.step_task_ids.values()))
        # A task that a newer version of the DAG has added was not cleared.
        return {
            step: states.get(task_id, "removed")
            for step, task_id in self.step_task_ids.items()
        }

    def _has_note(self, ti: Any, step: str, began_at: datetime | None) -> bool:
        from polysync_airflow.execution.step_clears import CLEAR_KEY, is_note_since

        task = replace(TaskKey.of(ti), task_id=self.step_task_ids[step])
        return is_note_since(read_xcom(task, CLEAR_KEY), began_at)

    def _wait_for_earlier_execution(
        self, context: Context, instruction: Instruction
    ) -> ExecutionEvent:
        """Wait for its end. Meanwhile, the tasks of the other steps follow it."""
        from polysync_airflow.execution.step_clears import CLEAR_KEY

        record = instruction.existing_record
        if self._listing:
            reporter = self._step_reporter(context, record.arn, record.resumed_at)
            reporter.push_declared(record.request.selected_steps)
            context["ti"].xcom_push(CLEAR_KEY, self._listing.model_dump(mode="json"))
            self._push_started(context, instruction)
        return super()._wait_for_earlier_execution(context, instruction)

    def _read_record(self, context: Context) -> ExecutionRecord | None:
        """
        Return the record of the earlier tries, also after a success; None if there is
        none.
        """
        from polysync_airflow.records.keys import RECORD_KEY
        from polysync_airflow.records.store import RecordStore

        store = RecordStore.on_worker(context)
        record = store.read()
        if record or store.unproven:
            return record
        stored = read_xcom(self._first_task(context["ti"]), RECORD_KEY)
        record = store.proven_record(stored)
        if record:
            # From now on, the try continues with it as with that of a try that has
            # failed.
            store.write(record)
        return record

    def _forget(self, context: Context) -> None:
        """
        Keep the record, which a clear needs, as an XCom, which goes with the DAG run.
        """
        from polysync_airflow.records.keys import RECORD_KEY
        from polysync_airflow.records.serialization import to_stored

        _, record = self.try_runner.own_record(context)
        if record:
            ti = context["ti"]
            value = to_stored(record.without_values(), TaskKey.of(ti))
            write_xcom(self._first_task(ti), RECORD_KEY, value)
        super()._forget(context)

    def _first_task(self, ti: Any) -> TaskKey:
        return replace(TaskKey.of(ti), task_id=self.first_task_id)

    def _trigger_arguments(
        self, waiter: ExecutionWaiter, **arguments: Any
    ) -> dict[str, Any]:
        return super()._trigger_arguments(
            waiter, step_task_ids=list(self.step_task_ids.values()), **arguments
        )

    def _next_step(
        self,
        context: Context,
        end: ExecutionEvent,
        retry: NextSession | None,
        *,
        by_fail_step: bool,
    ) -> str | None:
        from polysync_airflow.execution.step_clears import what_to_clear

        if retry is None and not by_fail_step:
            record, status = self.try_runner.seen_by_next_try(context, end)
            button = reporting.RESUME_BUTTON
            text = what_to_clear(record, status, self.options, button=button)
            if text:
                return text
        return super()._next_step(context, end, retry, by_fail_step=by_fail_step)


class PolysyncPipelineStepOperator(base.PolysyncOperator):
    """
    Wait for one step of the execution that another task of the same DAG run starts.

    ``PolysyncPipelineTaskGroup`` makes it. It only watches: a person who marks it as
    failed or as success changes nothing in AWS. XComs: ``execution_arn``, ``step`` (the
    entry of the XCom ``steps``, with what its job cost and used), ``console_url`` and
    ``log_url`` of its job.

    :param execution_task_id: the task that starts the execution.
    :param step_name: the name of the step.
    :param polysync_conn_id: Airflow connection (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :param poll_interval: seconds, or a timedelta, between two lists of the steps, which
        all tasks of the execution share.
    :param property_files: read the JSON files that the step declares: True for all, or
        the names of some.
    :return: what the step made, as in the XCom ``outputs`` of a Start task: metrics,
        artefacts, ...
    :raises PipelineExecutionFailedError: the step has failed, or AWS has not run it.
    :raises PipelineExecutionCancelledError: somebody has stopped the step.
    :raises SageMakerApiError: AWS refuses to list the steps.
    """

    template_fields: Sequence[str] = ("polysync_conn_id", "region_name")
    operator_extra_links = (links.PolysyncStepLink(), links.PolysyncStepLogLink())
    ui_color = "#e5f1ff"

    def __init__(
        self,
        *,
        execution_task_id: str,
        step_name: str,
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        poll_interval: float | timedelta = base.DEFAULT_POLL_INTERVAL,
        property_files: bool | Sequence[str] = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "trigger_rule": "all_success"})
        self.execution_task_id = execution_task_id
        self.step_name = step_name
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        self.property_files = property_files
        if CAPABILITIES.start_from_trigger:
            trigger_kwargs = self._trigger_kwargs
            if property_files:
                trigger_kwargs["property_files"] = property_files
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=_TASK_END_TRIGGER,
                trigger_kwargs=trigger_kwargs,
                next_method="execute_failed",
            )

    @property
    def start_from_trigger(self) -> bool:  # type: ignore[override]  # Airflow has an attribute
        """
        Whether the task starts and ends in the triggerer. Airflow asks when it
        serializes the DAG.
        """
        if not CAPABILITIES.start_from_trigger:
            return False
        if conf.getboolean("triggerer", "queues_enabled", fallback=False):
            # Airflow gives its trigger no queue (``defer_task`` in
            # airflow/models/taskinstance.py), so a triggerer with queues never runs it.
            return False
        if any(getattr(self, name, None) for name in base.ON_WORKERS_ONLY):
            return False
        has_dag: Any = self.has_dag
        return not has_dag() or len(self.dag.task_ids) <= MAX_TASKS_IN_TRIGGERER

    @property
    def _trigger_kwargs(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "execution_task_id": self.execution_task_id,
            "step_name": self.step_name,
            "polysync_conn_id": self.polysync_conn_id,
            "poll_interval": clock.as_seconds(self.poll_interval),
        }
        # These are left out if they have their defaults: Airflow copies the arguments
        # of all steps for each that starts.
        if self.region_name:
            arguments["region_name"] = self.region_name
        if self.retries:
            arguments["retries"] = self.retries
        return arguments

    @base.apply_retry_policy
    def execute(self, context: Context) -> None:
        """Wait in the triggerer."""
        from polysync_airflow.triggers import PolysyncStepTaskTrigger

        trigger = PolysyncStepTaskTrigger(**self._trigger_kwargs)
        self.defer(trigger=trigger, method_name="execute_complete")

    @base.apply_retry_policy
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """
        Push what the step made, and succeed, fail or skip as the step has.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        from polysync_airflow.execution.step_tasks import StepTaskEvent
        from polysync_airflow.triggers.step_tasks import (
            WITHOUT_TRIGGERER,
            PolysyncStepTaskTrigger,
        )

        if event != WITHOUT_TRIGGERER:
            return self.end(context, check_event(StepTaskEvent, event))
        trigger = PolysyncStepTaskTrigger(**self._trigger_kwargs)
        end = asyncio.run(trigger.poll_once(context["ti"]))
        if end is None:
            # Let the other tasks run first.
            clock.sleep(_SECONDS_BETWEEN_POLLS)
            raise AirflowRescheduleException(_AT_ONCE)  # type: ignore[no-untyped-call]
        return self.end(context, end)

    def end(
        self,
        context: Context,
        end: StepTaskEvent,
        hook: PolysyncSageMakerHook | None = None,
    ) -> dict[str, Any]:
        """
        Push what the step made, and return it, or raise the error of the task. Both a
        worker and a trigger call this.

        :param hook: a hook for the execution's region, which others use as well; None
            for a new one.
        """
        if end.outcome in ("refused", "timed_out"):
            raise outcome.refusal_error(
                end, f"Step {end.step_name} can no longer be watched: {end.text}"
            )
        if self._is_as_before(context["ti"], end):
            self.log.warning(
                "AWS has repeated nothing: step %s had ended before this try. To repeat"
                " it, clear this task with Downstream.",
                end.step_name,
            )
        if end.execution_arn:
            context["ti"].xcom_push("execution_arn", end.execution_arn)
        if end.outcome in ("skipped", "unknown"):
            self._push_row(context, end)
            if end.outcome == "unknown":
                self.log.warning("%s", end.text)
            raise AirflowSkipException(end.text)
        end, outputs, notes = self._read_step(end, hook)
        self._push_row(context, end)
        if end.outcome == "failed":
            raise self._error(end, notes)
        for note in notes:
            self.log.warning("%s", note)
        return outputs

    def _is_as_before(self, ti: Any, end: StepTaskEvent) -> bool:
        """
        Return whether an earlier try of the task has seen the same end of the step.

        Its XComs stay if this try has begun in the triggerer. The time at which the try
        began says less: AWS repeats steps without waiting for their tasks.
        """
        from polysync_airflow.execution.steps.descriptions import parse_rows

        if ti.try_number == 1 or end.row is None or end.row.ended_at is None:
            return False
        read = partial(read_xcom, ti, "step")
        before = parse_rows([call_slow_airflow(read, self.log.warning)])
        return any(row.ended_at == end.row.ended_at for row in before)

    def _read_step(
        self, end: StepTaskEvent, hook: PolysyncSageMakerHook | None
    ) -> tuple[StepTaskEvent, dict[str, Any], Sequence[str]]:
        """
        Return the end, with facts about the step's job and the last lines of the log of
        a step that failed; what the step made; and notes on what is missing.

        An error of AWS's only makes a note: the outcome of the step is known.
        """
        from polysync_airflow.execution.cost import Basis
        from polysync_airflow.execution.steps import descriptions
        from polysync_airflow.execution.texts import storable_xcom
        from polysync_airflow.hooks import PolysyncSageMakerHook
        from polysync_airflow.operators.results import LOG_LINES, ResultReader

        if end.execution_arn is None or end.row is None:
            return end, {}, ()
        arn = end.execution_arn
        if hook is None:
            hook = PolysyncSageMakerHook(self.polysync_conn_id, region_from_arn(arn))
        if end.description:
            # In the triggerer, the poll has read it.
            steps = [end.description]
        else:
            try:
                listed = hook.list_pipeline_execution_steps(arn)
            except exceptions.PolysyncError as error:
                return end, {}, (f"What the step made is not known: {error}",)
            steps = [step for step in listed if step.name == end.step_name]
        reader = ResultReader(hook, arn, self.log.warning, self.property_files, Basis())
        report = reader.read(steps)
        notes: list[str] = [*report.notes]
        if steps and state_of_step(end.row.status) is PolysyncState.FAILED:
            try:
                log_lines = hook.read_step_log(steps[0], LOG_LINES)
            except exceptions.PolysyncError as error:
                notes.append(f"The log of the step could not be read: {error}")
            else:
                last_lines = descriptions.last_lines(log_lines, 1)
                row = end.row.model_copy(update={"log_lines": last_lines})
                end = end.model_copy(update={"row": row})
        storable = storable_xcom("return_value", report.outputs, self.log.warning)
        fitting, note = descriptions.fit_outputs(storable)
        if note:
            notes.append(note)
        outputs = fitting.get(end.step_name, {})
        job_facts = report.job_facts
        if end.outcome == "failed":
            # Otherwise, the XCom return_value has them.
            job_facts["outputs"] = outputs
        return end.model_copy(update={"job_facts": job_facts}), outputs, notes

    def _push_row(self, context: Context, end: StepTaskEvent) -> None:
        from polysync_airflow.execution.steps.descriptions import step_value

        row = end.row
        if row is None:
            return
        ti = context["ti"]
        ti.xcom_push("step", step_value(row, end.job_facts))
        urls = {
            links.PolysyncStepLink.key: row.console_url,
            links.PolysyncStepLogLink.key: row.log_url,
        }
        for link in self.operator_extra_links:
            url = urls[link.key]
            if url:
                links.push_url(ti, link.key, url, link)

    def _error(
        self, end: StepTaskEvent, notes: Sequence[str]
    ) -> exceptions.PolysyncError:
        arn = end.execution_arn
        row = end.row
        status = None
        if row:
            status = row.status
        state = state_of_step(status)
        text = end.text
        if arn and row and state in (PolysyncState.FAILED, PolysyncState.CANCELLED):
            text = outcome.step_message(arn, end.pipeline_name or "", row, notes=notes)
        error: type[exceptions.PipelineExecutionError] = (
            exceptions.PipelineExecutionFailedError
        )
        if state is PolysyncState.CANCELLED:
            # Not one that forbids retries: only a worker could do that, and a retry
            # waits for the execution.
            error = exceptions.PipelineExecutionCancelledError
        return error(text, execution_arn=arn, status=status)
