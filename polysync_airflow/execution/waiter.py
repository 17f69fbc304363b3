"""
The decision core of a wait: what to do after each poll of an execution.

Rules:

1. AWS's *status* maps to a Polysync *state* by ``STATE_OF_STATUS`` alone. A status that is not in the table
   is ``Unknown``.
2. An execution has ended when its state is Success, Failed or Cancelled. In any other state the wait goes on.
3. An unknown status is logged as a warning once, and the wait goes on.
4. After a permanent error the wait ends, and when the connection is deleted, which a retry may cure. After
   any other error (throttling, network, expired credentials) it goes on with backoff.
5. A throttled poll is repeated soon if a rate limiter, which all waits share, has slowed down the calls.
6. An error is logged once. A wait that shares its polls with others logs only one that lasts: the log of the
   triggerer names the others once for all waits (``triggers/activity.py``).
7. The deadline ends the wait in any state, but only after one last poll: an execution that ended in time
   counts as ended. A last poll that takes too long ends it too.

Everything here is pure: the time is an argument, and log lines are values. The wait on a worker
(``operators/base.py``) and the trigger (``triggers/``) only do what ``Waiter.decide`` returns.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution.durations import format_seconds
from polysync_airflow.execution.models import ExecutionDescription, ExecutionEvent
from polysync_airflow.states import STATE_OF_STATUS, PolysyncState, has_ended, state_of

# The scheduler may fail a task that is resumed while the scheduler still records the deferral ("finished with
# state success, but ... queued"). No wait polls earlier than this.
FIRST_POLL_DELAY_SECONDS: float = 5.0
# How long a wait goes on after its deadline if the last poll takes that long.
LAST_POLL_SECONDS: Final = 5.0
MAX_BACKOFF_SECONDS: Final = 300.0
# The first backoff after a throttled poll, if a rate limiter has slowed down the calls.
THROTTLING_BACKOFF_SECONDS: Final = 1.0
# More of them would only make large numbers.
MAX_DOUBLINGS: Final = 16
# How long the polls of a wait that shares them fail before the log of its task says so.
QUIET_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line for the task's log, with its ``logging`` level."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Failures:
    """
    The polls that have failed since the last successful one.

    :param count: how many.
    :param since: when the first of them failed, in seconds since the epoch.
    :param last: the error of the last one.
    :param logged: the error that the log of the task has; None if it has none.
    """

    count: int = 0
    since: float = 0.0
    last: str = ""
    logged: str | None = None

    def add(
        self, error: PolysyncError, now: float, *, shared: bool, what: str = "Poll failed"
    ) -> tuple[Failures, tuple[LogLine, ...]]:
        """
        Return the failures with one more, and what the log of the task says of it.

        :param shared: the polls are shared with other waits.
        :param what: the beginning of the line.
        """
        since, text = self.since if self.count else now, str(error)
        failures = Failures(self.count + 1, since, text, self.logged)
        if text == self.logged or (shared and now - since < QUIET_SECONDS):
            return failures, ()
        duration = f" for {format_seconds(now - since)}" if shared else ""
        line = LogLine(logging.WARNING, f"{what}, retrying{duration}: {text}")
        return replace(failures, logged=text), (line,)


NO_FAILURES: Final = Failures()


@dataclass(frozen=True, slots=True)
class Wait:
    """Instruction: write the log lines, sleep, poll again, and pass the response to ``waiter.decide``."""

    seconds: float
    waiter: Waiter
    log_lines: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """Instruction: write the log lines; the wait is over."""

    event: ExecutionEvent
    log_lines: tuple[LogLine, ...] = ()


def backoff(error: PolysyncError, poll_interval: float, failures: int, *, rate_limited: bool) -> float:
    """
    Return the seconds until the next poll after a poll that failed.

    :param failures: the number of polls that had failed in a row before it.
    :param rate_limited: a rate limiter, which throttling slows down, applies to the polls.
    """
    first = THROTTLING_BACKOFF_SECONDS if rate_limited and is_throttling(error) else poll_interval
    factor: int = 2 ** min(failures, MAX_DOUBLINGS)
    return max(first, min(first * factor, MAX_BACKOFF_SECONDS))


def error_fields(error: PolysyncError | None) -> dict[str, Any]:
    """
    Return the fields of an event about the last poll. The code of an error that is not AWS's is its class.

    :param error: its error; None if it succeeded.
    """
    if error is None:
        return {}
    code = getattr(error, "error_code", None) or type(error).__name__
    return {"error_code": code, "operation": getattr(error, "operation", None)}


# A triggerer holds thousands of waiters for hours. They keep the values that they need rather than AWS's
# whole response: each object that stays makes Python's full garbage collections longer.
@dataclass(frozen=True, slots=True)
class Waiter:
    """
    The state of a wait for one execution.

    :param pipeline_name: its pipeline, for log lines; None where only the ARN is known.
    :param poll_interval: seconds between two polls.
    :param since: when the attempt of the execution began, in seconds since the epoch.
    :param deadline: when the wait ends at the latest, in seconds since the epoch.
    :param attempt: the attempt of the execution: 0 for its start, n for its n-th resume.
    :param rate_limited: the polls are shared with other waits, and a rate limiter, which throttling slows
        down, applies to them.
    :param last_status: AWS's last known status.
    :param started_at: AWS's creation time of the execution.
    :param warned_statuses: the unknown statuses that were logged.
    :param failures: the polls that have failed since the last successful one.
    """

    execution_arn: str
    pipeline_name: str | None
    poll_interval: float
    since: float
    deadline: float
    attempt: int = 0
    rate_limited: bool = False
    last_status: str | None = None
    started_at: datetime | None = None
    warned_statuses: frozenset[str] = frozenset()
    failures: Failures = NO_FAILURES

    def first_wait(self, now: float) -> Wait:
        """Return the instruction before the first poll."""
        # Also when the deadline has passed already, as it may have for a try that reattaches to an execution.
        return Wait(max(FIRST_POLL_DELAY_SECONDS, min(self.poll_interval, self.deadline - now)), self)

    def decide(self, response: ExecutionDescription | PolysyncError, now: float) -> Wait | Finish:
        """
        Return the instruction after a poll.

        :param response: the response of DescribePipelineExecution, or the error.
        """
        if isinstance(response, PolysyncError):
            return self._after_error(response, now)
        return self._after_description(response, now)

    def time_out(self, note: str | None = None) -> Finish:
        """
        End the wait without a last poll.

        :param note: why, for the message; None if Airflow's ``execution_timeout`` has ended it.
        """
        return Finish(self._event("timed_out", f"{self._limit}; {note}" if note else self._limit))

    def _after_description(self, description: ExecutionDescription, now: float) -> Wait | Finish:
        status = description.status
        if status == self.last_status and not self.failures.count and now < self.deadline:
            # By far the most frequent case: the state of the wait stays the same.
            return self._wait(self.poll_interval, now)
        lines = self._log_lines(status)
        updated = replace(
            self,
            last_status=status,
            started_at=description.created_at or self.started_at,
            failures=NO_FAILURES,
        )
        if status not in STATE_OF_STATUS:
            updated = replace(updated, warned_statuses=self.warned_statuses | {status})
        if has_ended(status):
            event = updated._event("ended", description.failure_reason, ended_at=description.modified_at)
            return Finish(event, lines)
        if now >= self.deadline:
            return Finish(updated._event("timed_out", self._limit), lines)
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

    def _log_lines(self, status: str) -> tuple[LogLine, ...]:
        lines = []
        if self.failures.logged:
            lines.append(LogLine(logging.INFO, f"Polls succeed again: {self._label}"))
        if status != self.last_status:
            change = f"{self.last_status} -> {status}" if self.last_status else status
            # The status comes first: the UI cuts long lines off at the right, and an ARN is long. There is no
            # duration, because the host's clock and AWS's may differ.
            lines.append(LogLine(logging.INFO, f"{change}: {self._label}"))
        if state_of(status) is PolysyncState.UNKNOWN and status not in self.warned_statuses:
            lines.append(
                LogLine(
                    logging.WARNING,
                    f"Status {status!r} is unknown to this version; the wait goes on, until the timeout at "
                    f"the latest: {self._label}",
                )
            )
        return tuple(lines)

    @property
    def _label(self) -> str:
        pipeline = f"Pipeline {self.pipeline_name}, execution" if self.pipeline_name else "Execution"
        return f"{pipeline} {self.execution_arn}"

    def _wait(self, seconds: float, now: float, log_lines: tuple[LogLine, ...] = ()) -> Wait:
        return Wait(max(0.0, min(seconds, self.deadline - now)), self, log_lines)

    @property
    def _limit(self) -> str:
        limit = format_seconds(self.deadline - self.since)
        return f"the limit of {limit} (timeout or execution_timeout) was reached"

    def _event(
        self,
        outcome: Literal["ended", "timed_out", "refused"],
        message: str | None,
        error: PolysyncError | None = None,
        *,
        ended_at: datetime | None = None,
    ) -> ExecutionEvent:
        return ExecutionEvent(
            outcome=outcome,
            execution_arn=self.execution_arn,
            pipeline_name=self.pipeline_name,
            status=self.last_status,
            message=message,
            started_at=self.started_at,
            ended_at=ended_at,
            attempt=self.attempt,
            attempt_started_at=datetime.fromtimestamp(self.since, UTC) if self.attempt else None,
            **error_fields(error),
        )
