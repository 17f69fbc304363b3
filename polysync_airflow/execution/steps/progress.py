"""
The progress of an execution while a task waits: when its steps are listed, and what the log says of them.

A list of steps costs a call for each execution. So it is read only for executions that AWS reports as
Executing, and at most once in ``progress_interval`` seconds.

Everything here is pure: the time is an argument.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from polysync_airflow.execution.steps.rows import StepDescription, StepRow
from polysync_airflow.execution.waiter import LogLine
from polysync_airflow.states import (
    STATUS_EXECUTING,
    STATUS_STARTING,
    STATUS_STOPPING,
    PolysyncState,
    state_of_step,
)


# A triggerer holds thousands of them: a text in place of a dict is one object for the garbage collector.
@dataclass(slots=True)
class Progress:
    """
    What is known of the steps of an execution.

    :param interval: seconds between two lists.
    :param due: when they are listed next, in seconds since the epoch.
    :param known: the statuses by step that were logged, in JSON.
    """

    interval: float
    due: float
    known: str = "{}"

    def is_due(self, status: str | None, now: float) -> bool:
        """
        Return whether to list the steps now.

        :param status: AWS's status of the execution.
        :param now: seconds since the epoch.
        """
        return status == STATUS_EXECUTING and now >= self.due

    def postpone(self, now: float) -> None:
        """
        Set the time of the next list.

        :param now: seconds since the epoch.
        """
        self.due = now + self.interval

    def update(self, steps: Sequence[StepDescription]) -> list[LogLine]:
        """
        Record the statuses of the steps, and return a line for each that has changed.

        :param steps: AWS's list.
        """
        before: dict[str, str] = json.loads(self.known)
        after = {step.name: _key(step.status, step.attempt_count) for step in steps}
        self.known = json.dumps(after)
        changed = [step for step in steps if before.get(step.name) != after[step.name]]
        changed.sort(
            key=lambda step: (step.ended_at or step.started_at, step.name) if step.started_at else ()
        )
        return [LogLine(_level(step), _line(step)) for step in changed]


def known_from(rows: Sequence[StepRow]) -> str:
    """
    Return the statuses that were logged, for ``Progress``, from the XCom ``steps``.

    :param rows: the rows of the XCom.
    """
    return json.dumps({row.name: _key(row.status, row.attempt) for row in rows if row.status})


def _key(status: str | None, attempt: int | None) -> str:
    # A step that is Starting is soon Executing, which is no news.
    return f"{STATUS_EXECUTING if status == STATUS_STARTING else status} {attempt or 0}"


def _level(step: StepDescription) -> int:
    return logging.ERROR if state_of_step(step.status) is PolysyncState.FAILED else logging.INFO


def _line(step: StepDescription) -> str:
    state = state_of_step(step.status)
    after = "" if step.seconds is None else f" after {step.seconds:.0f} s"
    attempt = f" (attempt {step.attempt_count})" if (step.attempt_count or 0) > 1 else ""
    if state is PolysyncState.SUCCESS and step.cache_hit:
        return f"Step {step.name} succeeded: its result was in the cache"
    text = {
        PolysyncState.SUCCESS: f"succeeded{after}",
        PolysyncState.FAILED: f"failed{after}",
        PolysyncState.CANCELLED: f"was stopped{after}",
        PolysyncState.RUNNING: "is stopping" if step.status == STATUS_STOPPING else "started",
    }.get(state, f"has the unknown status {step.status}")
    reason = f": {step.failure_reason}" if step.failure_reason else ""
    return f"Step {step.name} {text}{attempt}{reason}"
