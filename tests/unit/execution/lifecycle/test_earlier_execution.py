"""What a try does with the execution of an earlier one, and with a resume."""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from typing import Any

import pytest

from polysync_airflow.execution.lifecycle.decisions import is_being_stopped
from polysync_airflow.execution.lifecycle.instructions import (
    Accepted,
    Command,
    ExecutionRecord,
    Instruction,
    Store,
)
from polysync_airflow.execution.lifecycle.machine import after
from polysync_airflow.execution.models import ExecutionDescription
from tests.unit.execution.lifecycle.builders import (
    ARN,
    EARLIER,
    LIMITS,
    NOW,
    REQUEST,
    START_TOKEN,
    at,
    describe,
    described,
    does,
    edited,
    follows,
    lines_of,
    refused,
    resumed,
    stored,
)

# ---- the execution of an earlier try

INFO = logging.INFO
WARNING = logging.WARNING


def test_running_execution_is_waited_for() -> None:
    """The wait goes on where the earlier try left it."""
    instruction = follows(Command.DESCRIBE, stored(), described("Executing"))

    assert does(instruction) == (Command.WATCH, Store.KEEP, stored())
    assert instruction.description == describe("Executing")
    assert instruction.started_at == describe("Executing").created_at
    assert instruction.attempt_started_at == EARLIER
    text = (
        "Reattached to the execution of an earlier try (AWS status Executing); no new"
        f" one is started: execution {ARN}"
    )
    assert lines_of(instruction) == [(INFO, text)]


def test_pending_resume_of_a_running_execution_was_accepted() -> None:
    """
    The earlier try did not receive the response, so this one stores that there was one.
    """
    instruction = follows(Command.DESCRIBE, resumed(), described("Executing"))

    assert instruction.command is Command.WATCH
    assert instruction.store is Store.WRITE
    assert instruction.record == resumed(resumed_at=NOW, try_number=3)
    (line,) = instruction.lines
    assert line.text.startswith("Reattached to ")
    assert instruction.attempt_started_at == NOW


@pytest.mark.parametrize(
    ("status", "stop_on_kill", "command", "store"),
    [
        ("Executing", True, Command.STOP, Store.WRITE),
        ("Stopping", True, Command.WAIT_FOR_END, Store.WRITE),
        ("Executing", False, Command.WAIT_FOR_END, Store.KEEP),
    ],
)
def test_cleared_task_replaces_a_running_execution(
    status: str, stop_on_kill: bool, command: Command, store: Store
) -> None:
    """
    It is marked before it is stopped: a retry must not resume it if it fails while it
    stops.
    """
    instruction = follows(
        Command.DESCRIBE,
        stored(),
        described(status),
        epoch=3,
        stop_on_kill=stop_on_kill,
    )

    assert instruction.command is command
    assert instruction.store is store
    marked = stored(replaced_by_epoch=3, try_number=3)
    assert instruction.record == (marked if stop_on_kill else stored())
    note = "" if stop_on_kill else "; stop_on_kill=False keeps it running"
    text = (
        f"The execution of an earlier try has not ended (AWS status {status}). A new"
        f" one starts after its end{note}: execution {ARN}"
    )
    assert lines_of(instruction) == [(WARNING, text)]


def test_group_of_steps_goes_on_with_a_running_execution() -> None:
    """Some of its steps were cleared, which is decided after the end."""
    instruction = follows(
        Command.DESCRIBE, stored(), described("Executing"), epoch=3, stop_on_clear=False
    )

    assert does(instruction) == (Command.WAIT_FOR_END, Store.KEEP, stored())
    (line,) = instruction.lines
    assert line.text == (
        "The execution of an earlier try has not ended (AWS status Executing). The"
        f" task goes on with it after its end: execution {ARN}"
    )


@pytest.mark.parametrize(
    ("stop_on_kill", "description", "is_stopped"),
    [
        (True, describe("Executing"), True),
        (False, describe("Executing"), False),
        (False, describe("Stopping"), True),
        (False, None, False),
    ],
)
def test_limit_stops_nothing_that_is_being_stopped(
    stop_on_kill: bool, description: ExecutionDescription | None, is_stopped: bool
) -> None:
    """The try has stopped what it waits for, or somebody else has."""
    instruction = at(Command.WAIT_FOR_END, stored(), stop_on_kill=stop_on_kill)
    instruction = replace(instruction, description=description)

    assert is_being_stopped(instruction) is is_stopped


# ---- a resume


def resume_of(
    record: ExecutionRecord, *, epoch: int = 2, **options: Any
) -> Instruction:
    """Return the instruction after the description of a failed execution."""
    return follows(
        Command.DESCRIBE, record, described("Failed"), epoch=epoch, **options
    )


def test_token_and_epoch_are_stored_before_the_resume() -> None:
    """What belonged to the attempt before is forgotten."""
    before = stored(stop_requested_by=1, epoch=1)

    instruction = resume_of(before, on_clear="resume")

    assert instruction.command is Command.RESUME
    assert instruction.store is Store.WRITE
    token = instruction.existing_record.resume_token
    assert token not in (None, START_TOKEN)
    attempt = {"resumes": 1, "resume_token": token, "stop_requested_by": None}
    assert instruction.record == edited(before, **attempt, epoch=2, try_number=3)


def test_each_resume_has_a_token_of_its_own() -> None:
    """
    It follows from the start token, the number and the try, so that a try that is
    repeated sends the same one.
    """
    first = resume_of(stored(), retry_mode="resume").existing_record
    second = resume_of(
        edited(first, resumed_at=NOW), retry_mode="resume"
    ).existing_record
    request = edited(REQUEST, client_request_token="x" * 32)
    other = resume_of(stored(request=request), retry_mode="resume").existing_record

    assert first == resume_of(stored(), retry_mode="resume").existing_record
    name = f"{START_TOKEN} resume 1 of try 3"
    assert first.resume_token == f"polysync-{uuid.uuid5(uuid.NAMESPACE_OID, name)}"
    assert (second.resumes, second.resumed_at) == (2, None)
    # If a record was lost, nobody knows how many resumes there were.
    forgotten = resume_of(stored(), number=4, retry_mode="resume").existing_record
    assert len({each.resume_token for each in (first, second, other, forgotten)}) == 4


def test_pending_resume_is_sent_again_with_its_token() -> None:
    """
    AWS resumes once, however often the request is sent. It may have accepted the
    request of the earlier try, also if it refuses this one for a quota.
    """
    instruction = resume_of(resumed(), capacity=LIMITS)
    waiting = after(instruction, refused("ResourceLimitExceeded"))
    first = resume_of(stored(), retry_mode="resume", capacity=LIMITS)
    waiting_first = after(first, refused("ResourceLimitExceeded"))

    assert does(instruction) == (Command.RESUME, Store.WRITE, resumed(try_number=3))
    assert waiting.command is Command.WAIT_FOR_CAPACITY
    assert not waiting.existing_record.waits_for_capacity
    assert waiting_first.existing_record.waits_for_capacity


def test_accepted_resume_is_watched_from_then_on() -> None:
    """Its attempt begins now, whatever AWS said of the attempt before."""
    before = resume_of(stored(), retry_mode="resume")

    instruction = after(before, Accepted(NOW))

    assert instruction.command is Command.WATCH
    assert instruction.store is Store.WRITE
    assert instruction.description is None
    assert instruction.record == edited(before.existing_record, resumed_at=NOW)
    assert instruction.attempt_started_at == NOW
    assert lines_of(instruction) == [(INFO, f"Resumed (resume 1): execution {ARN}")]


@pytest.mark.parametrize(
    ("status", "command", "resumes"),
    [
        ("Failed", Command.RESUME, 2),
        ("Executing", Command.WATCH, 1),
        ("Succeeded", Command.WATCH, 1),
    ],
)
def test_resume_from_before_a_clear_is_settled_first(
    status: str, command: Command, resumes: int
) -> None:
    """
    If AWS had accepted it and it has failed since, the user wants the failed steps to
    run now.
    """
    again = resume_of(resumed(epoch=1), on_clear="resume")
    assert again.command == Command.RESEND_RESUME
    assert again.record == resumed(epoch=2, try_number=3)
    accepted = after(again, Accepted(NOW))
    assert accepted.command is Command.DESCRIBE_RESUMED
    assert accepted.store is Store.WRITE
    assert accepted.existing_record.resumed_at == NOW

    instruction = after(accepted, described(status))

    assert instruction.command == command
    assert instruction.existing_record.resumes == resumes
    if command is Command.RESUME:
        assert instruction.lines == ()
        return
    assert lines_of(instruction) == [(INFO, f"Resumed (resume 1): execution {ARN}")]
    assert instruction.description == describe(status)


@pytest.mark.parametrize(
    ("status", "command"), [("Executing", Command.STOP), ("Failed", Command.PREPARE)]
)
def test_resume_that_is_not_wanted_any_more_is_settled_and_stopped(
    status: str, command: Command
) -> None:
    """
    A process that was frozen may still send it, so it is sent before something else is
    started.
    """
    again = resume_of(resumed(epoch=1))
    # Written although nothing changes, so that Airflow refuses it to a try that it has
    # replaced.
    assert again.command is Command.RESEND_RESUME
    assert again.store is Store.WRITE
    assert again.record == resumed(epoch=1, try_number=3)
    accepted = after(again, Accepted(NOW))
    assert accepted.command is Command.DESCRIBE
    assert accepted.store is Store.WRITE
    assert accepted.record == resumed(epoch=1, try_number=3, resumed_at=NOW)

    assert after(accepted, described(status)).command is command


def test_record_is_missed_where_there_must_be_one() -> None:
    """An instruction about an execution without a record is an error of the core."""
    with pytest.raises(LookupError, match=r"Command.DESCRIBE has no record"):
        _ = at(Command.DESCRIBE, None).existing_record
