"""
What a task tells of the end of its wait: the XCom ``run``, the message for the log or
the error, and the error itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from polysync_airflow import exceptions
from polysync_airflow.execution import console, models, texts
from polysync_airflow.execution.lifecycle.capacity import CapacityWait
from polysync_airflow.execution.lifecycle.plans import Plan
from polysync_airflow.execution.prices import Cost, CostAndUsage, Spending
from polysync_airflow.states import VERBS, PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from polysync_airflow.execution.search import SearchEvent
    from polysync_airflow.execution.steps.descriptions import StepRow
    from polysync_airflow.execution.waiter import EndOfWait, ExecutionEvent

# The member ``state`` of the XCom ``run`` while a request waits for capacity, and while
# a cleared task waits for the end of the execution of an earlier try.
WAITING: Final = "Waiting"
STOPPING: Final = "Stopping"
OnCancelled = Literal["fail", "skip", "retry"]
# A failure is read in Airflow's log pane: at 1400 x 900 pixels it shows 30 lines of
# about 95 characters. The frames of the traceback take eight of them.
LINE_WIDTH: Final = 95
MAX_REASON_LINES: Final = 4
MAX_WRAPPED: Final = 2 * MAX_REASON_LINES * LINE_WIDTH
MAX_REASONS: Final = 3
MAX_DETAILED_STEPS: Final = 2
# How many lines of the log of a failed step, if there is one, and for each of several.
LOG_LINES_OF_ONE: Final = 6
LOG_LINES_OF_EACH: Final = 2


class FailedStep(models.FrozenModel):
    """A failed step in the XCom ``run``."""

    name: str
    reason: str | None


StopReason = Literal["ended_task", "timeout", "failure", "cost"]
# Why a task has stopped its execution. The tab says the same
# (ui/static/sagemaker_tab.js).
_STOP_REASONS: Final[dict[StopReason, str]] = {
    "ended_task": "somebody, or the DAG run, ended the task",
    "timeout": "the time of the task was up",
    "failure": "the task failed",
    "cost": "the task had spent what it may",
}
StopProcess = Literal["worker", "triggerer", "command"]


def stop_reason(end: ExecutionEvent) -> StopReason:
    """Return why a task stops an execution that has not ended when its wait has."""
    if end.outcome == "timed_out":
        return "timeout"
    if end.outcome == "too_expensive":
        return "cost"
    return "failure"


class RequestedStop(models.FrozenModel):
    """
    The stop that a task has requested of its execution: a member of the XCom ``run``.
    The other members say how the execution has ended.

    :param requested_at: when, by the clock of the host.
    :param reason: ``ended_task`` (a user or the DAG run has ended the task),
        ``timeout``, ``failure`` (the task failed, and no retry follows), or ``cost``
        (``max_cost`` is spent).
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

    @property
    def text(self) -> str:
        """Who has requested it when, and why."""
        at = f"{self.requested_at:%Y-%m-%d %H:%M:%S} UTC"
        reason = _STOP_REASONS[self.reason]
        return f"requested by the {self.process} at {at}, because {reason}"


class RunSummary(models.FrozenModel):
    """
    The XCom ``run``: the outcome of an execution. In JSON, times are ISO 8601 in UTC.

    :param seconds: how long it took from its start.
    :param attempt_seconds: how long it took from its last resume; None without one.
    :param stops_with_task: whether the end of the task stops the execution.
    :param next: what the try knows of what comes next.
    """

    execution_arn: models.ExecutionArn
    pipeline_name: str
    state: str
    status: str | None = None
    message: str | None = None
    started_at: models.UtcTime | None = None
    ended_at: models.UtcTime | None = None
    seconds: float | None = None
    attempt_seconds: float | None = None
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
    stops_with_task: bool = False
    capacity: CapacityWait | None = None
    spending: Spending | None = None
    added_up_at: models.UtcTime | None = None
    next: Plan | None = None

    def is_of(self, execution_arn: str, attempt: int) -> bool:
        """Return whether the summary is that of an attempt of an execution."""
        return self.execution_arn == execution_arn and self.resumes == attempt

    def ended(self, end: ExecutionEvent) -> RunSummary:
        """Return the summary after the end of a wait."""
        status = end.status
        stop = self.stop
        if end.stop and stop is None:
            # There was no summary yet when the triggerer has requested it.
            stop = RequestedStop(
                requested_at=end.stop.requested_at,
                reason=stop_reason(end),
                process="triggerer",
                result="accepted",
            )
            status = end.stop.status
        if end.outcome != "ended" and self._is_stop_accepted:
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
            "attempt_seconds": end.attempt_seconds,
            "resumes": end.attempt,
            "spending": end.spending,
            "stop": stop,
        }
        return self.model_copy(update=changes)

    def stop_requested(self, stop: RequestedStop) -> RunSummary:
        """Return the summary before a stop is requested."""
        if self.stop and self.stop.result != "failed":
            # The first one of repeated requests counts.
            return self
        return self.model_copy(update={"stop": stop})

    def stop_answered(
        self, status: str | None, error: str | None, now: datetime
    ) -> RunSummary:
        """
        Return the summary after AWS has answered the request.

        :param status: the status of the execution, if it is known.
        :param error: why the stop failed; None if it did not.
        """
        if error and self._is_stop_accepted:
            # AWS has accepted an earlier request.
            return self
        if error:
            return self._with_stop(result="failed", error=error)
        if has_ended(self.status):
            return self
        accepted = self._with_stop(result="accepted", seen_at=now)
        changes = {"state": state_of(status).value, "status": status}
        return accepted.model_copy(update=changes)

    def stop_followed(self, end: ExecutionEvent, now: datetime) -> RunSummary:
        """
        Return the summary after somebody has waited for the end of a stopped execution,
        which may not have come.
        """
        if end.outcome == "ended":
            # Why the task has stopped it, and what was spent, is as true as before. It
            # is added up anew.
            kept = {
                "message": end.message or self.message,
                "spending": self.spending,
            }
            if not self.is_added_up:
                kept["added_up_at"] = None
            ended = self.ended(end)._with_stop(seen_at=now)
            return ended.model_copy(update=kept)
        if has_ended(self.status):
            return self
        if end.outcome == "refused" or end.error_code:
            return self._with_stop(error=end.message)
        status = end.status or self.status
        return self._with_stop(seen_at=now).model_copy(update={"status": status})

    def with_cost(
        self, added_up: CostAndUsage | None, notes: Sequence[str] = ()
    ) -> RunSummary:
        """
        Return the summary with what the execution has used and cost; unchanged if
        another process has added up after the end.

        :param added_up: what it has used and cost; None if that is not known.
        :param notes: what is missing and why, as sentences.
        """
        if self.is_added_up:
            return self
        changes: dict[str, Any] = dict(added_up or ())
        if notes:
            changes["steps_note"] = "\n".join(notes)
        return self.model_copy(update=changes)

    @property
    def cost_and_usage(self) -> CostAndUsage:
        """What the execution has used and cost."""
        members = CostAndUsage.model_fields
        return CostAndUsage(**{name: getattr(self, name) for name in members})

    @property
    def cost_text(self) -> tuple[str, str] | None:
        """
        A label, and what the task has spent or else the execution cost; None if that is
        not known.
        """
        if self.spending:
            return "Spent", self.spending.text
        if self.cost:
            return "Estimated cost", self.cost.text
        return None

    @property
    def is_added_up(self) -> bool:
        """Whether somebody has seen the end, and added up what it has cost."""
        return has_ended(self.status) and self.added_up_at is not None

    @property
    def _is_stop_accepted(self) -> bool:
        return self.stop is not None and self.stop.result == "accepted"

    def _with_stop(self, **changes: Any) -> RunSummary:
        if self.stop is None:
            return self
        stop = RequestedStop.model_validate({**dict(self.stop), **changes})
        return self.model_copy(update={"stop": stop})

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
        status = f"AWS status {self.status}"
        if stop.seen_at:
            status = f"{status}, last seen at {stop.seen_at:%H:%M:%S} UTC"
        return f"{asked}. How the execution ends is not known ({status})."


def described(
    description: models.ExecutionDescription,
    *,
    pipeline_name: str | None = None,
    parameters: Mapping[str, str] | None = None,
) -> RunSummary:
    """
    Return the summary of an execution that the task has not started.

    :param pipeline_name: the name of its pipeline; None for that in its ARN.
    :param parameters: its parameters; None if they are not known.
    """
    name_in_arn = models.pipeline_name_of(description.execution_arn)
    ended_at: datetime | None = None
    if has_ended(description.status):
        ended_at = description.modified_at
    return RunSummary(
        execution_arn=description.execution_arn,
        pipeline_name=pipeline_name or name_in_arn,
        state=state_of(description.status).value,
        status=description.status,
        message=description.failure_reason,
        started_at=description.created_at,
        ended_at=ended_at,
        parameters=parameters or {},
    )


def parse_run_summary(value: Any, warn: Callable[[str], object]) -> RunSummary | None:
    """
    Return the XCom ``run``; None if there is none, if it has no execution yet, or if
    somebody has changed it to something else.

    :param warn: called with a message in the last case.
    """
    if value is None:
        return None
    if isinstance(value, Mapping) and _has_no_execution(value):
        return None
    try:
        return RunSummary.model_validate(value)
    except ValidationError as error:
        problems = texts.describe_validation_error(error)
        warn(
            "XCom 'run' is ignored, because it is not the record of an execution:"
            f" {problems}"
        )
        return None


def _has_no_execution(run: Mapping[str, Any]) -> bool:
    """Return whether a task has pushed ``run`` without an execution of its own."""
    if run.get("state") in (WAITING, STOPPING):
        return True
    return run.get("execution_arn") is None and "next" in run


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
    lines = [verdict_line(end)]
    if end.message:
        lines.extend(_lines_about(end, end.message))
    lines.extend(
        detail_lines(end.execution_arn, end.pipeline_name, failed_steps, notes)
    )
    return "\n".join(lines)


def verdict_line(end: ExecutionEvent) -> str:
    """Return how a wait has ended, as a sentence."""
    subject = "The execution"
    if end.pipeline_name:
        subject = f"Pipeline {end.pipeline_name}"
    return f"{subject} {_verdict(end)}."


def reason_lines(reason: str) -> list[str]:
    """Return AWS's reason of an execution as lines."""
    return _wrapped(f"Reason: {reason}")


def _lines_about(end: ExecutionEvent, message: str) -> list[str]:
    """
    Return why a wait has ended as lines. What to do about an error has lines of its
    own, which AWS's text leaves room for.
    """
    if end.outcome == "ended":
        # AWS's reason, which may have any text.
        return reason_lines(message)
    reason, *cures = message.rsplit(exceptions.BEFORE_CURE, 1)
    lines = reason_lines(reason)
    for cure in cures:
        lines += _wrapped(f"What to do: {cure}", texts.CONTINUATION)
    return lines


def detail_lines(
    execution_arn: str,
    pipeline_name: str | None,
    failed_steps: Sequence[StepRow],
    notes: Sequence[str | None] = (),
) -> Iterator[str]:
    """Yield the lines of ``outcome_message`` after its verdict and its reason."""
    yield from _failed_steps_lines(failed_steps)
    yield from _last_lines(notes, execution_arn, pipeline_name)


def _verdict(end: ExecutionEvent) -> str:
    """Return how a wait has ended, as the predicate of a sentence."""
    last_status = f"last AWS status: {end.status or 'none received'}"
    match end.outcome:
        case "timed_out":
            return f"did not end before the timeout ({last_status})"
        case "refused":
            return f"can no longer be polled ({last_status})"
        case "too_expensive":
            return f"costs too much ({last_status})"
        case "ended":
            verb = VERBS.get(state_of(end.status), "ended")
            return f"{verb}{_duration(end)} (AWS status {end.status})"


def _duration(end: ExecutionEvent) -> str:
    if end.attempt_seconds is not None:
        seconds = texts.format_seconds(end.attempt_seconds)
        return f" {seconds} after resume {end.attempt}"
    if end.seconds is None or end.attempt:
        return ""
    return f" after {texts.format_seconds(end.seconds)}"


def step_message(
    execution_arn: str,
    pipeline_name: str,
    step: StepRow,
    *,
    notes: Sequence[str | None] = (),
) -> str:
    """
    Return a message of a few lines that says how the step has ended for which a task
    has waited.

    :param notes: lines that are appended; None and empty ones are left out.
    """
    verb = VERBS.get(state_of(step.status), "ended")
    subject = f"Step {step.name} of pipeline {pipeline_name}"
    lines = [f"{subject} {verb} (AWS status {step.status})."]
    if step.reason:
        lines.extend(_wrapped(f"Reason: {step.reason}"))
    if state_of(step.status) is PolysyncState.FAILED:
        lines.extend(_step_details(step, LOG_LINES_OF_ONE))
    lines.extend(_last_lines(notes, execution_arn, pipeline_name))
    return "\n".join(lines)


def _last_lines(
    notes: Sequence[str | None], execution_arn: str, pipeline_name: str | None
) -> Iterator[str]:
    yield from filter(None, notes)
    yield f"Execution: {execution_arn}"
    if pipeline_name:
        url = console.execution_url(execution_arn, pipeline_name)
        if url:
            yield f"Console: {url}"


def _failed_steps_lines(steps: Sequence[StepRow]) -> Iterator[str]:
    log_lines = LOG_LINES_OF_ONE
    if len(steps) > 1:
        log_lines = LOG_LINES_OF_EACH
    for number, step in enumerate(steps[:MAX_REASONS]):
        verb = "failed"
        if step.attempt and step.attempt > 1:
            verb = f"failed (attempt {step.attempt})"
        reason = step.reason or "AWS returned no reason"
        yield from _wrapped(f"Step {step.name} {verb}: {reason}")
        if number < MAX_DETAILED_STEPS:
            yield from _step_details(step, log_lines)
    if len(steps) > MAX_REASONS:
        names = ", ".join(step.name for step in steps[MAX_REASONS:])
        yield from _wrapped(f"{len(steps) - MAX_REASONS} more failed steps: {names}")


def _step_details(step: StepRow, max_log_lines: int) -> Iterator[str]:
    if step.job_name:
        yield f"  Job: {step.job_name}"
    if step.log_url:
        yield f"  Log: {step.log_url}"
    if step.console_url:
        yield f"  Job in the console: {step.console_url}"
    if step.log_lines:
        yield "  Last lines of the log:"
        for line in step.log_lines[-max_log_lines:]:
            yield f"{texts.CONTINUATION}{line}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        texts.clean_line(text, MAX_WRAPPED),
        LINE_WIDTH,
        initial_indent=indent,
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
    # What has failed until the deadline may succeed later.
    permanent = end.outcome == "refused"
    if end.error_code == models.CONNECTION_NOT_FOUND:
        # Somebody may add the connection again.
        permanent = False
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
    if end.outcome == "too_expensive":
        error = exceptions.PipelineExecutionTooExpensiveError(
            message,
            execution_arn=end.execution_arn,
            status=end.status,
            permanent=True,
        )
        error.spending = end.spending
        return error
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
    if end.outcome == "no_match":
        return exceptions.PipelineExecutionNotFoundError(
            message, execution_arn=None, status=None, permanent=True
        )
    return exceptions.PipelineExecutionTimeoutError(
        message, execution_arn=None, status=None, permanent=True
    )
