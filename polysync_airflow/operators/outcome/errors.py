"""The end of a Start task: a log line if it succeeds, otherwise the error that fails or skips it."""

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


def raise_for(
    end: ExecutionEvent, message: str, choices: OutcomeChoices, log: Any, *, is_own_stop: bool
) -> None:
    """
    Log the message if the task succeeds; otherwise raise the error that fails or skips the task.

    :param is_own_stop: whether this try stopped the execution because its process was killed.
    """
    details: dict[str, Any] = {"execution_arn": end.execution_arn, "status": end.status}
    if end.outcome == "refused":
        raise refusal_error(end, message)
    if end.outcome == "timed_out":
        raise PipelineExecutionTimeoutError(message, **details)
    state = state_of(end.status)
    if state is PolysyncState.SUCCESS:
        log.info("%s", message)
    elif state is PolysyncState.CANCELLED and is_own_stop:
        # That is no decision of a user to cancel the execution, so the task's retries apply.
        raise PipelineExecutionCancelledError(message, **details)
    elif state is PolysyncState.CANCELLED and choices.on_cancelled == "skip":
        raise AirflowSkipException(message)
    elif state is PolysyncState.CANCELLED:
        retry = choices.on_cancelled == "retry"
        error = PipelineExecutionCancelledError if retry else PipelineExecutionCancelledFailError
        raise error(message, **details)
    elif end.status == STATUS_COMPLETED_WITH_FAILURES and choices.on_completed_with_failures == "succeed":
        log.warning("%s", message)
    else:
        raise PipelineExecutionFailedError(message, **details)


def raise_unless_ended(end: ExecutionEvent) -> None:
    """Raise an error if the execution of an earlier try may still be running."""
    if end.outcome == "ended":
        return
    note = "This is the execution of an earlier try. No new execution was started beside it."
    message = outcome_message(end, notes=(note,))
    if end.outcome == "refused":
        raise refusal_error(end, message)
    raise PipelineExecutionTimeoutError(message, execution_arn=end.execution_arn, status=end.status)
