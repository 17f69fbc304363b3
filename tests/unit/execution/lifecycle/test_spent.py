"""What a try does once it knows what the attempts before it have cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from polysync_airflow.exceptions import PipelineExecutionTooExpensiveError
from polysync_airflow.execution.lifecycle.instructions import (
    AddedUp,
    Command,
    Described,
    Prepared,
    Spent,
    Store,
)
from polysync_airflow.execution.prices import CostLimit
from tests.unit.execution.lifecycle.builders import (
    ARN,
    NOW,
    REQUEST,
    after,
    at,
    describe,
    does,
    edited,
    refused,
    spending,
    stored,
)

SPENT = Spent(epoch=2, amount=1.5, until=NOW)


JOBS = {"Train": ("training-job/a", "training-job/b")}


def add_up(amount: float, retry_mode: str, **record: Any) -> Any:
    """Return what follows when the failed execution of the try before has cost."""
    before = at(Command.ADD_UP, stored(**record), retry_mode=retry_mode)
    return after(before, AddedUp(spending(amount)))


def test_what_was_spent_is_kept_with_the_next_attempt() -> None:
    """It counts in the epoch of the try, with the jobs that were seen before."""
    prepare = add_up(1.5, "new")
    resume = add_up(1.5, "resume", step_jobs=JOBS)

    assert prepare.command is Command.PREPARE
    start = after(prepare, Prepared(REQUEST, "us-east-1"))
    assert start.record.spent == SPENT
    assert resume.command is Command.RESUME
    assert resume.record.spent == SPENT
    assert resume.record.step_jobs is None


@pytest.mark.parametrize(
    ("status", "spent", "jobs"),
    [
        ("Executing", SPENT, JOBS),
        ("Stopping", SPENT, JOBS),
        ("Failed", Spent(epoch=5, amount=0, until=NOW), None),
    ],
)
@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_cost_counts_from_0_after_a_clear_for_what_begins_then(
    stop_on_kill: bool, status: str, spent: Spent, jobs: object
) -> None:
    """The limit of an execution that runs goes on where it was."""
    record = stored(spent=SPENT, step_jobs=JOBS)
    before = at(Command.DESCRIBE, record, epoch=5, stop_on_kill=stop_on_kill)
    task_try = replace(before.task_try, has_cost_limit=True)

    described = Described(NOW, describe(status))
    instruction = after(replace(before, task_try=task_try), described)

    current = instruction.record or instruction.replaced
    assert (current.spent, current.step_jobs) == (spent, jobs)


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


@pytest.mark.parametrize(
    ("epoch", "options", "command"),
    [
        (2, {"retry_mode": "new"}, Command.ADD_UP),
        (2, {"retry_mode": "resume"}, Command.ADD_UP),
        # The limit may not be valid any more, and nothing else finds that out.
        (5, {"on_clear": "resume"}, Command.ADD_UP),
        (5, {"on_clear": "new"}, Command.PREPARE),
    ],
)
def test_cost_is_added_up_before_the_next_attempt(
    epoch: int, options: dict[str, Any], command: Command
) -> None:
    """Only with a limit, and only where what was spent counts."""
    before = at(Command.DESCRIBE, stored(), epoch=epoch, **options)
    task_try = replace(before.task_try, has_cost_limit=True)
    described = Described(NOW, describe("Failed"))

    assert after(replace(before, task_try=task_try), described).command is command
    assert after(before, described).command is not Command.ADD_UP


def test_nothing_is_started_if_the_cost_is_not_known() -> None:
    """The execution has ended, so the try leaves nothing to stop."""
    refusal = refused()

    instruction = after(at(Command.ADD_UP, stored()), refusal)

    assert does(instruction) == (Command.FAIL, Store.KEEP, None)
    assert instruction.error is refusal.error


def test_limit_counts_what_the_epoch_has_spent() -> None:
    """That of an attempt goes on in the epoch that has begun it, whatever follows."""
    limit = CostLimit(
        max_cost=2, currency="USD", prices_date=date(2026, 1, 1), prices={}
    )
    counted = edited(limit, spent=1.5, since=NOW)
    record = stored(spent=SPENT)

    assert record.limit_in(2, limit) == counted
    assert record.limit_in(3, limit) == limit
    assert record.limit_of_attempt(limit) == counted
    assert stored().limit_in(2, limit) == limit
    assert stored().limit_of_attempt(limit) == limit
