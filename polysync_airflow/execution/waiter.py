"""
What a wait does after each poll of what its task waits for.

Rules, for executions, searches, model packages, and whatever comes next:

1. The class of the wait says which responses end it. In any other state the wait goes
   on, also in one that this version does not know, of which the log warns once.
2. The wait ends after a permanent error, and when the connection is deleted: a retry
   may find it again. After any other error (throttling, network, expired credentials)
   the wait goes on with backoff.
3. A throttled poll is repeated soon if a rate limiter, which all waits share, has
   slowed down the calls.
4. An error is logged once. A wait that shares its polls with others logs an error only
   if polls fail for a minute: a shorter outage would be a line in thousands of logs.
5. The deadline ends the wait in any state, but only after one last poll: what has ended
   in time counts as ended. A last poll that takes too long ends it too.

Of an execution: AWS's *status* maps to a Polysync *state* by ``STATE_OF_STATUS`` alone.
It has ended when its state is Success, Failed or Cancelled.

Everything here is pure: the time is an argument, and log lines are values. The wait on
a worker (``operators/task_run.py``, ``sensors/``) and the triggers (``triggers/``) do
only what ``Waiter.decide`` returns.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from polysync_airflow.exceptions import (
    RESOURCE_NOT_FOUND,
    CredentialsError,
    PolysyncError,
    TriggerEventError,
    has_code,
    is_throttling,
)
from polysync_airflow.execution import models, prices
from polysync_airflow.execution.texts import (
    ArnText,
    NameText,
    describe_validation_error,
    format_seconds,
)
from polysync_airflow.states import STATE_OF_STATUS, PolysyncState, has_ended, state_of

# The scheduler may fail a task that is resumed while the scheduler still records the
# deferral ("finished with state success, but ... queued"). No wait polls earlier than
# this.
FIRST_POLL_DELAY_SECONDS: float = 5.0
# How long a wait goes on after its deadline if the last poll takes that long.
LAST_POLL_SECONDS: Final = 5.0
MAX_BACKOFF_SECONDS: Final = 300.0
# The first backoff after a throttled poll, if a rate limiter has slowed down the calls.
THROTTLING_BACKOFF_SECONDS: Final = 1.0
# More of them would only make large numbers.
MAX_DOUBLINGS: Final = 16
# How long the polls of a wait that shares them fail before the log of its task says so.
QUIET_SECONDS: Final = 60.0
# For how long AWS may not know an execution whose ARN it has returned, or show its end
# before a resume.
LAG_SECONDS: Final = 60.0
# With the times at which ``LiveConnection`` reads, this takes four reads, and waits end
# at most 81 s after the deletion, so within 100 s even if Airflow responds slowly.
DELETED_AFTER_SECONDS: Final = 20.0


class LogLine(NamedTuple):
    """One line for the task's log, with its ``logging`` level."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Failures:
    """
    The polls that have failed since the last successful one.

    :param count: how many polls have failed.
    :param since: when the first of these polls failed, as Unix time.
    :param last: the error of the last poll.
    :param logged: the error that the log of the task has; None before the first one.
    :param last_since: since when each poll has failed with the last error, as Unix
        time.
    """

    count: int = 0
    since: float = 0.0
    last: str = ""
    logged: str | None = None
    last_since: float = 0.0

    def with_one_more(self, error: PolysyncError, now: float) -> Failures:
        """Return the failures after another poll has failed."""
        text = str(error)
        if self.count == 0:
            return Failures(count=1, since=now, last=text, last_since=now)
        last_since = self.last_since
        if text != self.last:
            last_since = now
        return Failures(self.count + 1, self.since, text, self.logged, last_since)


NO_FAILURES: Final = Failures()


Polled = models.ExecutionDescription | PolysyncError
Response = TypeVar("Response")
Event = TypeVar("Event", bound=BaseModel)
AnyModel = TypeVar("AnyModel", bound=BaseModel)
AnyWaiter = TypeVar("AnyWaiter", bound="Waiter[Any, Any]")


@dataclass(frozen=True, slots=True)
class Wait(Generic[AnyWaiter]):
    """
    Instruction: write the log lines, sleep, poll again, and pass the response to
    ``waiter.decide``.
    """

    seconds: float
    waiter: AnyWaiter
    log_lines: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish(Generic[Event]):
    """Instruction: write the log lines; the wait is over."""

    event: Event
    log_lines: tuple[LogLine, ...] = ()


def error_fields(error: PolysyncError | None) -> dict[str, Any]:
    """
    Return the fields of an event about the last poll. The code of an error that is not
    AWS's is its class.

    :param error: the error of the poll; None if the poll succeeded.
    """
    if error is None:
        return {}
    code = getattr(error, "error_code", None) or type(error).__name__
    return {"error_code": code, "operation": getattr(error, "operation", None)}


# A triggerer holds thousands of waiters for hours. They keep the values that they need
# rather than AWS's whole response: each object that stays makes Python's full garbage
# collections longer.
@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter(ABC, Generic[Response, Event]):
    """
    The state of a wait. A subclass says what a response means.

    :param poll_interval: seconds between two polls.
    :param since: when the wait began, as Unix time.
    :param deadline: when it ends at the latest, as Unix time.
    :param rate_limited: whether the polls are shared with other waits, so that a rate
        limiter, which throttling slows down, applies to them.
    :param failures: the polls that have failed since the last successful one.
    """

    poll_interval: float
    since: float
    deadline: float
    rate_limited: bool = False
    failures: Failures = NO_FAILURES

    @property
    @abstractmethod
    def name(self) -> str:
        """What is polled, for the log of the triggerer."""

    @property
    def label(self) -> str:
        """What is polled, for the log of the task."""
        return self.name

    @property
    def group(self) -> str:
        """The key of the waits that one poll may serve together."""
        return self.name

    @property
    def first_delay(self) -> float:
        """How many seconds after its begin a wait is polled at the earliest."""
        return FIRST_POLL_DELAY_SECONDS

    @property
    def last_poll_at(self) -> float:
        """When the last poll is due, as Unix time."""
        return self.deadline

    def is_news(self, response: Response) -> bool:
        """Return whether a response changes the state of the wait."""
        return True

    @abstractmethod
    def updated(self, response: Response) -> Self:
        """Return the state after a response."""

    @abstractmethod
    def lines_about(self, response: Response, now: float) -> tuple[LogLine, ...]:
        """Return what the log of the task says of a response."""

    @abstractmethod
    def end_of(self, response: Response, now: float) -> Event | None:
        """
        Return the event if a response ends the wait; None if it goes on.

        :param response: the response with which this state was updated.
        """

    @abstractmethod
    def event(
        self, outcome: Any, message: str | None, error: PolysyncError | None = None
    ) -> Event:
        """
        Return the event of a wait that has ended.

        :param error: the error of the last poll, if the poll failed.
        """

    def first_wait(self, now: float) -> Wait[Self]:
        """Return the instruction before the first poll."""
        seconds = min(self.poll_interval, self.deadline - now)
        # The deadline may have passed for a try that reattaches to an execution. Its
        # first poll is not earlier either.
        return Wait(max(FIRST_POLL_DELAY_SECONDS, seconds), self)

    def decide(
        self, response: Response | PolysyncError, now: float
    ) -> Wait[Self] | Finish[Event]:
        """
        Return the instruction after a poll.

        :param response: AWS's response, or the error.
        """
        if isinstance(response, PolysyncError):
            failures = self.failures.with_one_more(response, now)
            failed = replace(self, failures=failures)
            return failed._after_error(response, now)
        is_last_poll = now >= self.deadline
        has_failed = self.failures.count > 0
        if not is_last_poll and not has_failed and not self.is_news(response):
            # By far the most frequent case: the state of the wait stays the same.
            return self._wait(self.poll_interval, now)

        lines = self.lines_about(response, now)
        if self.failures.logged:
            line = LogLine(logging.INFO, f"Polls succeed again: {self.label}")
            lines = (line, *lines)
        succeeded = replace(self.updated(response), failures=NO_FAILURES)
        return succeeded._after_response(response, now, lines)

    def time_out(self, note: str | None = None) -> Finish[Event]:
        """
        End the wait without a last poll.

        :param note: why, for the message; None if Airflow's ``execution_timeout`` has
            ended it.
        """
        return Finish(self.event("timed_out", self.timeout_text(note)))

    def timeout_text(self, note: str | None = None) -> str:
        """Return the reason of an end at the deadline."""
        text = (
            f"the limit of {format_seconds(self.deadline - self.since)} (timeout= or"
            " execution_timeout=) was reached"
        )
        if note:
            return f"{text}; {note}"
        return text

    def _after_response(
        self, response: Response, now: float, lines: tuple[LogLine, ...]
    ) -> Wait[Self] | Finish[Event]:
        """Return the instruction after the response with which this was updated."""
        event = self.end_of(response, now)
        if event:
            return Finish(event, lines)
        if now >= self.deadline:
            return Finish(self.event("timed_out", self.timeout_text()), lines)
        return self._wait(self.poll_interval, now, lines)

    def _after_error(
        self, error: PolysyncError, now: float
    ) -> Wait[Self] | Finish[Event]:
        """Return the instruction after the error, which ``failures`` has."""
        if self.is_refused(error, now):
            return Finish(self.event("refused", str(error), error))
        if now >= self.deadline:
            text = self.timeout_text(f"the last poll failed: {error}")
            return Finish(self.event("timed_out", text, error))
        seconds = self._backoff(error)
        line = self._line_about_failures(now)
        if line is None:
            return self._wait(seconds, now)
        logged = replace(self.failures, logged=self.failures.last)
        return replace(self, failures=logged)._wait(seconds, now, (line,))

    def _backoff(self, error: PolysyncError) -> float:
        """Return the seconds until the next poll, after the last one has failed."""
        first = self.poll_interval
        if self.rate_limited and is_throttling(error):
            first = THROTTLING_BACKOFF_SECONDS
        factor: int = 2 ** min(self.failures.count - 1, MAX_DOUBLINGS)
        return max(first, min(first * factor, MAX_BACKOFF_SECONDS))

    def _line_about_failures(self, now: float) -> LogLine | None:
        """Return what the log of the task says of the last error (rule 4)."""
        failures = self.failures
        if failures.last == failures.logged:
            return None
        if not self.rate_limited:
            text = f"Poll failed, retrying: {failures.last}"
            return LogLine(logging.WARNING, text)
        seconds = now - failures.since
        if seconds < QUIET_SECONDS:
            return None
        text = f"Poll failed, retrying for {format_seconds(seconds)}: {failures.last}"
        return LogLine(logging.WARNING, text)

    def is_refused(self, error: PolysyncError, now: float) -> bool:
        """
        Return whether an error ends the wait, because no later poll can succeed.

        :param error: the error of the last poll, which ``failures`` has.
        """
        return error.permanent

    def _wait(
        self, seconds: float, now: float, log_lines: tuple[LogLine, ...] = ()
    ) -> Wait[Self]:
        return Wait(max(0.0, min(seconds, self.last_poll_at - now)), self, log_lines)


class EndOfWait(models.StrictModel):
    """
    The event of any wait.

    :param outcome: how it has ended.
    :param error_code: error code of the last poll, if it failed.
    :param operation: the operation of AWS that failed.
    """

    outcome: str
    error_code: NameText | None = None
    operation: NameText | None = None


KnownSteps = Annotated[
    tuple[tuple[str, Annotated[int, Field(ge=1, le=models.MAX_STEP_ROWS)]], ...],
    Field(max_length=models.MAX_STEP_ROWS),
]


class ExecutionEvent(EndOfWait):
    """
    How a wait ended. Both modes, deferred and on a worker, pass it to
    ``execute_complete``.

    :param outcome: ``ended`` (the execution has ended), ``timed_out`` (the deadline of
        the wait was reached), ``refused`` (the polls fail with a permanent error, or
        the connection was deleted), or ``too_expensive`` (``max_cost`` is spent).
    :param execution_arn: ARN of the execution.
    :param pipeline_name: name of its pipeline; None where only the ARN is known.
    :param status: AWS's last known status of the execution; None if no poll has
        succeeded.
    :param message: AWS's FailureReason, or why the wait ended before the execution.
    :param error_code: error code of the last poll, if it failed with a
        ``SageMakerApiError``; ``CONNECTION_NOT_FOUND`` if the connection was deleted.
    :param started_at: AWS's CreationTime of the execution.
    :param ended_at: AWS's LastModifiedTime, if the execution has ended.
    :param attempt: the attempt of the execution: 0 for its start, n for its n-th
        resume.
    :param attempt_started_at: when the attempt began, if it is a resume; None for the
        start.
    :param known_steps: the statuses that the trigger has logged, in the order of the
        definition, each with the number of steps in a row that have it, and an empty
        text for those that have none; None if the task must read the XCom ``steps``.
    :param stop: the stop that the trigger has requested because the execution has not
        ended; None if it has requested none, or if its stop failed.
    :param spending: what was spent, if that is too much; None otherwise.
    """

    outcome: Literal["ended", models.UnendedOutcome]
    execution_arn: models.ExecutionArn
    pipeline_name: ArnText | None = None
    status: NameText | None = None
    message: str | None = None
    started_at: models.UtcTime | None = None
    ended_at: models.UtcTime | None = None
    attempt: Annotated[int, Field(ge=0, le=models.MAX_INTEGER)] = 0
    attempt_started_at: models.UtcTime | None = None
    known_steps: KnownSteps | None = None
    stop: models.StopBeforeEvent | None = None
    spending: prices.Spending | None = None

    @model_validator(mode="after")
    def _ended_has_a_status(self) -> ExecutionEvent:
        if self.outcome == "ended" and not self.status:
            raise ValueError("status is required if the outcome is 'ended'")
        return self

    @property
    def has_ended_by_itself(self) -> bool:
        """Whether the execution has ended, and nobody has stopped it."""
        state = state_of(self.status)
        return self.outcome == "ended" and state is not PolysyncState.CANCELLED

    @property
    def seconds(self) -> float | None:
        """
        How long the execution took from its start; None if AWS has not said when it
        began or ended.
        """
        return self._seconds_since(self.started_at)

    @property
    def attempt_seconds(self) -> float | None:
        """How long it took from its last resume; None without one."""
        # AWS keeps the creation time of a resumed execution, and a user may resume it
        # days after it failed.
        return self._seconds_since(self.attempt_started_at)

    def _seconds_since(self, began_at: datetime | None) -> float | None:
        if began_at is None or self.ended_at is None:
            return None
        # The time of a resume is that of this host's clock.
        return max(0.0, (self.ended_at - began_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionWaiter(Waiter[models.ExecutionDescription, ExecutionEvent]):
    """
    The state of a wait for one execution.

    :param pipeline_name: its pipeline, for log lines; None where only the ARN is known.
    :param since: when the attempt of the execution began, as Unix time.
    :param attempt: the attempt of the execution: 0 for its start, n for its n-th
        resume.
    :param cost_limit: what the task may spend, a ``CostLimit`` as JSON; None for no
        limit. It has no default: no wait begins without a word about it.
    :param last_status: AWS's last known status.
    :param started_at: AWS's creation time of the execution.
    :param warned_statuses: the unknown statuses that were logged.
    """

    execution_arn: str
    cost_limit: str | None
    pipeline_name: str | None = None
    attempt: int = 0
    last_status: str | None = None
    started_at: datetime | None = None
    warned_statuses: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The ARN of the execution."""
        return self.execution_arn

    @property
    def label(self) -> str:
        """The ARN of the execution, and its pipeline if that is known."""
        if not self.pipeline_name:
            return f"Execution {self.execution_arn}"
        return f"Pipeline {self.pipeline_name}, execution {self.execution_arn}"

    @property
    def group(self) -> str:
        """
        The ARN of the pipeline, which AWS accepts in place of the name: one list polls
        all of its executions.
        """
        # The ARN of an execution has the account, also if AWS manages the pipeline.
        pipeline_arn, _, _ = self.execution_arn.rpartition("/execution/")
        return models.name_or_arn(pipeline_arn, self.pipeline_name or "")

    def is_news(self, response: models.ExecutionDescription) -> bool:
        """Return whether the status has changed, or may end the wait."""
        return response.status != self.last_status or has_ended(response.status)

    def updated(self, response: models.ExecutionDescription) -> ExecutionWaiter:
        """Return the state after a response."""
        warned_statuses = self.warned_statuses
        if response.status not in STATE_OF_STATUS:
            warned_statuses = warned_statuses | {response.status}
        return replace(
            self,
            last_status=response.status,
            started_at=response.created_at or self.started_at,
            warned_statuses=warned_statuses,
        )

    def is_refused(self, error: PolysyncError, now: float) -> bool:
        """
        Return whether an error ends the wait. AWS may not know the execution yet.
        """
        if has_code(error, RESOURCE_NOT_FOUND):
            return now - self.failures.last_since >= LAG_SECONDS
        return error.permanent

    def lines_about(
        self, response: models.ExecutionDescription, now: float
    ) -> tuple[LogLine, ...]:
        """
        Return a line for a change of the status, and a warning of a new one that is not
        known.
        """
        lines = []
        status = response.status
        if status != self.last_status:
            # The status comes first: the UI cuts long lines off at the right, and an
            # ARN is long. So only the first line has it: a thousand waits that end
            # together are bytes that Airflow reads in small parts.
            text = f"{status}: {self.label}"
            if self.last_status:
                # No duration: the host's clock and AWS's may differ.
                text = f"{self.last_status} -> {status}"
            lines.append(LogLine(logging.INFO, text))
        is_unknown = state_of(status) is PolysyncState.UNKNOWN
        if is_unknown and status not in self.warned_statuses:
            text = (
                f"Status {status!r} is unknown to this version; the wait goes on, until"
                f" the timeout at the latest: {self.label}"
            )
            lines.append(LogLine(logging.WARNING, text))
        return tuple(lines)

    def end_of(
        self, response: models.ExecutionDescription, now: float
    ) -> ExecutionEvent | None:
        """Return the event if the execution has ended, after its last resume."""
        if not has_ended(response.status):
            return None
        ended_at = response.modified_at
        is_new = self.attempt > 0 and now - self.since < LAG_SECONDS
        if is_new and ended_at and ended_at.timestamp() < self.since:
            # AWS does not document that it shows the resume at once.
            return None
        event = self.event("ended", response.failure_reason)
        return event.model_copy(update={"ended_at": ended_at})

    def event(
        self, outcome: Any, message: str | None, error: PolysyncError | None = None
    ) -> ExecutionEvent:
        """Return the event of a wait that has ended."""
        resumed_at: datetime | None = None
        if self.attempt:
            resumed_at = datetime.fromtimestamp(self.since, UTC)
        return ExecutionEvent(
            outcome=outcome,
            execution_arn=self.execution_arn,
            pipeline_name=self.pipeline_name,
            status=self.last_status,
            message=message,
            started_at=self.started_at,
            attempt=self.attempt,
            attempt_started_at=resumed_at,
            **error_fields(error),
        )


def after_estimate(
    waiter: ExecutionWaiter, spending: prices.Spending | None
) -> Finish[ExecutionEvent] | None:
    """
    Return the end of a wait whose task has spent too much; None if the wait goes on.

    :param spending: what the task has spent; None if that was not estimated.
    """
    if spending is None or not spending.is_over:
        return None
    event = waiter.event("too_expensive", spending.text)
    return Finish(event.model_copy(update={"spending": spending}))


def check_event(model: type[AnyModel], event: object) -> AnyModel:
    """
    Validate the payload of the event with which Airflow resumes a deferred task.

    :raises TriggerEventError: it is not an event of this provider's trigger.
    """
    try:
        return model.model_validate(event)
    except ValidationError as error:
        raise TriggerEventError(
            "Airflow resumed the task with an event that is not this provider's event"
            f" ({describe_validation_error(error)}). If another version of the provider"
            " was installed meanwhile, clear the task. An execution that it has"
            " started may still be running."
        ) from None


# ---- the connection


class Deletion:
    """
    Whether a connection was deleted while tasks wait with it.

    A single "not found" proves nothing: Airflow says the same if its database does not
    respond. So it counts only if no read has found the connection for
    ``DELETED_AFTER_SECONDS``.

    :param hint: a sentence about other reasons why the connection may be missing.
    """

    def __init__(self, connection_id: str, hint: str) -> None:
        self._id = connection_id
        self._hint = hint
        # When a read first missed the connection; None if the last read has found it.
        self._missing_since: float | None = None
        # The error that ends each wait; None if the connection does not count as
        # deleted.
        self.error: CredentialsError | None = None

    def begin_anew(self) -> None:
        """
        Note that a read has found the connection, or has failed for another reason.
        """
        self._missing_since = None
        self.error = None

    def note_missing(self, now: float) -> None:
        """
        Note that a read has not found the connection.

        :param now: in seconds of ``clock.monotonic``.
        """
        if self._missing_since is None:
            self._missing_since = now
        seconds = now - self._missing_since
        if seconds < DELETED_AFTER_SECONDS:
            return
        self.error = CredentialsError(
            f"polysync_conn_id = {self._id!r}: the connection was deleted or renamed."
            f" Airflow has not found it for {format_seconds(seconds)}. Add it again"
            " under Admin > Connections. If no retry follows, clear the"
            f" task.{self._hint}"
        )
        self.error.error_code = models.CONNECTION_NOT_FOUND
