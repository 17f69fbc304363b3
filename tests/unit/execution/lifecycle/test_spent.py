"""What a try does once it knows what the attempts before it have cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from polysync_airflow.exceptions import PipelineExecutionTooExpensiveError
from polysync_airflow.execution.lifecycle.instructions import (
    AddedUp,
    Command,
    Instruction,
    Prepared,
    Spent,
    Store,
)
from polysync_airflow.execution.lifecycle.machine import after
from tests.unit.execution.lifecycle.builders import (
    ARN,
    NOW,
    REQUEST,
    at,
    describe,
    spending,
    stored,
)

SPENT = Spent(epoch=2, amount=1.5, until=NOW)


def add_up(amount: float, retry_mode: str) -> Instruction:
    """Return what follows when the failed execution of the try before has cost."""
    before = at(Command.ADD_UP, stored(), retry_mode=retry_mode)
    before = replace(before, description=describe("Failed"))
    return after(before, AddedUp(spending(amount)))


def test_what_was_spent_is_kept_with_a_new_execution() -> None:
    """It counts in the epoch of the try."""
    instruction = add_up(1.5, "new")

    assert instruction.command is Command.PREPARE
    instruction = after(instruction, Prepared(REQUEST, "us-east-1"))
    assert instruction.existing_record.spent == SPENT


def test_what_was_spent_is_kept_with_a_resume() -> None:
    """It counts in the epoch of the try."""
    instruction = add_up(1.5, "resume")

    assert instruction.command is Command.RESUME
    assert instruction.existing_record.spent == SPENT


@pytest.mark.parametrize("retry_mode", ["new", "resume"])
def test_nothing_is_started_if_the_limit_was_reached(retry_mode: str) -> None:
    """The task fails for good, with what was spent. Its record stays as it is."""
    instruction = add_up(2, retry_mode)

    assert instruction.command is Command.FAIL
    assert instruction.store is Store.KEEP
    assert instruction.record is None
    error = instruction.error
    assert isinstance(error, PipelineExecutionTooExpensiveError)
    assert error.spending == spending(2)
    assert (error.execution_arn, error.status, error.permanent) == (ARN, "Failed", True)
    first, *_, last = str(error).splitlines()
    assert first == f"Nothing was started: {spending(2).text}"
    assert last == f"Execution: {ARN}"
