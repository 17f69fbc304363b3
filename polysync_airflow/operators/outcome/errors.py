"""The end of a Start task: the error that fails or skips it, if it does not succeed."""

from __future__ import annotations

from typing import Any

from polysync_airflow.airflow_compat.sdk import AirflowSkipException
from polysync_airflow.exceptions import (
    PipelineExecutionCancelledError,
    PipelineExecutionCancelledFailError,
    PipelineExecutionFailedError,
    PipelineExecutionTimeoutError,
)
from polysync_airflow.execution.choices import Choices
from polysync_airflow.execution.lifecycle.recovery import OnCompletedWithFailures
from polysync_airflow.execution.models import ExecutionEvent
from polysync_airflow.execution.outcome import OnCancelled, outcome_message, refusal_error
from polysync_airflow.states import STATUS_COMPLETED_WITH_FAILURES, PolysyncState, state_of


class OutcomeChoices(Choices):
    """What the DAG author chose about outcomes; see the arguments of the operator."""

    on_completed_with_failures: OnCompletedWithFailures
    on_cancelled: OnCancelled


def error_of(
    end: ExecutionEvent, message: str, choices: OutcomeChoices, *, is_own_stop: bool
) -> Exception | None:
    """
    Return the error that fails or skips the task; None if the task succeeds.

    :param is_own_stop: whether this try stopped the execution because its process was killed.
    """
    details: dict[str, Any] = {"execution_arn": end.execution_arn, "status": end.status}
    if end.outcome == "refused":
        return refusal_error(end, message)
    if end.outcome == "timed_out":
        return PipelineExecutionTimeoutError(message, **details)
    state = state_of(end.status)
    if state is PolysyncState.CANCELLED:
        # A stop of our own is no decision of a user to cancel the execution, so the task's retries apply.
        on_cancelled = "retry" if is_own_stop else choices.on_cancelled
        if on_cancelled == "skip":
            return AirflowSkipException(message)
        retry = on_cancelled == "retry"
        error = PipelineExecutionCancelledError if retry else PipelineExecutionCancelledFailError
        return error(message, **details)
    has_some_failures = end.status == STATUS_COMPLETED_WITH_FAILURES
    if state is PolysyncState.SUCCESS or (
        has_some_failures and choices.on_completed_with_failures == "succeed"
    ):
        return None
    return PipelineExecutionFailedError(message, **details)


def raise_unless_ended(end: ExecutionEvent) -> None:
    """Raise an error if the execution of an earlier try may still be running."""
    if end.outcome == "ended":
        return
    note = "This is the execution of an earlier try. No new execution was started beside it."
    message = outcome_message(end, notes=(note,))
    if end.outcome == "refused":
        raise refusal_error(end, message)
    raise PipelineExecutionTimeoutError(message, execution_arn=end.execution_arn, status=end.status)
