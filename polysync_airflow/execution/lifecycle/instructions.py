"""
What happens to a try (events), and what it does next (instructions): the vocabulary of ``machine.py``.

The identity of a start is its task instance, and the how many-th start of an epoch it is. The client token
and the default display name follow from it. So a try that finds no record of the earlier tries sends the same
token as they did, and AWS returns the execution that it has already started; and what AWS lists and describes
tells of itself which task has started it.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution.lifecycle.decisions import RecoveryChoices
from polysync_airflow.execution.models import DISPLAY_NAME_MAX, ExecutionDescription, StartRequest
from polysync_airflow.execution.record import Incarnation, StoredExecution
from polysync_airflow.execution.waiter import LogLine

_TASK_DIGITS: Final = 10
_INCARNATION_DIGITS: Final = 12
_NAME_END: Final = re.compile(
    rf"(?:^|-)([0-9a-f]{{{_TASK_DIGITS}}})-([0-9a-f]{{{_INCARNATION_DIGITS}}})-([0-9]{{1,9}})-([0-9]{{1,9}})$"
)


@dataclass(frozen=True)
class TaskKey:
    """What identifies a task instance, in all of its tries."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, ti: Any) -> TaskKey:
        """Return the key of a task instance."""
        map_index = -1 if ti.map_index is None else ti.map_index
        return cls(ti.dag_id, ti.run_id, ti.task_id, map_index)


@dataclass(frozen=True, slots=True)
class StartName:
    """
    What the display name of an execution says of its start.

    :param task_mark: see ``TaskIdentity``.
    :param incarnation_mark: a digest of the task instance and its incarnation.
    """

    task_mark: str
    incarnation_mark: str
    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """
    What the starts of a task instance have in common.

    :param task_marks: digests of the task instance, made with the keys of the deployment, the current one
        first. Another deployment with the same DAG has other ones.
    :param nonce: set if the start of the DAG run does not tell it from another one with the same run id.
    """

    key: TaskKey
    incarnation: Incarnation
    task_marks: tuple[str, ...] = ()
    nonce: str = ""

    def token(self, epoch: int, number: int) -> str:
        """
        Return the client token of a start.

        :param number: how many starts of the epoch came before it.
        """
        return f"{self._token_prefix(epoch)}-{number}"

    def display_name(self, epoch: int, number: int) -> str:
        """
        Return the default display name of a start.

        AWS does not accept run ids such as ``scheduled__2026-01-01T00:00:00+00:00``, and run ids that differ
        only at the end would be equal after truncation. So the name ends with digests.
        """
        key = self.key
        text = re.sub(r"[^A-Za-z0-9]+", "-", f"{key.dag_id}/{key.task_id}/{key.run_id}")
        index = () if key.map_index < 0 else (str(key.map_index),)
        mark = self.task_marks[0] if self.task_marks else task_mark(digest(key))
        end = "-".join((*index, mark, self.incarnation_mark, str(epoch), str(number)))
        return f"{text[: DISPLAY_NAME_MAX - len(end) - 1].rstrip('-')}-{end}".lstrip("-")

    @property
    def incarnation_mark(self) -> str:
        """A digest of the task instance and its incarnation, for the display name."""
        return self._digest()[:_INCARNATION_DIGITS]

    def next_number(self, record: StoredExecution | None, epoch: int) -> int:
        """Return the number of the next start of an epoch, after that of a record."""
        if record is None:
            return 0
        prefix, _, number = record.request.client_request_token.rpartition("-")
        return int(number) + 1 if prefix == self._token_prefix(epoch) and number.isdecimal() else 0

    def _token_prefix(self, epoch: int) -> str:
        return f"polysync-{self._digest(epoch)[:40]}"

    def _digest(self, *parts: int) -> str:
        started_at = self.incarnation.dag_run_started_at
        run = (started_at.isoformat() if started_at else None, self.incarnation.region, self.nonce)
        return digest(self.key, *run, *parts)


def digest(key: TaskKey, *parts: object) -> str:
    """Return a digest of a task instance and of what else tells its starts apart, as hexadecimal digits."""
    return hashlib.sha256(json.dumps([astuple(key), *parts]).encode()).hexdigest()


def task_mark(hexadecimal: str) -> str:
    """Return the digits of a keyed digest that stand in a display name."""
    return hexadecimal[:_TASK_DIGITS]


def read_name(*texts: str | None) -> StartName | None:
    """
    Return what an execution says of its start; None if none of its texts ends as ``display_name`` does.

    :param texts: its display name and its description.
    """
    for text in texts:
        found = _NAME_END.search(text) if text else None
        if found:
            task, incarnation, epoch, number = found.groups()
            return StartName(task, incarnation, int(epoch), int(number))
    return None


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
