"""
The run of the task of a step, on a worker or in a triggerer.

``execution/step_tasks.py`` decides how it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import Context

from polysync_airflow import exceptions, links
from polysync_airflow.airflow_compat.sdk import (
    AirflowRescheduleException,
    AirflowSkipException,
)
from polysync_airflow.airflow_compat.supervisor import call_slow_airflow
from polysync_airflow.airflow_compat.task_instances import read_xcom
from polysync_airflow.execution import clock, cost, models, outcome, texts, waiter
from polysync_airflow.execution.step_tasks import StepTaskEvent
from polysync_airflow.execution.steps import descriptions
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators.results import LOG_LINES, ResultReader
from polysync_airflow.states import PolysyncState, state_of_step
from polysync_airflow.triggers import PolysyncStepTaskTrigger, step_tasks

if TYPE_CHECKING:
    from polysync_airflow.operators.step_tasks import PolysyncPipelineStepOperator

# Between two polls of ``dag.test()``, which has no triggerer.
_SECONDS_BETWEEN_POLLS: Final = 1.0
_AT_ONCE: Final = datetime(2000, 1, 1, tzinfo=UTC)


class StepTaskRun:
    """
    One session of the task of a step.

    :param task: the operator, whose templates are rendered.
    """

    def __init__(self, task: PolysyncPipelineStepOperator, context: Context) -> None:
        self.task = task
        self.ti: Any = context["ti"]
        self.log = task.log

    def execute(self) -> None:
        """Wait in the triggerer."""
        trigger = PolysyncStepTaskTrigger(**self.task.trigger_arguments)
        self.task.defer(trigger=trigger, method_name="execute_complete")

    def complete(self, event: object) -> dict[str, Any]:
        """Push what the step made, and return it, or raise the error of the task."""
        if event != step_tasks.WITHOUT_TRIGGERER:
            return self.end(waiter.check_event(StepTaskEvent, event))
        trigger = PolysyncStepTaskTrigger(**self.task.trigger_arguments)
        end = asyncio.run(trigger.poll_once(self.ti))
        if end is None:
            # Let the other tasks run first.
            clock.sleep(_SECONDS_BETWEEN_POLLS)
            raise AirflowRescheduleException(_AT_ONCE)  # type: ignore[no-untyped-call]
        return self.end(end)

    def end(
        self, end: StepTaskEvent, hook: PolysyncSageMakerHook | None = None
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
        if self._is_as_before(end):
            self.log.warning(
                "AWS has repeated nothing: step %s had ended before this try. To repeat"
                " it, clear this task with Downstream.",
                end.step_name,
            )
        if end.execution_arn:
            self.ti.xcom_push("execution_arn", end.execution_arn)
        if end.outcome in ("skipped", "unknown"):
            self._push_row(end)
            if end.outcome == "unknown":
                self.log.warning("%s", end.text)
            raise AirflowSkipException(end.text)
        end, outputs, notes = self._read_step(end, hook)
        self._push_row(end)
        if end.outcome == "failed":
            raise self._error(end, notes)
        for note in notes:
            self.log.warning("%s", note)
        return outputs

    def _is_as_before(self, end: StepTaskEvent) -> bool:
        """
        Return whether an earlier try of the task has seen the same end of the step.

        Its XComs stay if this try has begun in the triggerer. The time at which the try
        began says less: AWS repeats steps without waiting for their tasks.
        """
        if self.ti.try_number == 1 or end.row is None or end.row.ended_at is None:
            return False
        read = partial(read_xcom, self.ti, "step")
        before = descriptions.parse_rows([call_slow_airflow(read, self.log.warning)])
        return any(row.ended_at == end.row.ended_at for row in before)

    def _read_step(
        self, end: StepTaskEvent, hook: PolysyncSageMakerHook | None
    ) -> tuple[StepTaskEvent, dict[str, Any], Sequence[str]]:
        """
        Return the end, with facts about the step's job and the last lines of the log of
        a step that failed; what the step made; and notes on what is missing.

        An error of AWS's only makes a note: the outcome of the step is known.
        """
        if end.execution_arn is None or end.row is None:
            return end, {}, ()
        arn = end.execution_arn
        if hook is None:
            hook = PolysyncSageMakerHook(
                self.task.polysync_conn_id, models.region_from_arn(arn)
            )
        if end.description:
            # In the triggerer, the poll has read it.
            steps = [end.description]
        else:
            try:
                listed = hook.list_pipeline_execution_steps(arn)
            except exceptions.PolysyncError as error:
                return end, {}, (f"What the step made is not known: {error}",)
            steps = [step for step in listed if step.name == end.step_name]
        files = self.task.property_files
        reader = ResultReader(hook, arn, self.log.warning, files, cost.Basis())
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
        storable = texts.storable_xcom("return_value", report.outputs, self.log.warning)
        fitting, note = descriptions.fit_outputs(storable)
        if note:
            notes.append(note)
        outputs = fitting.get(end.step_name, {})
        job_facts = report.job_facts
        if end.outcome == "failed":
            # Otherwise, the XCom return_value has them.
            job_facts["outputs"] = outputs
        return end.model_copy(update={"job_facts": job_facts}), outputs, notes

    def _push_row(self, end: StepTaskEvent) -> None:
        row = end.row
        if row is None:
            return
        self.ti.xcom_push("step", descriptions.step_value(row, end.job_facts))
        urls = {
            links.PolysyncStepLink.key: row.console_url,
            links.PolysyncStepLogLink.key: row.log_url,
        }
        for link in self.task.operator_extra_links:
            url = urls[link.key]
            if url:
                links.push_url(self.ti, link.key, url, link)

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
