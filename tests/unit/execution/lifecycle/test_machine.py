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
    UnattendedStop,
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

    stop = UnattendedStop(polysync_conn_id="aws")
    task_try = replace(before.task_try, unattended_stop=stop)
    before = replace(before, task_try=task_try)

    instruction = after(before, Prepared(REQUEST, "eu-west-1"))

    assert instruction.command is Command.START
    assert instruction.store is Store.WRITE
    assert instruction.description is None
    assert instruction.record == ExecutionRecord(
        deployment="prod",
        epoch=2,
        incarnation=INCARNATION,
        region_name="eu-west-1",
        request=REQUEST,
        try_number=3,
        unattended_stop=stop,
    )


def test_arn_is_stored_before_the_wait() -> None:
    """The log has the ARN even if it cannot be stored."""
    instruction = follows(Command.START, UNKNOWN_ARN, Accepted(NOW, ARN), number=1)

    assert does(instruction) == (Command.WATCH, Store.WRITE, stored(try_number=1))
    assert instruction.started_at == NOW
    assert instruction.attempt_started_at is None
    text = f"Started: execution {ARN} (pipeline fanout)"
    assert lines_of(instruction)[0] == (INFO, text)


# "transient" and "repeated" stand for errors of the network, before and after a request
# that AWS may have accepted; "conflict" for the use of a token with other parameters.
REFUSALS = """
command           record       epoch  error                  next              store

START             UNKNOWN_ARN  2      ValidationException    FAIL              DELETE
START             UNKNOWN_ARN  2      transient              FAIL              KEEP
START             UNKNOWN_ARN  2      repeated               FAIL              KEEP
START             UNKNOWN_ARN  2      conflict               LOOK_UP_STARTED   KEEP
RESEND_START      UNKNOWN_ARN  2      conflict               LOOK_UP_STARTED   KEEP
RESEND_START      UNKNOWN_ARN  2      ValidationException    FAIL              DELETE
RESEND_START      UNKNOWN_ARN  2      ResourceNotFound       FAIL              DELETE
RESEND_START      UNKNOWN_ARN  2      AccessDeniedException  FAIL              KEEP
RESEND_START      UNKNOWN_ARN  3      ValidationException    PREPARE           DELETE
RESEND_START      UNKNOWN_ARN  3      ResourceLimitExceeded  FAIL              KEEP
DESCRIBE          STORED       2      AccessDeniedException  FAIL              KEEP
DESCRIBE          STORED       3      OtherAccount           FAIL              KEEP
DESCRIBE_STARTED  STORED       2      AccessDeniedException  WATCH             KEEP
DESCRIBE_RESUMED  RESUMED      2      transient              FAIL              KEEP
RESUME            RESUMED      2      transient              FAIL              KEEP
RESUME            RESUMED      2      ResourceLimitExceeded  FAIL              KEEP
RESUME            RESUMED      2      ValidationException    DESCRIBE_REFUSED  KEEP
RESEND_RESUME     RESUMED      2      AccessDeniedException  DESCRIBE_REFUSED  KEEP
PREPARE           STORED       2      ValidationException    FAIL              KEEP
STOP              STORED       2      AccessDeniedException  FAIL              KEEP
"""
_, *REFUSAL_ROWS = [tuple(line.split()) for line in REFUSALS.splitlines() if line]
RECORDS = {"UNKNOWN_ARN": UNKNOWN_ARN, "STORED": stored(), "RESUMED": resumed()}
REPEATED = refused("ValidationException", repeated=True)
CONFLICT = refused("ConflictException", transient=True)
ERRORS = {
    "transient": refused(transient=True),
    "repeated": REPEATED,
    "conflict": CONFLICT,
}


@pytest.mark.parametrize(
    ("command", "record", "epoch", "error", "following", "store"), REFUSAL_ROWS
)
def test_refused_request_fails_the_try_unless_another_way_is_left(
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


def test_line_about_a_refusal_says_which_execution_and_why() -> None:
    """They say which execution is concerned, why, and what follows."""
    refusal = refused("ValidationException")
    resume = follows(Command.RESUME, resumed(), refusal)
    start = follows(Command.RESEND_START, UNKNOWN_ARN, refusal, epoch=3)
    replaced = follows(Command.DESCRIBE_REFUSED, resumed(), described("Failed"))

    for command in (Command.START, Command.RESEND_START):
        looks = follows(command, UNKNOWN_ARN, CONFLICT)
        assert lines_of(looks) == [(WARNING, "AWS said no")]
    text = f"The execution cannot be resumed: AWS said no Execution: {ARN}"
    assert lines_of(resume) == [(WARNING, text)]
    text = "the earlier request did not start an execution: AWS said no"
    assert lines_of(start) == [(WARNING, f"Pipeline fanout: {text}")]
    text = "A new execution, which repeats every step, is started in place of execution"
    assert lines_of(replaced) == [(WARNING, f"{text} {ARN}")]


def test_start_keeps_what_it_replaces_until_aws_has_accepted_it() -> None:
    """The record of the new start has that of the execution before it."""
    prepared = follows(
        Command.DESCRIBE, stored(), Described(NOW, describe("Failed")), epoch=3
    )
    started = after(prepared, Prepared(REQUEST, "us-east-1"))
    accepted = after(started, Accepted(NOW, ARN))

    assert prepared.command is Command.PREPARE
    assert prepared.record is None
    assert started.command is Command.START
    assert started.store is Store.WRITE
    assert started.existing_record.replaces == stored(try_number=2)
    assert accepted.existing_record.replaces is None


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (Command.START, refused("ValidationException")),
        (Command.START, refused("ResourceLimitExceeded")),
        (Command.START, Killed()),
        (Command.RESEND_START, refused("ValidationException")),
    ],
)
@pytest.mark.parametrize("choice", [None, ClearChoice(on_clear="resume")])
def test_refused_start_leaves_what_was_there(
    command: Command, event: Event, choice: ClearChoice | None
) -> None:
    """
    A later clear resumes the execution that was not replaced, or does what the user
    chose while the record had the start. Nothing is left to stop.
    """
    start = edited(START_IN_PLACE, clear_choice=choice)

    instruction = follows(command, start, event)

    assert does(instruction) == (Command.FAIL, Store.RESTORE, None)
    assert instruction.restored == edited(REPLACED, try_number=2, clear_choice=choice)


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
    """
    For a minute; one warning says so. After it, nothing is started beside the execution
    in the same epoch, and the record stays.
    """
    record = DESCRIBES[command]
    instruction = at(command, record)
    asked = []
    for _ in range(12):
        instruction = after(instruction, UNKNOWN)
        assert instruction.command is command
        asked.append((instruction.delay, lines_of(instruction)))
    instruction = after(instruction, UNKNOWN)

    text = (
        "AWS does not know the execution, perhaps not yet. Asking again for 60 s: AWS"
        f" said no Execution: {ARN}"
    )
    assert asked == [(5, [(WARNING, text)]), *[(5, [])] * 11]
    assert does(instruction) == (Command.FAIL, Store.KEEP, record)
    assert instruction.delay == 0
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

    assert instruction.command is Command.PREPARE
    assert instruction.record is None
    assert instruction.replaced == record
    text = (
        "AWS does not know the execution of an earlier try: AWS said no A new one is"
        f" started in its place. Execution: {ARN}"
    )
    assert lines_of(instruction) == [(WARNING, text)]


def test_description_counts_the_next_answers_anew() -> None:
    """AWS may lag again later in the try."""
    instruction = replace(at(Command.DESCRIBE, stored()), times_unknown=12)

    assert after(instruction, described("Executing")).times_unknown == 0


def test_resent_start_describes_its_execution() -> None:
    """The execution may have been stopped meanwhile, or have ended."""
    instruction = follows(Command.RESEND_START, START_IN_PLACE, Accepted(NOW, ARN))

    assert does(instruction) == (Command.DESCRIBE, Store.WRITE, stored(try_number=3))
    assert lines_of(instruction) == [
        (INFO, f"Found by the earlier start request: execution {ARN}")
    ]


# ---- a kill


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Killed(), "The task was killed."),
        (Killed(is_shutdown=True), "The worker is shutting down, so this try ends."),
    ],
)
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
def test_kill_fails_the_try_and_keeps_the_record(
    command: Command, event: Killed, text: str
) -> None:
    """The retry decides by the record."""
    instruction = follows(command, stored(), event)

    assert does(instruction) == (Command.FAIL, Store.KEEP, stored())
    assert isinstance(instruction.error, PolysyncError)
    assert str(instruction.error) == text
    assert instruction.error.permanent is False
