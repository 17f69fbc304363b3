"""
What a try does next, and what it knows then: one class for each thing that it may know,
so that no command lacks what it needs.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime
from typing import Any, Generic, Literal, Self, TypeGuard, TypeVar

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import models
from polysync_airflow.execution.lifecycle.instructions import (
    ENDS_THE_START,
    Command,
    ExecutionRecord,
    Store,
    TaskTry,
)
from polysync_airflow.execution.waiter import LogLine

# What a try does with a start whose execution is not known, and with an execution.
StartCommand = Literal[
    Command.LOOK_UP,
    Command.START,
    Command.LOOK_UP_STARTED,
    Command.RESEND_START,
    Command.WAIT_FOR_CAPACITY,
]
ExecutionCommand = Literal[
    Command.DESCRIBE,
    Command.DESCRIBE_STARTED,
    Command.DESCRIBE_RESUMED,
    Command.DESCRIBE_REFUSED,
    Command.RESUME,
    Command.RESEND_RESUME,
    Command.STOP,
    Command.WAIT_FOR_END,
    Command.WAIT_FOR_CAPACITY,
    Command.WATCH,
]
Allowed = TypeVar("Allowed", bound=Command)


@dataclass(frozen=True, slots=True)
class Instruction:
    """
    What a try does next. The classes below have what it knows then.

    :param record: the record of the execution that runs, or may run, for the task; None
        if there is none.
    :param delay: how many seconds to wait before the command.
    :param store: what becomes of the stored record before the command: this record
        takes its place, or it stays, or it is deleted.
    """

    command: Command
    task_try: TaskTry
    record: ExecutionRecord | None = None
    _: KW_ONLY
    lines: tuple[LogLine, ...] = ()
    delay: float = 0.0
    store: ExecutionRecord | Store = Store.KEEP

    def fail(self, error: PolysyncError) -> Failure:
        """Return the instruction to fail, which leaves the execution as it is."""
        return Failure(Command.FAIL, self.task_try, self.record, error=error)


@dataclass(frozen=True, slots=True)
class Failure(Instruction):
    """The try fails."""

    command: Literal[Command.FAIL]
    _: KW_ONLY
    error: PolysyncError


@dataclass(frozen=True, slots=True)
class Beginning(Instruction):
    """
    The try has neither a start nor an execution.

    :param replaced: the record of the execution that the new start replaces; None if
        there is none.
    :param start_number: how many starts of the epoch came before the one that is
        prepared.
    """

    command: Literal[Command.LOOK_UP, Command.PREPARE]
    record: None = None
    _: KW_ONLY
    replaced: ExecutionRecord | None = None
    start_number: int = 0


@dataclass(frozen=True, slots=True)
class Recorded(Instruction, Generic[Allowed]):
    """The try has a record."""

    command: Allowed
    record: ExecutionRecord

    def next(self, command: Allowed, *lines: LogLine, **fields: Any) -> Self:
        """
        Return the next instruction.

        :param fields: what else is new in it. It keeps the rest, except for what
            belongs to one command: its delay, and what it stores.
        """
        values: dict[str, Any] = {"delay": 0.0, "store": Store.KEEP, **fields}
        return replace(self, command=command, lines=lines, **values)

    def write(
        self, command: Allowed, *lines: LogLine, changes: dict[str, Any], **fields: Any
    ) -> Self:
        """
        Return the next instruction, before which the record is stored.

        :param changes: what changes in the record.
        :param fields: what else is new in the instruction.
        """
        writer = {
            "try_number": self.task_try.number,
            "incarnation": self.task_try.task.incarnation,
            "unattended_stop": self.task_try.unattended_stop,
        }
        record = self.record.model_copy(update={**changes, **writer})
        return self.next(command, *lines, record=record, store=record, **fields)


@dataclass(frozen=True, slots=True)
class Begun(Recorded[StartCommand]):
    """The try has a start whose execution is not known."""

    def found(self, command: ExecutionCommand, arn: str, line: LogLine) -> Identified:
        """Return the next instruction, before which the ARN is stored."""
        changes = {"execution_arn": arn, "replaces": None}
        record = self.write(self.command, changes=changes).record
        lines = (line,)
        return Identified(
            command, self.task_try, record, arn, lines=lines, store=record
        )

    def fail_without_start(self, error: PolysyncError) -> Failure:
        """
        Return the instruction to fail. It stores the record from before the start
        again, or deletes the record, because AWS has certainly not accepted the start.
        """
        store: ExecutionRecord | Store = Store.DELETE
        if self.record.replaces:
            store = self.record.replaces.restored_after(self.record)
        return Failure(Command.FAIL, self.task_try, store=store, error=error)


@dataclass(frozen=True, slots=True)
class Identified(Recorded[ExecutionCommand]):
    """
    The try has an execution.

    :param started_at: when it was started, by AWS's clock; None if it is not known.
    :param times_unknown: how often AWS did not know the execution that is described.
    :param is_repeated: whether an earlier try may have sent the same resume.
    """

    arn: str
    _: KW_ONLY
    description: models.ExecutionDescription | None = None
    started_at: datetime | None = None
    times_unknown: int = 0
    is_repeated: bool = False

    @property
    def attempt_started_at(self) -> datetime | None:
        """When this attempt of the execution began; None if it has just begun."""
        if self.record.resumed_at:
            return self.record.resumed_at
        if self.description is None:
            return None
        return self.description.created_at


@dataclass(frozen=True, slots=True)
class Ended(Recorded[Literal[Command.ADD_UP]]):
    """
    The try has an execution that has ended, and adds up its cost.

    :param execution: what it knew of the execution before.
    """

    execution: Identified
    status: str


def ends_the_start(instruction: Instruction) -> TypeGuard[Begun | Identified]:
    """Return whether a try has its execution, or knows what it has to wait for."""
    return instruction.command in ENDS_THE_START
