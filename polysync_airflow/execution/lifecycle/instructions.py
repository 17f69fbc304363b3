"""
What happens to a try (events), and what it does next (instructions): the vocabulary of ``machine.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution.lifecycle.identity import TaskIdentity
from polysync_airflow.execution.lifecycle.recovery import RecoveryChoices
from polysync_airflow.execution.models import ExecutionDescription, StartRequest
from polysync_airflow.execution.record import Incarnation, StoredExecution
from polysync_airflow.execution.waiter import LogLine


class Do(Enum):
    """What a driver does."""

    LOOK_UP = auto()
    """Look in AWS for the execution of earlier tries whose record is missing or cannot be believed."""
    PREPARE = auto()
    """Make the request for a new execution, and check it."""
    START = auto()
    """Send the stored start request for the first time."""
    DESCRIBE_STARTED = auto()
    """Describe the execution of the start: AWS may know the token from an earlier try."""
    LOOK_UP_STARTED = auto()
    """Look for the execution of the start: AWS knows its token from a request with other parameters."""
    RESEND_START = auto()
    """Send the stored start request again: an earlier try may have sent it."""
    DESCRIBE = auto()
    """Describe the execution."""
    RESUME = auto()
    """Resume the execution with the stored token."""
    RESEND_RESUME = auto()
    """The same, where the token was stored before a user cleared the task."""
    DESCRIBE_REFUSED = auto()
    """Describe the execution whose resume AWS has refused: an earlier request may have resumed it."""
    DESCRIBE_RESUMED = auto()
    """Describe the execution whose resume AWS has accepted, perhaps before the clear."""
    STOP = auto()
    """Request the stop of the execution."""
    WAIT_FOR_END = auto()
    """Wait for the end of an execution with which the try must not continue, then begin again."""
    WATCH = auto()
    """This is the execution of the task: wait for its end, or take its result."""
    FAIL = auto()
    """Raise the error."""


# What a process must not do once it was killed.
NOT_WHEN_KILLED: Final = frozenset(
    {
        Do.LOOK_UP,
        Do.PREPARE,
        Do.START,
        Do.RESEND_START,
        Do.RESUME,
        Do.RESEND_RESUME,
        Do.WATCH,
        Do.WAIT_FOR_END,
    }
)


# With these, a try has its execution, or knows what it has to wait for.
ENDS_THE_START: Final = frozenset({Do.WATCH, Do.WAIT_FOR_END})


class Store(Enum):
    """What becomes of the stored record before an action."""

    KEEP = auto()
    WRITE = auto()
    DELETE = auto()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The request for a new execution is valid."""

    request: StartRequest
    region_name: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """
    AWS accepted the request.

    :param at: when, by AWS's clock if its response says so.
    :param arn: the execution, if it was a start request.
    """

    at: datetime
    arn: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """
    The request failed, or could not be made.

    :param was_repeated: an earlier attempt of the same request got no clear response, so that AWS may have
        accepted it.
    """

    error: PolysyncError
    was_repeated: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """AWS described the execution."""

    at: datetime
    description: ExecutionDescription


@dataclass(frozen=True, slots=True)
class LookedUp:
    """
    AWS listed the newest executions of the pipeline.

    :param pipeline_name: the name or ARN of the pipeline.
    :param claimed: the execution that a record names which cannot be believed, if it exists.
    """

    pipeline_name: str
    listed: Sequence[ExecutionDescription] = ()
    claimed: ExecutionDescription | None = None


@dataclass(frozen=True, slots=True)
class Killed:
    """
    The process was killed before the action was performed. What comes before it is stored.

    :param is_shutdown: whether its worker shuts down.
    """

    is_shutdown: bool = False


Event = Prepared | Accepted | Refused | Described | LookedUp | Killed


@dataclass(frozen=True, slots=True)
class Try:
    """
    One try of a task.

    :param epoch: Airflow's ``max_tries``.
    :param lost: why the record that is stored cannot be believed; None if it can, or if none is stored.
    """

    number: int
    epoch: int
    task: TaskIdentity
    choices: RecoveryChoices
    lost: StoredRecordError | None = None

    @property
    def incarnation(self) -> Incarnation:
        """That of the task instance."""
        return self.task.incarnation


@dataclass(frozen=True, slots=True)
class Instruction:
    """
    What a try does next, and what it knows.

    :param record: the record of the execution that runs, or may run, for the task; None if there is none.
    :param started_at: when the execution was started, by AWS's clock; None if it is not known.
    :param start_number: how many starts of the epoch came before the one that is prepared.
    :param store: what to do with the stored record before the action.
    """

    do: Do
    task_try: Try
    record: StoredExecution | None = None
    description: ExecutionDescription | None = None
    started_at: datetime | None = None
    start_number: int = 0
    store: Store = Store.KEEP
    lines: tuple[LogLine, ...] = ()
    error: PolysyncError | None = None

    @property
    def known(self) -> StoredExecution:
        """The record, where there is one."""
        if self.record is None:
            raise LookupError(f"{self.do} has no record")
        return self.record

    @property
    def is_blocked(self) -> bool:
        """Whether another execution has to end before that of the task is started."""
        return self.do is Do.WAIT_FOR_END

    @property
    def attempt_started_at(self) -> datetime | None:
        """When this attempt of the execution began; None if it has just begun."""
        return self.known.resumed_at or (self.description.created_at if self.description else None)

    def next(self, do: Do, *lines: LogLine, **changes: Any) -> Instruction:
        """Return the next instruction, which knows the same except for changes."""
        return replace(self, do=do, lines=lines, **{"store": Store.KEEP, "error": None, **changes})

    def write(self, do: Do, *lines: LogLine, changes: dict[str, Any], **known: Any) -> Instruction:
        """Return the next instruction, before which changes of the record are stored."""
        writer = {"try_number": self.task_try.number, "incarnation": self.task_try.incarnation}
        record = self.known.model_copy(update={**changes, **writer})
        return self.next(do, *lines, record=record, store=Store.WRITE, **known)

    def without_record(self) -> Instruction:
        """Return the same instruction, before which the record is deleted."""
        return replace(self, record=None, store=Store.DELETE)


def info(text: str) -> LogLine:
    """Return a line for the task's log."""
    return LogLine(logging.INFO, text)


def warning(text: str) -> LogLine:
    """Return a warning for the task's log."""
    return LogLine(logging.WARNING, text)
