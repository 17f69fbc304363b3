"""
The progress of an execution while a task waits: when its steps are listed, and what the log says of them.

Rules, for a wait on a worker and for a trigger:

1. A list of steps costs a call for each execution. So it is read only for executions whose last poll said
   Executing: after the first poll, and then at most once in the interval.
2. The wait needs the calls more: after a throttled call, no steps are listed for a minute.
3. After another transient error, they are listed again after the interval.
4. After any other error, for example because the permission is missing, they are never listed again. The log
   says so in one line. The wait goes on.
5. While a task waits for a step that AWS has not listed yet, they are listed after each poll, whatever the
   execution does. So they are if another process makes the next poll, which does not know what was logged.
   The log has no lines then.
6. A step whose list AWS refuses, before it was listed once, is not awaited: its wait fails.
7. The log has at most ``MAX_LINES`` lines about one list, so that thousands of steps do not stop the event
   loop of a triggerer.

Everything here is pure: the time is an argument.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution.durations import format_seconds
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.rows import StepRow
from polysync_airflow.execution.texts import MAX_REASON_LENGTH, clean_text
from polysync_airflow.execution.waiter import LogLine
from polysync_airflow.states import (
    STATUS_EXECUTING,
    STATUS_STARTING,
    STATUS_STOPPING,
    PolysyncState,
    state_of_step,
)

THROTTLING_PAUSE_SECONDS: Final = 60.0
# Lines about one list. A pipeline has at most 50 steps, unless AWS allows an account more.
MAX_LINES: Final = 50


# A triggerer holds thousands of them: a text in place of a dict is one object for the garbage collector.
@dataclass(slots=True)
class Progress:
    """
    What is known of the steps of an execution.

    :param interval: seconds between two lists.
    :param due: when they are listed next, in seconds since the epoch.
    :param known: the statuses by step that were logged, in JSON.
    :param resumed_at: when the execution was resumed last, in seconds since the epoch; None if it was not.
    :param is_repeated: another process makes the next poll.
    :param must_list: a step is awaited, and they were not listed yet.
    """

    interval: float
    due: float = 0.0
    known: str = "{}"
    resumed_at: float | None = None
    is_repeated: bool = False
    must_list: bool = False

    @property
    def is_quiet(self) -> bool:
        """Whether the log has no lines about the next list."""
        return self.is_repeated or self.must_list

    def after_poll(self, response: ExecutionDescription | PolysyncError, now: float) -> bool:
        """Return whether to list the steps now, after a poll of the execution."""
        if isinstance(response, PolysyncError):
            if is_throttling(response):
                self.pause(now)
            return False
        if self.is_quiet:
            return True
        if response.status != STATUS_EXECUTING or now < self.due:
            return False
        self.due = now + self.interval
        return True

    def after_list(self, result: Sequence[StepDescription] | BaseException, now: float) -> Sequence[LogLine]:
        """
        Record the statuses of the steps, and return a line for each that has changed.

        :param result: AWS's list, or the error.
        :raises PolysyncError: the error, if the step that is awaited can never be listed.
        """
        if not isinstance(result, BaseException):
            is_quiet, self.must_list = self.is_quiet, False
            return () if is_quiet else self.update(result)
        if self.must_list and isinstance(result, PolysyncError) and not result.transient:
            raise result
        if is_throttling(result):
            self.pause(now)
        elif not (isinstance(result, PolysyncError) and result.transient):
            self.due = math.inf
            if self.is_quiet:
                return ()
            reason = str(result) if isinstance(result, PolysyncError) else clean_text(repr(result))
            return (LogLine(logging.WARNING, f"The log has no lines about steps: {reason}"),)
        return ()

    def pause(self, now: float) -> None:
        """List no steps for a minute, because AWS has throttled a call."""
        self.due = max(self.due, now + THROTTLING_PAUSE_SECONDS)

    def update(self, steps: Sequence[StepDescription]) -> list[LogLine]:
        """
        Record the statuses of the steps, and return a line for each that has changed.

        Of very many, the failed ones come first, and one line counts those that are left out.
        """
        before: dict[str, str] = json.loads(self.known)
        after = {step.name: _key(step.status, step.attempt_count) for step in steps}
        self.known = json.dumps(after)
        changed = [step for step in steps if before.get(step.name) != after[step.name]]
        left_out = len(changed) - MAX_LINES
        if left_out > 0:
            changed = sorted(changed, key=lambda step: _level(step) != logging.ERROR)[:MAX_LINES]
        changed.sort(
            key=lambda step: (step.ended_at or step.started_at, step.name) if step.started_at else ()
        )
        lines = [LogLine(_level(step), _line(step, self.resumed_at)) for step in changed]
        if left_out > 0:
            lines.append(LogLine(logging.INFO, f"{left_out:,} more steps changed"))
        return lines


def known_from(rows: Sequence[StepRow]) -> str:
    """Return the statuses that were logged, for ``Progress``, from the rows of the XCom ``steps``."""
    return json.dumps({row.name: _key(row.status, row.attempt) for row in rows if row.status})


def _key(status: str | None, attempt: int | None) -> str:
    # A step that is Starting is soon Executing, which is no news.
    return f"{STATUS_EXECUTING if status == STATUS_STARTING else status} {attempt or 0}"


def _level(step: StepDescription) -> int:
    return logging.ERROR if state_of_step(step.status) is PolysyncState.FAILED else logging.INFO


def _line(step: StepDescription, resumed_at: float | None) -> str:
    state = state_of_step(step.status)
    after = "" if step.seconds is None else f" after {format_seconds(step.seconds)}"
    attempt = f" (attempt {step.attempt_count})" if (step.attempt_count or 0) > 1 else ""
    if state is PolysyncState.SUCCESS and step.cache_hit:
        return f"Step {step.name} succeeded: its result was in the cache"
    if state is PolysyncState.SUCCESS and step.reused_from:
        return f"Step {step.name} was not selected: its result is that of {step.reused_from.rsplit('/')[-1]}"
    text = {
        PolysyncState.SUCCESS: f"succeeded{after}",
        PolysyncState.FAILED: f"failed{after}",
        PolysyncState.CANCELLED: f"was stopped{after}",
        PolysyncState.RUNNING: "is stopping" if step.status == STATUS_STOPPING else "started",
    }.get(state, f"has the unknown status {step.status}")
    reason = f": {clean_text(step.failure_reason, MAX_REASON_LENGTH)}" if step.failure_reason else ""
    is_kept = resumed_at and step.ended_at and step.ended_at.timestamp() < resumed_at
    before = ", before the last resume" if is_kept else ""
    return f"Step {step.name} {text}{attempt}{before}{reason}"
