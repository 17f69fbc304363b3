"""
The decision core of a wait for the approval of a model package: what to do after each poll of it.

Rules, of which the first that applies counts:

1. A package whose *status* is Failed or Deleting will not be approved: the wait ends.
2. Rejected ends the wait.
3. Approved ends it once the package's status is Completed: AWS may still validate an approved package.
4. In every other case, and with every status that this version does not know, the wait goes on.
5. After a permanent error the wait ends. After any other error (throttling, network, expired credentials) it
   goes on with backoff.
6. The deadline ends the wait, but only after one last poll.

Everything here is pure. A sensor that pokes, one that is rescheduled, and the trigger of one that is deferred
only do what ``ApprovalWait.decide`` returns.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-approve.html
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final, get_args

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.approval.models import (
    MAX_DESCRIPTION_LENGTH,
    ApprovalEvent,
    ApprovalOutcome,
    ApprovalStatus,
    ModelPackageDescription,
)
from polysync_airflow.execution.durations import format_seconds
from polysync_airflow.execution.texts import clean_line, clean_text
from polysync_airflow.execution.waiter import (
    FIRST_POLL_DELAY_SECONDS,
    NO_FAILURES,
    Failures,
    LogLine,
    backoff,
    error_fields,
)

COMPLETED: Final = "Completed"
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ModelPackageSummary.html
_WILL_NOT_COMPLETE: Final = ("Failed", "Deleting")
_STATUSES: Final = ("Pending", "InProgress", COMPLETED, *_WILL_NOT_COMPLETE)


@dataclass(frozen=True, slots=True)
class Wait:
    """Instruction: write the log lines, sleep, poll again, and pass the response to ``wait.decide``."""

    seconds: float
    wait: ApprovalWait
    log_lines: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """Instruction: write the log lines; the wait is over."""

    event: ApprovalEvent
    log_lines: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class ApprovalWait:
    """
    The state of a wait for the approval of a model package.

    :param poll_interval: seconds between two polls.
    :param since: when the wait began, in seconds since the epoch.
    :param deadline: when it ends at the latest, in seconds since the epoch.
    :param rate_limited: the polls are shared with other waits, and a rate limiter, which throttling slows
        down, applies to them.
    :param last: what AWS said last; None if no poll has succeeded.
    :param failures: the polls that have failed since the last successful one.
    """

    model_package_arn: str
    poll_interval: float
    since: float
    deadline: float
    rate_limited: bool = False
    last: ModelPackageDescription | None = None
    failures: Failures = NO_FAILURES

    def first_wait(self, now: float) -> Wait:
        """Return the instruction before the first poll of a deferred task."""
        seconds = self._wait(self.poll_interval, now).seconds
        return Wait(max(FIRST_POLL_DELAY_SECONDS, seconds), self)

    def decide(self, response: ModelPackageDescription | PolysyncError, now: float) -> Wait | Finish:
        """
        Return the instruction after a poll.

        :param response: the response of DescribeModelPackage, or the error.
        """
        if isinstance(response, PolysyncError):
            return self._after_error(response, now)
        lines = self._log_lines(response)
        updated = replace(self, last=response, failures=NO_FAILURES)
        outcome = _outcome_of(response)
        if outcome:
            return Finish(updated._event(outcome, response.failure_reason), lines)
        if now >= self.deadline:
            return Finish(updated._event("timed_out", updated._limit), lines)
        return updated._wait(self.poll_interval, now, lines)

    def _after_error(self, error: PolysyncError, now: float) -> Wait | Finish:
        failures, lines = self.failures.add(error, now, shared=self.rate_limited)
        updated = replace(self, failures=failures)
        if error.permanent:
            return Finish(updated._event("refused", str(error), error))
        if now >= self.deadline:
            message = f"{self._limit}; the last poll failed: {error}"
            return Finish(updated._event("timed_out", message, error))
        seconds = backoff(error, self.poll_interval, self.failures.count, rate_limited=self.rate_limited)
        return updated._wait(seconds, now, lines)

    def _log_lines(self, description: ModelPackageDescription) -> tuple[LogLine, ...]:
        lines = []
        if self.failures.logged:
            lines.append(LogLine(logging.INFO, f"Polls succeed again: {self.model_package_arn}"))
        state, before = _state_of(description), self.last and _state_of(self.last)
        if state != before:
            known = description.status in _STATUSES and description.approval_status in get_args(
                ApprovalStatus
            )
            note = "" if known else " (unknown to this version; the wait goes on, until its timeout)"
            change = f"{before} -> {state}" if before else state
            level = logging.INFO if known else logging.WARNING
            lines.append(LogLine(level, f"{change}{note}: model package {self.model_package_arn}"))
        return tuple(lines)

    def _wait(self, seconds: float, now: float, log_lines: tuple[LogLine, ...] = ()) -> Wait:
        return Wait(max(0.0, min(seconds, self.deadline - now)), self, log_lines)

    @property
    def _limit(self) -> str:
        limit = format_seconds(self.deadline - self.since)
        return f"the limit of {limit} (timeout or execution_timeout) was reached"

    def _event(
        self, outcome: ApprovalOutcome, message: str | None, error: PolysyncError | None = None
    ) -> ApprovalEvent:
        return ApprovalEvent(
            outcome=outcome,
            model_package_arn=self.model_package_arn,
            approval_status=self.last and self.last.approval_status,
            status=self.last and self.last.status,
            approval_description=self.last and self.last.approval_description,
            modified_by=self.last and self.last.modified_by,
            message=message,
            **error_fields(error),
        )


def _outcome_of(description: ModelPackageDescription) -> ApprovalOutcome | None:
    """Return how the wait ends; None if it goes on."""
    if description.status in _WILL_NOT_COMPLETE:
        return "failed"
    if description.approval_status == "Rejected":
        return "rejected"
    is_usable = description.status == COMPLETED
    return "approved" if is_usable and description.approval_status == "Approved" else None


def _state_of(description: ModelPackageDescription) -> str:
    approval = description.approval_status or "no approval status"
    return approval if description.status == COMPLETED else f"{approval}, package {description.status}"


def approval_message(event: ApprovalEvent) -> str:
    """Return how a wait has ended, in one line, for the log or an error."""
    package = f"Model package {event.model_package_arn}"
    by = f" (last changed by {clean_line(event.modified_by)})" if event.modified_by else ""
    given = clean_line(event.approval_description or "", MAX_DESCRIPTION_LENGTH)
    reason = f": {given}" if given else ""
    if event.outcome in ("approved", "rejected"):
        return f"{package} is {event.outcome}{by}{reason}"
    message = clean_text(event.message or "", 2048)
    if event.outcome == "failed":
        why = f": {message}" if message else ""
        return (
            f"{package} cannot be used: its status is {event.status}{why}. -- What to do: register a new "
            "version of the model."
        )
    if event.outcome == "timed_out":
        state = event.approval_status or "unknown"
        return f"{package} was not approved in time: {message}. Its last known approval status is {state}."
    return f"The wait for the approval of {event.model_package_arn} has ended: {message}"
