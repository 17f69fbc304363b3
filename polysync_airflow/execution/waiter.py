"""
Owns the answer to "given what AWS just said about an execution, what next?".

Rules:

1. AWS's *status* maps to a Polysync *state* by ``STATE_OF_STATUS`` alone; a status that is not in it is
   ``Unknown``.
2. An execution has ended when its state is Success, Failed or Cancelled. Anything else waits.
3. An unheard-of status is warned about once and waited through.
4. A failed look that time may cure (throttling, network, expired credentials) is retried with backoff; a
   lasting refusal finishes the wait.
5. The deadline ends the wait whatever was seen, but only after one last look: an execution that ended in
   time counts as ended.

Everything here is pure: the clock is an argument, logging is a value. The synchronous wait and the trigger
only do what ``Waiter.decide`` returns.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution.models import ExecutionDescription, ExecutionEvent
from polysync_airflow.states import STATE_OF_STATUS, PolysyncState, has_ended, state_of

# The scheduler may fail a task that is resumed while it still books the deferral ("finished with state
# success, but ... queued"), so no wait looks sooner than this.
FIRST_POLL_DELAY_SECONDS: float = 5.0
MAX_BACKOFF_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """
    One line for the task's log.

    :param level: a ``logging`` level.
    :param text: the line.
    """

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """
    Instruction: sleep, look again, and hand the answer to ``watch.decide``.

    :param seconds: how long to sleep.
    :param watch: what is known by now.
    :param notes: log lines to write first.
    """

    seconds: float
    watch: Waiter
    notes: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """
    Instruction: the wait is over.

    :param event: how it ended.
    :param notes: log lines to write first.
    """

    event: ExecutionEvent
    notes: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiter:
    """
    What is known about one awaited execution.

    :param execution_arn: the execution.
    :param pipeline_name: its pipeline, for log lines; None where only the ARN is known.
    :param poll_interval: seconds between two looks.
    :param since: when the wait began (seconds since the epoch).
    :param deadline: when it ends at the latest (seconds since the epoch).
    :param attempt: which attempt of the execution it is: 0 for its start, n for its n-th resume.
    """

    execution_arn: str
    pipeline_name: str | None
    poll_interval: float
    since: float
    deadline: float
    attempt: int = 0
    last_description: ExecutionDescription | None = None
    warned_statuses: frozenset[str] = frozenset()
    failures: int = 0
    last_error: str | None = None

    def begin(self, now: float) -> Wait:
        """
        Tell how long to sleep before the first look.

        :param now: seconds since the epoch.
        """
        # Also when the deadline has passed already, as it may have for a try that goes on with an execution.
        return Wait(max(FIRST_POLL_DELAY_SECONDS, min(self.poll_interval, self.deadline - now)), self)

    def decide(self, answer: ExecutionDescription | PolysyncError, now: float) -> Wait | Finish:
        """
        Tell what to do after a look.

        :param answer: what DescribePipelineExecution said, or how it failed.
        :param now: seconds since the epoch.
        """
        if isinstance(answer, PolysyncError):
            return self._after_error(answer, now)
        return self._after_description(answer, now)

    def time_out(self) -> Finish:
        """Give up now: somebody else's clock (Airflow's ``execution_timeout``) ran out before ours."""
        return Finish(self._event("timed_out"))

    def _after_description(self, answer: ExecutionDescription, now: float) -> Wait | Finish:
        before = self.last_description
        if before and before.status == answer.status and not self.failures and now < self.deadline:
            # By far the commonest answer, and it changes nothing of what is known.
            return self._wait(self.poll_interval, now)
        notes = self._notes_on(answer, now)
        known = replace(self, last_description=answer, failures=0, last_error=None)
        if answer.status not in STATE_OF_STATUS:
            known = replace(known, warned_statuses=self.warned_statuses | {answer.status})
        if has_ended(answer.status):
            return Finish(known._event("ended"), notes)
        if now >= self.deadline:
            return Finish(known._event("timed_out"), notes)
        return known._wait(self.poll_interval, now, notes)

    def _after_error(self, error: PolysyncError, now: float) -> Wait | Finish:
        known = replace(self, failures=self.failures + 1, last_error=str(error))
        if error.permanent:
            return Finish(known._event("refused", error))
        if now >= self.deadline:
            return Finish(known._event("timed_out", error))
        notes: tuple[LogLine, ...] = ()
        if known.last_error != self.last_error:
            notes = (
                LogLine(logging.WARNING, f"Could not look at {self._label}, will go on trying: {error}"),
            )
        backoff = min(self.poll_interval * 2 ** min(self.failures, 16), MAX_BACKOFF_SECONDS)
        return known._wait(max(self.poll_interval, backoff), now, notes)

    def _notes_on(self, answer: ExecutionDescription, now: float) -> tuple[LogLine, ...]:
        notes = []
        if self.failures:
            notes.append(LogLine(logging.INFO, f"{self._label} can be seen again."))
        before = self.last_description.status if self.last_description else None
        if answer.status != before:
            change = f"{before} -> {answer.status}" if before else answer.status
            # Status first: the UI cuts long lines off at the right, and an ARN is long.
            notes.append(LogLine(logging.INFO, f"{change} after {now - self.since:.0f} s: {self._label}"))
        if state_of(answer.status) is PolysyncState.UNKNOWN and answer.status not in self.warned_statuses:
            notes.append(
                LogLine(
                    logging.WARNING,
                    f"{self._label} has the status {answer.status!r}, which this version does not know; "
                    "waiting on, until the timeout at the latest.",
                )
            )
        return tuple(notes)

    @property
    def _label(self) -> str:
        pipeline = f"Pipeline {self.pipeline_name}, execution" if self.pipeline_name else "Execution"
        return f"{pipeline} {self.execution_arn}"

    def _wait(self, seconds: float, now: float, notes: tuple[LogLine, ...] = ()) -> Wait:
        return Wait(max(0.0, min(seconds, self.deadline - now)), self, notes)

    def _message(self, outcome: str, error: PolysyncError | None) -> str | None:
        if outcome == "timed_out":
            limit = (
                f"the limit of {self.deadline - self.since:.0f} s (timeout or execution_timeout) was reached"
            )
            return f"{limit}; the last look failed: {error}" if error else limit
        if error:
            return str(error)
        return self.last_description.failure_reason if self.last_description else None

    def _event(self, outcome: str, error: PolysyncError | None = None) -> ExecutionEvent:
        seen = self.last_description
        status = seen.status if seen else None
        ended = seen is not None and has_ended(status)
        return ExecutionEvent(
            outcome=outcome,
            execution_arn=self.execution_arn,
            pipeline_name=self.pipeline_name,
            status=status,
            message=self._message(outcome, error),
            error_code=error.error_code if isinstance(error, SageMakerApiError) else None,
            operation=error.operation if isinstance(error, SageMakerApiError) else None,
            started_at=seen.created_at if seen else None,
            ended_at=seen.modified_at if seen and ended else None,
            attempt=self.attempt,
        )
