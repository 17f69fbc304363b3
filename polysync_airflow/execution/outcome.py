"""Owns how the end of an execution is told: the ``run`` record, the message a person reads, the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from polysync_airflow.exceptions import CredentialsError, PolysyncError, SageMakerApiError, TriggerEventError
from polysync_airflow.execution.models import ExecutionEvent, ExecutionRecord, FailedStep
from polysync_airflow.states import PolysyncState, state_of


def parse_event(event: Mapping[str, Any] | None) -> ExecutionEvent:
    """
    Check what came back from the wait.

    :param event: the event's payload; None if Airflow resumed the task without one.
    :raises TriggerEventError: if it is not an event of ours.
    """
    try:
        return ExecutionEvent.model_validate(event)
    except ValidationError as error:
        raise TriggerEventError(
            f"The task was resumed with something that is not this provider's event: {error}. If the "
            "provider was up- or downgraded meanwhile, clear the task; the execution itself may still be "
            "running."
        ) from None


def build_record(
    end: ExecutionEvent,
    *,
    pipeline_name: str,
    parameters: Mapping[str, str],
    failed_steps: Sequence[FailedStep],
) -> ExecutionRecord:
    """
    Make the ``run`` record of an execution.

    :param end: how the wait ended.
    :param pipeline_name: the pipeline.
    :param parameters: the values that were sent.
    :param failed_steps: the steps that failed.
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
    end: ExecutionEvent, *, failed_steps: Sequence[FailedStep] = (), remarks: Sequence[str | None] = ()
) -> str:
    """
    Tell in a few lines how the wait ended.

    :param end: how the wait ended.
    :param failed_steps: the steps that failed; AWS's own reason is often only that there are some.
    :param remarks: further lines, the empty ones left out.
    """
    pipeline = f"Pipeline {end.pipeline_name}, execution" if end.pipeline_name else "Execution"
    seconds = _seconds(end)
    after = f" after {seconds:.0f} s" if seconds is not None else ""
    what = {
        "ended": f"{_ENDED_AS.get(state_of(end.status), 'ended')}{after} (AWS status {end.status})",
        "timed_out": f"had not ended when the time was up (last AWS status: {end.status or 'never seen'})",
        "refused": f"can no longer be watched (last AWS status: {end.status or 'never seen'})",
    }[end.outcome]
    lines = [f"{pipeline} {end.execution_arn} {what}."]
    if end.message:
        lines.append(f"Reason: {end.message}")
    if failed_steps:
        lines.append("Failed steps:")
        lines.extend(f"- {step.name}: {step.reason or 'AWS gives no reason'}" for step in failed_steps)
    lines.extend(remark for remark in remarks if remark)
    return "\n".join(lines)


def refusal_error(end: ExecutionEvent, story: str) -> PolysyncError:
    """
    Make the error for a wait that AWS, or the connection, put an end to.

    :param end: how the wait ended; ``outcome`` is ``refused``.
    :param story: its message.
    """
    if end.error_code and end.operation:
        return SageMakerApiError(story, error_code=end.error_code, operation=end.operation, permanent=True)
    return CredentialsError(story)


_ENDED_AS = {
    PolysyncState.SUCCESS: "succeeded",
    PolysyncState.FAILED: "failed",
    PolysyncState.CANCELLED: "was stopped",
}


def _seconds(end: ExecutionEvent) -> float | None:
    if end.started_at is None or end.ended_at is None:
        return None
    return (end.ended_at - end.started_at).total_seconds()
