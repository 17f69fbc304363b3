"""The end of a sensor's wait, for an execution or for one step of it. The report is that of the operators."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NoReturn

from polysync_airflow.exceptions import PipelineExecutionFailedError, PipelineExecutionTimeoutError
from polysync_airflow.execution.models import ExecutionEvent, pipeline_name_from_arn
from polysync_airflow.execution.outcome import outcome_message, refusal_error, step_message
from polysync_airflow.operators.reporting import ReportingOperator, failed_rows
from polysync_airflow.sensors.base import PolysyncSensor
from polysync_airflow.states import PolysyncState, state_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    # Imported when a task runs: Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.execution.steps.awaited import StepEndedEvent
    from polysync_airflow.execution.steps.rows import StepRow
    from polysync_airflow.operators.outcome.steps import StepReport


class ReportingSensor(PolysyncSensor, ReportingOperator):
    """Base of a sensor that waits for an execution, or for one step of it."""

    # Airflow replaces an XComArg by the rendered text before it calls execute.
    pipeline_name: str | None
    step_name: str | None

    def _pipeline_of(self, arn: str) -> str:
        """Return the name of an execution's pipeline, which older ARNs have in lower case."""
        in_arn, given = pipeline_name_from_arn(arn), (self.pipeline_name or "").rsplit("/", 1)[-1]
        return given if given.lower() == in_arn.lower() else in_arn

    def _end(self, context: Context, end: ExecutionEvent | StepEndedEvent) -> str:
        """Push the outcome, and return the ARN of the execution, or raise the error of the task."""
        if isinstance(end, ExecutionEvent):
            return self._end_of_execution(context, end)
        from polysync_airflow.sensors.step_end import row_of

        report = self._report_steps(context, end.execution_arn)
        return self._end_of_step(context, end.execution_arn, report, row_of(end, report))

    def _end_of_execution(self, context: Context, end: ExecutionEvent) -> str:
        if not self.step_name:
            return self._finish(context, end, note=_note(end))
        from polysync_airflow.sensors.step_end import ended_row

        report = self._report_end(context, end)
        row = ended_row(report, self.step_name)
        if row is None and report.error:
            # Nobody knows how the step has ended.
            raise report.error
        if row is None:
            self._raise_without_step(context, end, report, self.step_name)
        return self._end_of_step(context, end.execution_arn, report, row)

    def _end_of_step(self, context: Context, arn: str, report: StepReport, row: StepRow) -> str:
        """Succeed, fail or skip as the awaited step has ended."""
        from polysync_airflow.sensors.step_end import end_of_step

        name = self._pipeline_of(arn)
        message = partial(step_message, arn, name, row)
        self._raise_outcome(context, end_of_step(arn, name, row), message, report.notes)
        self._publish(context, arn, name, report)
        return arn

    def _raise_without_step(
        self, context: Context, end: ExecutionEvent, report: StepReport, step_name: str
    ) -> NoReturn:
        """Raise the error for a wait that ended before the step."""
        note = f"Step {step_name}, for which this task waits, has not ended."
        message = partial(outcome_message, end, failed_steps=failed_rows(end, report))
        notes = (*report.notes, note, _note(end))
        self._raise_outcome(context, end, message, notes)
        raise PipelineExecutionFailedError(
            message(notes=notes), execution_arn=end.execution_arn, status=end.status, permanent=True
        )

    def _make_error(self, end: ExecutionEvent, message: str, *, is_own_stop: bool) -> Exception | None:
        if end.outcome == "timed_out" and end.error_code:
            return refusal_error(end, message)
        if end.outcome == "timed_out":
            # As Airflow's sensors, which do not retry after their timeout.
            return PipelineExecutionTimeoutError(
                message, execution_arn=end.execution_arn, status=end.status, permanent=True
            )
        return super()._make_error(end, message, is_own_stop=is_own_stop)

    def _next_step(self, status: str | None, retry: str | None, *, by_fail_step: bool) -> str | None:
        if retry:
            again = "looks for an execution again" if self.pipeline_name else "waits for the same execution"
            return f"Next: Airflow retries the task {retry}. The retry {again}."
        if state_of(status) is PolysyncState.FAILED:
            return (
                "Next: mend the cause, and start or resume the execution where it was started.\n"
                "  Then clear this task."
            )
        return None


def _note(end: ExecutionEvent) -> str | None:
    return None if end.outcome == "ended" else "This task has not stopped it: it may still be running."
