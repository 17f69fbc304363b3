"""Reports the end of a wait: the XCom ``run``, the message for the log or the error, and the error itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from polysync_airflow.exceptions import CredentialsError, PolysyncError, SageMakerApiError, TriggerEventError
from polysync_airflow.execution.models import ExecutionEvent, ExecutionRecord, FailedStep
from polysync_airflow.execution.texts import describe_validation_error
from polysync_airflow.states import PolysyncState, state_of


def parse_event(event: Mapping[str, Any] | None) -> ExecutionEvent:
    """
    Validate the payload of the event with which Airflow resumes a deferred task.

    :param event: the payload; None if Airflow resumed the task without an event.
    :raises TriggerEventError: the payload is not an event of this provider's trigger.
    """
    try:
        return ExecutionEvent.model_validate(event)
    except ValidationError as error:
        raise TriggerEventError(
            "Airflow resumed the task with an event that is not this provider's event "
            f"({describe_validation_error(error)}). If another version of the provider was installed "
            "meanwhile, clear the task. The execution may still be running."
        ) from None


def build_record(
    end: ExecutionEvent,
    *,
    pipeline_name: str,
    parameters: Mapping[str, str],
    failed_steps: Sequence[FailedStep],
) -> ExecutionRecord:
    """
    Make the XCom ``run`` of an execution.

    :param end: the event that ended the wait.
    :param pipeline_name: name of the pipeline.
    :param parameters: the parameter values of the start request.
    :param failed_steps: the failed steps.
    """
    return ExecutionRecord(
        execution_arn=end.execution_arn,
        pipeline_name=pipeline_name,
        state=state_of(end.status).value,
        status=end.status,
        message=end.message,
        started_at=end.started_at,
        ended_at=end.ended_at,
        seconds=_seconds(end),
        parameters=parameters,
        resumes=end.attempt,
        failed_steps=list(failed_steps),
    )


def outcome_message(
    end: ExecutionEvent, *, failed_steps: Sequence[FailedStep] = (), notes: Sequence[str | None] = ()
) -> str:
    """
    Return a message of a few lines that says how the wait ended and why.

    :param end: the event that ended the wait.
    :param failed_steps: the failed steps. AWS's own reason often says only that some steps failed.
    :param notes: lines that are appended; None and empty ones are left out.
    """
    pipeline = f"Pipeline {end.pipeline_name}, execution" if end.pipeline_name else "Execution"
    seconds = _seconds(end)
    after = f" after {seconds:.0f} s" if seconds is not None else ""
    last_status = f"last AWS status: {end.status or 'none received'}"
    outcome = {
        "ended": f"{_VERBS.get(state_of(end.status), 'ended')}{after} (AWS status {end.status})",
        "timed_out": f"did not end before the timeout ({last_status})",
        "refused": f"can no longer be polled ({last_status})",
    }[end.outcome]
    lines = [f"{pipeline} {end.execution_arn} {outcome}."]
    if end.message:
        lines.append(f"Reason: {end.message}")
    if failed_steps:
        lines.append("Failed steps:")
        lines.extend(f"- {step.name}: {step.reason or 'AWS returned no reason'}" for step in failed_steps)
    lines.extend(note for note in notes if note)
    return "\n".join(lines)


def refusal_error(end: ExecutionEvent, message: str) -> PolysyncError:
    """
    Return the error for a wait that ended with a permanent error of AWS or of the connection.

    :param end: the event that ended the wait; its ``outcome`` is ``refused``.
    :param message: the message of the error.
    """
    if end.error_code and end.operation:
        return SageMakerApiError(message, error_code=end.error_code, operation=end.operation, permanent=True)
    return CredentialsError(message)


_VERBS = {
    PolysyncState.SUCCESS: "succeeded",
    PolysyncState.FAILED: "failed",
    PolysyncState.CANCELLED: "was stopped",
}


def _seconds(end: ExecutionEvent) -> float | None:
    if end.started_at is None or end.ended_at is None:
        return None
    return (end.ended_at - end.started_at).total_seconds()
