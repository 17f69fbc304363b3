"""How a try begins: what it does with the record of the earlier tries."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from polysync_airflow.execution.lifecycle.decisions import is_of_other_incarnation
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    ClearChoice,
    Command,
    Described,
    ExecutionsListed,
    Store,
    UnattendedStop,
)
from polysync_airflow.execution.lifecycle.machine import after, begin
from tests.unit.execution.lifecycle.builders import (
    ARN,
    EARLIER,
    INCARNATION,
    RESUME_TOKEN,
    START_IN_PLACE,
    UNKNOWN_ARN,
    WAIT,
    describe,
    does,
    edited,
    lines_of,
    listed,
    make_try,
    stored,
)

INFO = logging.INFO
WARNING = logging.WARNING
LATER = EARLIER + timedelta(hours=1)


def test_try_takes_a_record_over_before_anything_else() -> None:
    """From then on, an earlier try that is still alive must not stop the execution."""
    stop = UnattendedStop(polysync_conn_id="aws")
    task_try = replace(make_try(3, 2), unattended_stop=stop)

    instruction = begin(task_try, stored())

    written = stored(try_number=3, unattended_stop=stop)
    assert does(instruction) == (Command.DESCRIBE, Store.WRITE, written)
    assert instruction.lines == ()


def test_record_of_the_same_try_is_not_written_again() -> None:
    """
    The try begins again, for example after the end of an execution that it waited for.
    """
    instruction = begin(make_try(2, 2), stored())

    assert does(instruction) == (Command.DESCRIBE, Store.KEEP, stored())


@pytest.mark.parametrize("number", [2, 3])
def test_request_without_an_arn_is_looked_up_and_sent_again(number: int) -> None:
    """The earlier try may have sent it, and AWS may have forgotten its token."""
    instruction = begin(make_try(number, 2), UNKNOWN_ARN)
    again = after(instruction, ExecutionsListed("fanout", [listed(2, 1)]))

    assert instruction.command is Command.LOOK_UP
    assert instruction.store is (Store.KEEP if number == 2 else Store.WRITE)
    assert does(again) == (Command.RESEND_START, Store.KEEP, instruction.record)
    assert [*instruction.lines, *again.lines] == [
        (
            WARNING,
            "Pipeline fanout: an earlier try sent a start request and did not receive the ARN.",
        ),
        (
            INFO,
            (
                "AWS lists no execution of that request. Sending it again with the"
                " same client token, so that AWS starts no second execution."
            ),
        ),
    ]


def test_execution_of_a_request_without_an_arn_is_found_by_its_name() -> None:
    """Then it does not matter how long AWS remembers tokens."""
    instruction = after(
        begin(make_try(3, 2), START_IN_PLACE),
        ExecutionsListed("fanout", [listed(2, 1, "a"), listed(2, 0, "b")]),
    )

    written = stored(try_number=3, execution_arn=f"{ARN}b")
    assert does(instruction) == (Command.DESCRIBE, Store.WRITE, written)
    assert lines_of(instruction) == [
        (INFO, f"Found by the name of the earlier start request: execution {ARN}b")
    ]


# ---- what a user chose for a clear


RESUME_IN_2 = ClearChoice(on_clear="resume", epoch=2)


@pytest.mark.parametrize(
    ("chosen_for", "epoch", "expected"),
    [
        (None, 3, {"clear_choice": ClearChoice(on_clear="resume", epoch=3)}),
        # ``retries`` was lowered, so that the clear has not changed ``max_tries``.
        (None, 2, {"clear_choice": RESUME_IN_2, "epoch": NO_EPOCH}),
        # A retry, before which nothing could be resumed.
        (3, 3, {"clear_choice": ClearChoice(on_clear="resume", epoch=3)}),
        # One that has the execution already.
        (2, 2, {"clear_choice": RESUME_IN_2}),
        # An earlier clear.
        (3, 4, {"clear_choice": None}),
    ],
    ids=["clear", "same max_tries", "retry", "second retry", "another clear"],
)
def test_choice_counts_for_one_clear(
    chosen_for: int | None, epoch: int, expected: dict[str, Any]
) -> None:
    """
    The first try of the clear binds the choice to its epoch, and a later clear drops
    it.
    """
    record = stored(clear_choice=ClearChoice(on_clear="resume", epoch=chosen_for))

    instruction = begin(make_try(3, epoch), record)

    written = stored(try_number=3, **expected)
    assert does(instruction) == (Command.DESCRIBE, Store.WRITE, written)


@pytest.mark.parametrize("resume", [{}, {"resumes": 1, "resume_token": RESUME_TOKEN}])
def test_choice_ends_with_the_resume_that_it_asked_for(resume: dict[str, Any]) -> None:
    """What fails after it is for ``retry_mode``, or for the next clear."""
    record = stored(clear_choice=ClearChoice(on_clear="resume"), **resume)

    description = Described(EARLIER, describe("Failed"))
    instruction = after(begin(make_try(3, 3), record), description)

    assert instruction.command is (Command.RESEND_RESUME if resume else Command.RESUME)
    assert instruction.existing_record.epoch == 3
    assert instruction.existing_record.clear_choice is None
    assert instruction.store is Store.WRITE


@pytest.mark.parametrize("status", ["Executing", "Succeeded"])
def test_choice_to_resume_takes_over_what_was_resumed_elsewhere(status: str) -> None:
    """
    The execution is neither stopped nor replaced, and a retry of this clear goes on
    with it.
    """
    record = stored(clear_choice=ClearChoice(on_clear="resume"))
    description = Described(EARLIER, describe(status))

    for waiting in ({}, {"capacity": WAIT}):
        begun = begin(make_try(3, 3), edited(record, **waiting))
        instruction = after(begun, description)

        resumed_at = EARLIER if waiting else None
        written = stored(epoch=3, try_number=3, resumed_at=resumed_at)
        assert does(instruction) == (Command.WATCH, Store.WRITE, written)


# ---- a DAG run that was deleted and comes again, and the passes of a loop


@pytest.mark.parametrize(
    ("changes", "number", "is_other"),
    [
        ({}, 3, False),
        # A retry never has the number of an earlier try, but a task begins again after
        # a deferral.
        ({}, 2, False),
        ({"dag_run_started_at": LATER}, 1, True),
        ({"dag_run_started_at": LATER}, 2, True),
        # A user has queued the running DAG run again, or the first try of a new one has
        # died early.
        ({"dag_run_started_at": LATER}, 3, True),
        # The DAG run was cleared after its end.
        ({"dag_run_started_at": LATER, "clear_number": 1}, 3, False),
        # It was created again, and cleared before this task began.
        ({"dag_run_started_at": LATER, "clear_number": 1}, 1, True),
        ({"dag_run_started_at": LATER, "clear_number": 1}, 2, True),
        # Another task of the running DAG run was cleared.
        ({"clear_number": 1}, 3, False),
        ({"region": "7/1"}, 1, True),
        ({"region": "7/1"}, 3, True),
    ],
)
def test_record_of_another_incarnation_is_told_by_start_and_number(
    changes: dict[str, Any], number: int, is_other: bool
) -> None:
    """The start of the DAG run tells two of them apart, and a clear changes it, too."""
    incarnation = INCARNATION.model_copy(update=changes)

    assert is_of_other_incarnation(stored(), incarnation, number) is is_other


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    ("record", "command"),
    [(stored(), Command.DESCRIBE), (UNKNOWN_ARN, Command.LOOK_UP)],
)
def test_record_of_another_incarnation_loses_its_epoch(
    record: Any, command: Command, number: int
) -> None:
    """
    The execution is neither continued nor resumed, but must end before another one is
    started.
    """
    again = edited(INCARNATION, dag_run_started_at=LATER)

    chosen = edited(record, clear_choice=ClearChoice(on_clear="resume"))
    instruction = begin(make_try(number, 2, again, on_clear="resume"), chosen)

    assert instruction.command is command
    assert instruction.store is Store.WRITE
    changes = {"epoch": NO_EPOCH, "replaced_by_epoch": 2, "incarnation": again}
    assert instruction.record == edited(record, try_number=number, **changes)
    foreign, *others = instruction.lines
    assert foreign.level == WARNING
    assert len(others) == (1 if command is Command.LOOK_UP else 0)
    assert foreign.text == (
        "The record is that of an earlier task instance with the same key, for example"
        " of a DAG run that was deleted and created again. Its execution is not"
        " continued."
    )
