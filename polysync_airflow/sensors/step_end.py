"""The end of a wait for one step of an execution."""

from __future__ import annotations

from polysync_airflow.execution.models import ExecutionEvent
from polysync_airflow.execution.steps.awaited import StepEndedEvent, has_step_ended
from polysync_airflow.execution.steps.rows import StepRow
from polysync_airflow.operators.outcome.steps import StepReport
from polysync_airflow.states import state_of_step


def ended_row(report: StepReport, step_name: str) -> StepRow | None:
    """
    Return the row of the awaited step; None if the step has not ended.

    :param report: AWS's list of the steps at the end of the wait.
    """
    for row in report.rows:
        if row.name == step_name and has_step_ended(row.status):
            return row
    return None


def row_of(end: StepEndedEvent, report: StepReport) -> StepRow:
    """Return the row of the awaited step, which has ended."""
    # The list may be refused now, or show that the execution was resumed meanwhile.
    return ended_row(report, end.step_name) or StepRow(
        name=end.step_name, status=end.status, state=state_of_step(end.status).value
    )


def end_of_step(execution_arn: str, pipeline_name: str, row: StepRow) -> ExecutionEvent:
    """Return the end of a step in the form of that of an execution: the same rules apply to it."""
    return ExecutionEvent(
        outcome="ended",
        execution_arn=execution_arn,
        pipeline_name=pipeline_name,
        status=row.status,
        message=None,
        started_at=None,
        ended_at=None,
    )
