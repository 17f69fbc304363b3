"""
Reports the end of a wait: the message for the log or the error, and the error itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from polysync_airflow import exceptions
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.console import execution_url
from polysync_airflow.execution.prices import Cost
from polysync_airflow.states import PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    # Imported by nothing that a DAG file imports: Airflow parses a DAG file every 30
    # seconds.
    from polysync_airflow.execution.search import SearchEvent
    from polysync_airflow.execution.steps.descriptions import StepRow
    from polysync_airflow.execution.waiter import EndOfWait, ExecutionEvent

OnCancelled = Literal["fail", "skip", "retry"]
# A failure is read in Airflow's log pane: at 1400 x 900 pixels it shows 30 lines of
# about 95 characters. The frames of the traceback take eight of them.
LINE_WIDTH: Final = 95
MAX_REASON_LINES: Final = 4
MAX_WRAPPED: Final = 2 * MAX_REASON_LINES * LINE_WIDTH
MAX_REASONS: Final = 3
MAX_DETAILED_STEPS: Final = 2
# For one failed step, and for each of several.
LOG_LINES: Final = (6, 2)


class FailedStep(models.FrozenModel):
    """A failed step in the XCom ``run``."""

    name: str
    reason: str | None


StopReason = Literal["ended_task", "timeout", "failure"]
StopProcess = Literal["worker", "triggerer", "command"]


class RequestedStop(models.FrozenModel):
    """
    The stop that a task has requested of its execution, in the XCom ``run``, which says
    how that has ended.

    :param requested_at: when, by the clock of the host.
    :param reason: ``ended_task`` (a user or the DAG run has ended the task),
        ``timeout``, or ``failure`` (the task failed, and no retry follows).
    :param process: which process has requested it, and has the log of it.
    :param result: ``requested`` (what AWS has answered is not known), ``accepted`` or
        ``failed``.
    :param seen_at: when the status of the execution was seen last; None if it was not
        since the request.
    :param error: why the stop failed, or why nobody can see how it ends.
    """

    requested_at: models.UtcTime
    reason: StopReason
    process: StopProcess
    result: Literal["requested", "accepted", "failed"] = "requested"
    seen_at: models.UtcTime | None = None
    error: texts.ReasonText | None = None


class RunSummary(models.FrozenModel):
    """
    The XCom ``run``: the outcome of an execution. In JSON, times are ISO 8601 in UTC.
    """

    execution_arn: models.ExecutionArn
    pipeline_name: str
    state: str
    status: str | None = None
    message: str | None = None
    started_at: models.UtcTime | None = None
    ended_at: models.UtcTime | None = None
    seconds: float | None = None
    parameters: Mapping[str, str]
    resumes: Annotated[int, Field(ge=0)] = 0
    failed_steps: Sequence[FailedStep] = ()
    billable_seconds: float | None = None
    billable_seconds_by_instance_type: Mapping[str, float] = {}
    cost: Cost | None = None
    steps_note: str | None = None
    attempt_started_at: models.UtcTime | None = None
    selected_steps: Sequence[str] = ()
    source_execution: models.ExecutionArn | None = None
    mlflow_experiment_name: texts.NameText | None = None
    mlflow_resource_arn: texts.ArnText | None = None
    stop: RequestedStop | None = None

    def ended(self, end: ExecutionEvent) -> RunSummary:
        """Return what is known after the end of a wait."""
        status = end.status
        if end.outcome != "ended" and self.stop and self.stop.result == "accepted":
            # The answer to the stop is newer than the last poll.
            status = self.status
        changes = {
            "pipeline_name": self.pipeline_name or end.pipeline_name or "",
            "state": state_of(status).value,
            "status": status,
            "message": end.message,
            "started_at": end.started_at or self.started_at,
            "attempt_started_at": end.attempt_started_at,
            "ended_at": end.ended_at,
            "seconds": end.seconds,
            "resumes": end.attempt,
        }
        return self.model_copy(update=changes)

    def stop_requested(self, stop: RequestedStop) -> RunSummary:
        """
        Return what is known before a stop is requested; of repeated requests, the first
        one counts.
        """
        return (
            self
            if self.stop and self.stop.result != "failed"
            else self.model_copy(update={"stop": stop})
        )

    def stop_answered(
        self, status: str | None, error: str | None, now: datetime
    ) -> RunSummary:
        """
        Return what is known when AWS has answered the request.

        :param status: the status of the execution, if it is known.
        :param error: why the stop failed; None if it did not. If AWS has accepted it
            before, that counts.
        """
        if error:
            is_accepted = self.stop is not None and self.stop.result == "accepted"
            return (
                self if is_accepted else self._with_stop(result="failed", error=error)
            )
        if has_ended(self.status):
            return self
        changes = {"state": state_of(status).value, "status": status}
        return self._with_stop(result="accepted", seen_at=now).model_copy(
            update=changes
        )

    def stop_followed(self, end: ExecutionEvent, now: datetime) -> RunSummary:
        """
        Return what is known when somebody has waited for the end of a stop, which may
        not have come.
        """
        if end.outcome == "ended":
            return self.ended(end)._with_stop(seen_at=now)
        if has_ended(self.status):
            return self
        if end.outcome == "refused" or end.error_code:
            return self._with_stop(error=end.message)
        return self._with_stop(seen_at=now).model_copy(
            update={"status": end.status or self.status}
        )

    def _with_stop(self, **changes: Any) -> RunSummary:
        if self.stop is None:
            return self
        return self.model_copy(
            update={
                "stop": RequestedStop.model_validate({**dict(self.stop), **changes})
            }
        )

    @property
    def stop_text(self) -> str:
        """How the stop has ended, as a sentence; empty if none was requested."""
        stop = self.stop
        if stop is None:
            return ""
        asked = f"The stop was requested at {stop.requested_at:%Y-%m-%d %H:%M:%S} UTC"
        if has_ended(self.status):
            return f"{asked}, and the execution has ended (AWS status {self.status})."
        if stop.error:
            return f"{asked}. How the execution ends is not known: {stop.error}"
        seen = f", last seen at {stop.seen_at:%H:%M:%S} UTC" if stop.seen_at else ""
        return (
            f"{asked}. How the execution ends is not known (AWS status"
            f" {self.status}{seen})."
        )


def described(
    description: models.ExecutionDescription,
    *,
    pipeline_name: str | None = None,
    parameters: Mapping[str, str] | None = None,
) -> RunSummary:
    """
    Return ``run`` of an execution that the task has not started.

    :param pipeline_name: the name of its pipeline; None for that in its ARN.
    :param parameters: its parameters; None if they are not known.
    """
    return RunSummary(
        execution_arn=description.execution_arn,
        pipeline_name=pipeline_name
        or models.pipeline_name_of(description.execution_arn),
        state=state_of(description.status).value,
        status=description.status,
        message=description.failure_reason,
        started_at=description.created_at,
        ended_at=description.modified_at if has_ended(description.status) else None,
        parameters=parameters or {},
    )


def parse_run_summary(value: Any, warn: Callable[[str], object]) -> RunSummary | None:
    """
    Return the XCom ``run``; None if there is none, or if somebody has changed it to
    something else.

    :param warn: called with a message in that case.
    """
    try:
        return None if value is None else RunSummary.model_validate(value)
    except ValidationError as error:
        problems = texts.describe_validation_error(error)
        warn(
            "XCom 'run' is ignored, because it is not the record of an execution:"
            f" {problems}"
        )
        return None


def outcome_message(
    end: ExecutionEvent,
    *,
    failed_steps: Sequence[StepRow] = (),
    notes: Sequence[str | None] = (),
) -> str:
    """
    Return a message of a few lines that says how the wait ended and why.

    The verdict comes first. ARN and URLs have lines of their own. All of it is visible
    in Airflow's log pane without scrolling, so only the first failed steps have
    details, and only the last lines of their logs.

    :param failed_steps: the failed steps. AWS's own reason often says only that some
        steps failed.
    :param notes: lines that are appended; None and empty ones are left out.
    """
    after = "" if end.seconds is None else f" after {texts.format_seconds(end.seconds)}"
    if after and end.attempt:
        after = f" {texts.format_seconds(end.seconds or 0)} after resume {end.attempt}"
    last_status = f"last AWS status: {end.status or 'none received'}"
    outcome = {
        "ended": (
            f"{_VERBS.get(state_of(end.status), 'ended')}{after} (AWS status"
            f" {end.status})"
        ),
        "timed_out": f"did not end before the timeout ({last_status})",
        "refused": f"can no longer be polled ({last_status})",
    }[end.outcome]
    subject = f"Pipeline {end.pipeline_name}" if end.pipeline_name else "The execution"
    lines = [f"{subject} {outcome}."]
    if end.message:
        lines.extend(_wrapped(f"Reason: {end.message}"))
    lines.extend(_failed_steps_lines(failed_steps))
    return "\n".join((*lines, *_ending(notes, end.execution_arn, end.pipeline_name)))


def step_message(
    execution_arn: str,
    pipeline_name: str,
    step: StepRow,
    *,
    notes: Sequence[str | None] = (),
) -> str:
    """
    Return a message of a few lines that says how a step has ended for which a task
    waits.

    :param notes: lines that are appended; None and empty ones are left out.
    """
    verb = _VERBS.get(state_of(step.status), "ended")
    lines = [
        f"Step {step.name} of pipeline {pipeline_name} {verb} (AWS status"
        f" {step.status})."
    ]
    if step.reason:
        lines.extend(_wrapped(f"Reason: {step.reason}"))
    if state_of(step.status) is PolysyncState.FAILED:
        lines.extend(_step_details(step, LOG_LINES[0]))
    return "\n".join((*lines, *_ending(notes, execution_arn, pipeline_name)))


def step_lines(row: StepRow) -> Iterator[str]:
    """
    Yield a line about a step, whatever its state, and then its reason, its job and its
    log.
    """
    after = "" if row.seconds is None else f" after {texts.format_seconds(row.seconds)}"
    yield (
        f"Step {row.name}:"
        f" {row.state}{f' (AWS status {row.status})' if row.status else ''}{after}"
    )
    yield from _wrapped(f"  Reason: {row.reason}" if row.reason else "")
    yield from _step_details(row, 0)


def _ending(
    notes: Sequence[str | None], execution_arn: str, pipeline_name: str | None
) -> Iterator[str]:
    yield from (note for note in notes if note)
    yield f"Execution: {execution_arn}"
    url = execution_url(execution_arn, pipeline_name) if pipeline_name else None
    if url:
        yield f"Console: {url}"


def _failed_steps_lines(steps: Sequence[StepRow]) -> Iterator[str]:
    log_lines = LOG_LINES[len(steps) > 1]
    for number, step in enumerate(steps[:MAX_REASONS]):
        attempt = f" (attempt {step.attempt})" if (step.attempt or 0) > 1 else ""
        yield from _wrapped(
            f"Step {step.name} failed{attempt}:"
            f" {step.reason or 'AWS returned no reason'}"
        )
        if number < MAX_DETAILED_STEPS:
            yield from _step_details(step, log_lines)
    if len(steps) > MAX_REASONS:
        names = ", ".join(step.name for step in steps[MAX_REASONS:])
        yield from _wrapped(f"{len(steps) - MAX_REASONS} more failed steps: {names}")


def _step_details(step: StepRow, log_lines: int) -> Iterator[str]:
    details = {
        "Job": step.job_name,
        "Log": step.log_url,
        "Job in the console": step.console_url,
    }
    yield from (f"  {label}: {value}" for label, value in details.items() if value)
    if step.log_lines:
        yield "  Last lines of the log:"
        yield from (
            f"{texts.CONTINUATION}{line}" for line in step.log_lines[-log_lines:]
        )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        texts.clean_line(text, MAX_WRAPPED),
        LINE_WIDTH,
        subsequent_indent=texts.CONTINUATION,
        max_lines=MAX_REASON_LINES,
        placeholder=" ...",
        break_long_words=False,
        break_on_hyphens=False,
    )


def refusal_error(end: EndOfWait, message: str) -> exceptions.PolysyncError:
    """
    Return the error for a wait whose last poll failed.

    :param end: the event that ended the wait: AWS or the connection refused the poll
        for good, or the poll at the deadline.
    """
    # Somebody may add a deleted connection again, and what has failed until the
    # deadline may pass.
    permanent = (
        end.outcome == "refused" and end.error_code != models.CONNECTION_NOT_FOUND
    )
    if end.error_code and end.operation:
        return exceptions.SageMakerApiError(
            message,
            error_code=end.error_code,
            operation=end.operation,
            permanent=permanent,
        )
    return exceptions.CredentialsError(message, permanent=permanent)


def unended_error(end: ExecutionEvent, message: str) -> exceptions.PolysyncError:
    """Return the error for a wait that has ended before its execution."""
    if end.outcome == "refused":
        return refusal_error(end, message)
    return exceptions.PipelineExecutionTimeoutError(
        message, execution_arn=end.execution_arn, status=end.status
    )


def search_error(end: SearchEvent) -> exceptions.PolysyncError:
    """Return the error for a search that ended without an execution."""
    message = end.message or "No execution was found."
    if end.outcome == "refused" or end.error_code:
        return refusal_error(end, message)
    if end.outcome == "too_many":
        return exceptions.ParametersError(message)
    error: type[exceptions.PipelineExecutionError] = (
        exceptions.PipelineExecutionTimeoutError
    )
    if end.outcome == "no_match":
        error = exceptions.PipelineExecutionNotFoundError
    return error(message, execution_arn=None, status=None, permanent=True)


_VERBS = {
    PolysyncState.SUCCESS: "succeeded",
    PolysyncState.FAILED: "failed",
    PolysyncState.CANCELLED: "was stopped",
}
