"""
The life of an execution: which instruction follows from what happens, and what is
stored before it.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from pydantic import ValidationError

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.lifecycle.instructions import (
    Accepted,
    ClearChoice,
    Command,
    Described,
    Event,
    ExecutionRecord,
    Killed,
    Prepared,
    Store,
)
from polysync_airflow.execution.lifecycle.machine import after
from tests.unit.execution.lifecycle.builders import (
    ARN,
    INCARNATION,
    NOW,
    REPLACED,
    REQUEST,
    START_IN_PLACE,
    UNKNOWN_ARN,
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

# ---- a start

INFO = logging.INFO
WARNING = logging.WARNING


def test_request_is_stored_before_it_is_sent() -> None:
    """
    Write ahead: the record has the request with its token, and neither an ARN nor a
    resume.
    """
    before = replace(at(Command.PREPARE, None), description=describe("Failed"))

    instruction = after(before, Prepared(REQUEST, "eu-west-1"))

    assert (instruction.command, instruction.store) == (Command.START, Store.WRITE)
    assert instruction.description is None
    assert instruction.record == ExecutionRecord(
        deployment="prod",
        epoch=2,
        incarnation=INCARNATION,
        region_name="eu-west-1",
        request=REQUEST,
        try_number=3,
    )


def test_arn_is_stored_before_the_wait() -> None:
    """The log has the ARN even if it cannot be stored."""
    instruction = follows(Command.START, UNKNOWN_ARN, Accepted(NOW, ARN), number=1)

    assert (instruction.command, instruction.store) == (Command.WATCH, Store.WRITE)
    assert instruction.record == stored(try_number=1)
    assert (instruction.started_at, instruction.attempt_started_at) == (NOW, None)
    text = f"Started: execution {ARN} (pipeline fanout)"
    assert lines_of(instruction)[0] == (INFO, text)


# "transient" and "repeated" stand for errors of the network, before and after a request
# that AWS may have accepted.
REFUSALS = """
command           record       epoch  error                  next              store

START             UNKNOWN_ARN  2      ValidationException    FAIL              DELETE
START             UNKNOWN_ARN  2      transient              FAIL              KEEP
START             UNKNOWN_ARN  2      repeated               FAIL              KEEP
RESEND_START      UNKNOWN_ARN  2      ValidationException    FAIL              DELETE
RESEND_START      UNKNOWN_ARN  2      ResourceNotFound       FAIL              DELETE
RESEND_START      UNKNOWN_ARN  2      AccessDeniedException  FAIL              KEEP
RESEND_START      UNKNOWN_ARN  3      ValidationException    PREPARE           DELETE
RESEND_START      UNKNOWN_ARN  3      ResourceLimitExceeded  FAIL              KEEP
DESCRIBE          STORED       2      AccessDeniedException  FAIL              KEEP
DESCRIBE_RESUMED  RESUMED      2      transient              FAIL              KEEP
RESUME            RESUMED      2      transient              FAIL              KEEP
RESUME            RESUMED      2      ValidationException    DESCRIBE_REFUSED  KEEP
RESEND_RESUME     RESUMED      2      AccessDeniedException  DESCRIBE_REFUSED  KEEP
PREPARE           STORED       2      ValidationException    FAIL              KEEP
STOP              STORED       2      AccessDeniedException  FAIL              KEEP
"""
_, *REFUSAL_ROWS = [tuple(line.split()) for line in REFUSALS.splitlines() if line]
RECORDS = {"UNKNOWN_ARN": UNKNOWN_ARN, "STORED": stored(), "RESUMED": resumed()}
REPEATED = refused("ValidationException", repeated=True)
ERRORS = {"transient": refused(transient=True), "repeated": REPEATED}


@pytest.mark.parametrize(
    ("command", "record", "epoch", "error", "following", "store"), REFUSAL_ROWS
)
def test_refusal(
    command: str, record: str, epoch: str, error: str, following: str, store: str
) -> None:
    """
    A refused request fails the try with its error, unless another way is left; the
    record is kept if it is needed.
    """
    before = at(Command[command], RECORDS[record], epoch=int(epoch))
    refusal = ERRORS.get(error) or refused(error)

    instruction = after(before, refusal)

    is_forgotten = store == "DELETE" or following == "PREPARE"
    kept = None if is_forgotten else RECORDS[record]
    assert does(instruction) == (Command[following], Store[store], kept)
    fails = following == "FAIL"
    assert instruction.error is (refusal.error if fails else None)


def test_lines_about_refusals() -> None:
    """They say which execution is concerned, why, and what follows."""
    resume = follows(Command.RESUME, resumed(), refused("ValidationException"))
    start = follows(
        Command.RESEND_START, UNKNOWN_ARN, refused("ValidationException"), epoch=3
    )
    replaced = follows(Command.DESCRIBE_REFUSED, resumed(), described("Failed"))

    texts = [
        f"The execution cannot be resumed: AWS said no Execution: {ARN}",
        "Pipeline fanout: the earlier request did not start an execution: AWS said no",
        f"A new execution, which repeats every step, is started in place of execution {ARN}",
    ]
    for instruction, text in zip((resume, start, replaced), texts, strict=True):
        assert lines_of(instruction) == [(WARNING, text)]


def test_start_keeps_what_it_replaces_until_aws_has_accepted_it() -> None:
    """The record of the new start has that of the execution before it."""
    prepared = follows(
        Command.DESCRIBE, stored(), Described(NOW, describe("Failed")), epoch=3
    )
    started = after(prepared, Prepared(REQUEST, "us-east-1"))
    accepted = after(started, Accepted(NOW, ARN))

    assert (prepared.command, prepared.record) == (Command.PREPARE, None)
    assert (started.command, started.store) == (Command.START, Store.WRITE)
    assert started.existing_record.replaces == stored(try_number=2)
    assert accepted.existing_record.replaces is None


@pytest.mark.parametrize(
    ("command", "event", "next_command"),
    [
        (Command.START, refused("ValidationException"), Command.FAIL),
        (Command.START, refused("ResourceLimitExceeded"), Command.FAIL),
        (Command.START, Killed(), Command.FAIL),
        (Command.RESEND_START, refused("ValidationException"), Command.FAIL),
    ],
)
def test_refused_start_leaves_what_was_there(
    command: Command, event: Event, next_command: Command
) -> None:
    """
    A later clear resumes the execution that was not replaced. Nothing is left to stop.
    """
    instruction = follows(command, START_IN_PLACE, event)

    assert does(instruction) == (next_command, Store.RESTORE, None)
    assert instruction.restored == edited(REPLACED, try_number=2)


def test_choice_of_a_user_outlives_the_refused_start() -> None:
    """The user chose while the record had the start."""
    choice = ClearChoice(on_clear="resume")
    start = edited(START_IN_PLACE, clear_choice=choice)

    instruction = follows(Command.START, start, refused("ValidationException"))

    assert instruction.restored.clear_choice == choice


@pytest.mark.parametrize("repeated", [True, False])
def test_start_that_may_have_been_accepted_keeps_both(repeated: bool) -> None:
    """The next try sends it again."""
    refusal = refused(repeated=repeated, transient=not repeated)

    instruction = follows(Command.START, START_IN_PLACE, refusal)

    assert (instruction.record, instruction.store) == (START_IN_PLACE, Store.KEEP)


def test_clear_goes_on_with_what_the_refused_start_was_to_replace() -> None:
    """As if the start had never been requested."""
    instruction = follows(
        Command.RESEND_START, START_IN_PLACE, refused("ValidationException"), epoch=3
    )

    assert (instruction.command, instruction.store) == (Command.DESCRIBE, Store.WRITE)
    assert instruction.record == edited(REPLACED, try_number=3)


@pytest.mark.parametrize(
    ("record", "replaces", "problem"),
    [
        (stored(), REPLACED, "replaces must not be set once"),
        (UNKNOWN_ARN, UNKNOWN_ARN, "replaces must have an execution_arn"),
    ],
)
def test_record_with_a_wrong_replacement_is_damaged(
    record: ExecutionRecord, replaces: ExecutionRecord, problem: str
) -> None:
    """Users can edit it."""
    values = record.model_dump() | {"replaces": replaces.model_dump()}

    with pytest.raises(ValidationError, match=problem):
        ExecutionRecord.model_validate(values)


# ---- an execution that AWS does not know

DESCRIBES = {
    Command.DESCRIBE: stored(),
    Command.DESCRIBE_REFUSED: resumed(),
    Command.DESCRIBE_RESUMED: resumed(),
}
UNKNOWN = refused("ResourceNotFound")


@pytest.mark.parametrize("command", DESCRIBES)
def test_aws_is_asked_again_for_an_unknown_execution(command: Command) -> None:
    """For a minute; one warning says so."""
    instruction = at(command, DESCRIBES[command])
    asked = []
    while True:
        instruction = after(instruction, UNKNOWN)
        if instruction.command is not command:
            break
        asked.append((instruction.delay, len(instruction.lines)))

    assert asked == [(5, 1), *[(5, 0)] * 11]
    assert instruction.command is Command.FAIL


@pytest.mark.parametrize("command", DESCRIBES)
def test_nothing_is_started_beside_an_unknown_execution(command: Command) -> None:
    """In the same epoch. The record stays."""
    record = DESCRIBES[command]
    before = replace(at(command, record), times_unknown=12)

    instruction = after(before, UNKNOWN)

    assert does(instruction) == (Command.FAIL, Store.KEEP, record)
    assert str(instruction.error) == (
        "AWS said no The execution may run: nothing was started beside it. To start a"
        f" new execution, clear the task. Execution: {ARN}"
    )


@pytest.mark.parametrize("command", [Command.DESCRIBE, Command.DESCRIBE_REFUSED])
def test_clear_replaces_an_execution_that_aws_does_not_know(command: Command) -> None:
    """The user wants a new one; a warning names the old one."""
    record = DESCRIBES[command]
    instruction = replace(at(command, record, epoch=3), times_unknown=12)

    instruction = after(instruction, UNKNOWN)

    assert (instruction.command, instruction.record) == (Command.PREPARE, None)
    assert instruction.replaced == record
    assert lines_of(instruction) == [
        (
            WARNING,
            "AWS does not know the execution of an earlier try: AWS said no A new one"
            f" is started in its place. Execution: {ARN}",
        )
    ]


@pytest.mark.parametrize("epoch", [2, 3])
def test_execution_of_another_account_fails_also_a_cleared_task(epoch: int) -> None:
    """It may run where this connection cannot see it."""
    instruction = follows(
        Command.DESCRIBE, stored(), refused("OtherAccount"), epoch=epoch
    )

    assert (instruction.command, instruction.store) == (Command.FAIL, Store.KEEP)


def test_description_counts_the_next_answers_anew() -> None:
    """AWS may lag again later in the try."""
    instruction = replace(at(Command.DESCRIBE, stored()), times_unknown=12)

    assert after(instruction, described("Executing")).times_unknown == 0


def test_resent_start_describes_its_execution() -> None:
    """The execution may have been stopped meanwhile, or have ended."""
    instruction = follows(Command.RESEND_START, UNKNOWN_ARN, Accepted(NOW, ARN))

    assert does(instruction) == (Command.DESCRIBE, Store.WRITE, stored(try_number=3))
    assert lines_of(instruction) == [
        (INFO, f"Found by the earlier start request: execution {ARN}")
    ]


# ---- a kill


@pytest.mark.parametrize(
    "command",
    [
        Command.PREPARE,
        Command.RESEND_START,
        Command.RESUME,
        Command.RESEND_RESUME,
        Command.WATCH,
    ],
)
def test_kill_fails_the_try_and_keeps_the_record(command: Command) -> None:
    """The retry decides by the record."""
    instruction = follows(command, stored(), Killed())

    assert does(instruction) == (Command.FAIL, Store.KEEP, stored())
    assert isinstance(instruction.error, PolysyncError)
    assert str(instruction.error) == "The task was killed."
    assert instruction.error.permanent is False


@pytest.mark.parametrize("command", [Command.START, Command.WATCH])
def test_shutdown_of_the_worker_fails_the_try(command: Command) -> None:
    """The error says so, and Airflow's retries apply."""
    instruction = follows(command, stored(), Killed(is_shutdown=True))

    assert isinstance(instruction.error, PolysyncError)
    assert str(instruction.error) == "The worker is shutting down, so this try ends."
    assert instruction.error.permanent is False


def test_kill_before_the_start_deletes_the_record() -> None:
    """The request was not sent, so the next try must not send it."""
    instruction = follows(Command.START, UNKNOWN_ARN, Killed())

    assert does(instruction) == (Command.FAIL, Store.DELETE, None)
    assert str(instruction.error) == "The task was killed."
