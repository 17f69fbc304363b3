"""
The life of an execution: how a try begins, which instruction follows from what happens,
and what is stored before it.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.lifecycle.decisions import (
    is_being_stopped,
    is_of_other_incarnation,
)
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    Accepted,
    ClearChoice,
    Command,
    Described,
    Event,
    ExecutionRecord,
    ExecutionsListed,
    Killed,
    Prepared,
    Started,
    Store,
    UnattendedStop,
)
from polysync_airflow.execution.lifecycle.machine import begin
from tests.unit.execution.lifecycle.builders import (
    ARN,
    EARLIER,
    INCARNATION,
    LIMITS,
    NOW,
    REPLACED,
    REQUEST,
    RESUME_TOKEN,
    START_IN_PLACE,
    START_TOKEN,
    UNKNOWN_ARN,
    WAIT,
    WRITTEN,
    after,
    at,
    describe,
    described,
    does,
    edited,
    follows,
    lines_of,
    listed,
    make_try,
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
    before = at(Command.PREPARE, None)
    stop = UnattendedStop(polysync_conn_id="aws")
    task_try = replace(before.task_try, unattended_stop=stop)
    before = replace(before, task_try=task_try)

    instruction = after(before, Prepared(REQUEST, "eu-west-1"))

    assert instruction.command is Command.START
    assert instruction.store == instruction.record
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
    instruction = follows(Command.START, UNKNOWN_ARN, Started(NOW, ARN), number=1)

    assert does(instruction) == (Command.WATCH, WRITTEN, stored(try_number=1))
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
PREPARE           NONE         2      ValidationException    FAIL              KEEP
STOP              STORED       2      AccessDeniedException  FAIL              KEEP
"""
_, *REFUSAL_ROWS = [tuple(line.split()) for line in REFUSALS.splitlines() if line]
RECORDS = {
    "NONE": None,
    "UNKNOWN_ARN": UNKNOWN_ARN,
    "STORED": stored(),
    "RESUMED": resumed(),
}
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
    if following == "FAIL":
        assert instruction.error is refusal.error


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
    accepted = after(started, Started(NOW, ARN))

    assert prepared.command is Command.PREPARE
    assert prepared.record is None
    assert started.command is Command.START
    assert started.store == started.record
    assert started.record.replaces == stored(try_number=2)
    assert accepted.record.replaces is None


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

    restored = edited(REPLACED, try_number=2, clear_choice=choice)
    assert does(instruction) == (Command.FAIL, restored, None)


def test_record_with_a_wrong_replacement_is_damaged() -> None:
    """Users can edit it."""
    for record, replaces, problem in (
        (stored(), REPLACED, "replaces must not be set once"),
        (UNKNOWN_ARN, UNKNOWN_ARN, "replaces must have an execution_arn"),
    ):
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
    instruction = follows(Command.RESEND_START, START_IN_PLACE, Started(NOW, ARN))

    assert does(instruction) == (Command.DESCRIBE, WRITTEN, stored(try_number=3))
    assert lines_of(instruction) == [
        (INFO, f"Found by the earlier start request: execution {ARN}")
    ]


# ---- a kill


def test_kill_fails_the_try_and_keeps_the_record() -> None:
    """The retry decides by the record."""
    for event, text in (
        (Killed(), "The task was killed."),
        (Killed(is_shutdown=True), "The worker is shutting down, so this try ends."),
    ):
        for command, record in (
            (Command.PREPARE, None),
            (Command.RESEND_START, UNKNOWN_ARN),
            (Command.RESUME, stored()),
            (Command.RESEND_RESUME, stored()),
            (Command.WATCH, stored()),
        ):
            instruction = follows(command, record, event)

            assert does(instruction) == (Command.FAIL, Store.KEEP, record)
            assert isinstance(instruction.error, PolysyncError)
            assert str(instruction.error) == text
            assert instruction.error.permanent is False


LATER = EARLIER + timedelta(hours=1)


def test_try_takes_a_record_over_before_anything_else() -> None:
    """From then on, an earlier try that is still alive must not stop the execution."""
    stop = UnattendedStop(polysync_conn_id="aws")
    task_try = replace(make_try(3, 2), unattended_stop=stop)

    instruction = begin(task_try, stored())

    written = stored(try_number=3, unattended_stop=stop)
    assert does(instruction) == (Command.DESCRIBE, WRITTEN, written)
    assert instruction.lines == ()


@pytest.mark.parametrize(("number", "store"), [(2, Store.KEEP), (3, WRITTEN)])
def test_request_without_an_arn_is_looked_up_and_sent_again(
    number: int, store: object
) -> None:
    """The earlier try may have sent it, and AWS may have forgotten its token."""
    instruction = begin(make_try(number, 2), UNKNOWN_ARN)
    again = after(instruction, ExecutionsListed("fanout", [listed(2, 1)]))

    assert does(instruction)[:2] == (Command.LOOK_UP, store)
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
    assert does(instruction) == (Command.DESCRIBE, WRITTEN, written)
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
    assert does(instruction) == (Command.DESCRIBE, WRITTEN, written)


@pytest.mark.parametrize(
    ("resume", "command"),
    [
        ({}, Command.RESUME),
        ({"resumes": 1, "resume_token": RESUME_TOKEN}, Command.RESEND_RESUME),
    ],
)
def test_choice_ends_with_the_resume_that_it_asked_for(
    resume: dict[str, Any], command: Command
) -> None:
    """What fails after it is for ``retry_mode``, or for the next clear."""
    record = stored(clear_choice=ClearChoice(on_clear="resume"), **resume)

    description = Described(EARLIER, describe("Failed"))
    instruction = after(begin(make_try(3, 3), record), description)

    assert instruction.command is command
    assert instruction.record.epoch == 3
    assert instruction.record.clear_choice is None
    assert instruction.store == instruction.record


@pytest.mark.parametrize("status", ["Executing", "Succeeded"])
def test_choice_to_resume_takes_over_what_was_resumed_elsewhere(status: str) -> None:
    """
    The execution is neither stopped nor replaced, and a retry of this clear goes on
    with it.
    """
    record = stored(clear_choice=ClearChoice(on_clear="resume"))
    description = Described(EARLIER, describe(status))

    for waiting, resumed_at in (({}, None), ({"capacity": WAIT}, EARLIER)):
        begun = begin(make_try(3, 3), edited(record, **waiting))
        instruction = after(begun, description)

        written = stored(epoch=3, try_number=3, resumed_at=resumed_at)
        assert does(instruction) == (Command.WATCH, WRITTEN, written)


# ---- a DAG run that was deleted and comes again, and the passes of a loop


def test_record_of_another_incarnation_is_told_by_start_and_number() -> None:
    """The start of the DAG run tells two of them apart, and a clear changes it, too."""
    for changes, number, is_other in (
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
    ):
        incarnation = INCARNATION.model_copy(update=changes)

        assert is_of_other_incarnation(stored(), incarnation, number) is is_other


@pytest.mark.parametrize(
    ("record", "command"),
    [(stored(), Command.DESCRIBE), (UNKNOWN_ARN, Command.LOOK_UP)],
)
def test_record_of_another_incarnation_loses_its_epoch(
    record: Any, command: Command
) -> None:
    """
    The execution is neither continued nor resumed, but must end before another one is
    started.
    """
    again = edited(INCARNATION, dag_run_started_at=LATER)

    chosen = edited(record, clear_choice=ClearChoice(on_clear="resume"))
    instruction = begin(make_try(1, 2, again, on_clear="resume"), chosen)

    assert instruction.command is command
    assert instruction.store == instruction.record
    changes = {"epoch": NO_EPOCH, "replaced_by_epoch": 2, "incarnation": again}
    assert instruction.record == edited(record, try_number=1, **changes)
    foreign, *others = instruction.lines
    assert foreign.level == WARNING
    assert len(others) == (1 if command is Command.LOOK_UP else 0)
    assert foreign.text == (
        "The record is that of an earlier task instance with the same key, for example"
        " of a DAG run that was deleted and created again. Its execution is not"
        " continued."
    )


# ---- the execution of an earlier try


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
    assert instruction.store == instruction.record
    assert instruction.record == resumed(resumed_at=NOW, try_number=3)
    (line,) = instruction.lines
    assert line.text.startswith("Reattached to ")
    assert instruction.attempt_started_at == NOW


def test_cleared_task_replaces_a_running_execution() -> None:
    """
    It is marked before it is stopped: a retry must not resume it if it fails while it
    stops.
    """
    for status, stop_on_kill, command, store in (
        ("Executing", True, Command.STOP, WRITTEN),
        ("Stopping", True, Command.WAIT_FOR_END, WRITTEN),
        ("Executing", False, Command.WAIT_FOR_END, Store.KEEP),
    ):
        instruction = follows(
            Command.DESCRIBE,
            stored(),
            described(status),
            epoch=3,
            stop_on_kill=stop_on_kill,
        )

        assert does(instruction)[:2] == (command, store)
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


def test_limit_stops_nothing_that_is_being_stopped() -> None:
    """The try has stopped what it waits for, or somebody else has."""
    for stop_on_kill, description, is_stopped in (
        (True, describe("Executing"), True),
        (False, describe("Executing"), False),
        (False, describe("Stopping"), True),
        (False, None, False),
    ):
        instruction = at(Command.WAIT_FOR_END, stored(), stop_on_kill=stop_on_kill)
        instruction = replace(instruction, description=description)

        assert is_being_stopped(instruction) is is_stopped


# ---- a resume


def resume_of(record: ExecutionRecord, *, epoch: int = 2, **options: Any) -> Any:
    """Return the instruction after the description of a failed execution."""
    return follows(
        Command.DESCRIBE, record, described("Failed"), epoch=epoch, **options
    )


def test_token_and_epoch_are_stored_before_the_resume() -> None:
    """What belonged to the attempt before is forgotten."""
    before = stored(stop_requested_by=1, epoch=1)

    instruction = resume_of(before, on_clear="resume")

    assert instruction.command is Command.RESUME
    assert instruction.store == instruction.record
    token = instruction.record.resume_token
    assert token not in (None, START_TOKEN)
    attempt = {"resumes": 1, "resume_token": token, "stop_requested_by": None}
    assert instruction.record == edited(before, **attempt, epoch=2, try_number=3)


def test_each_resume_has_a_token_of_its_own() -> None:
    """
    It follows from the start token, the number and the try, so that a try that is
    repeated sends the same one.
    """
    first = resume_of(stored(), retry_mode="resume").record
    second = resume_of(edited(first, resumed_at=NOW), retry_mode="resume").record
    request = edited(REQUEST, client_request_token="x" * 32)
    other = resume_of(stored(request=request), retry_mode="resume").record

    assert first == resume_of(stored(), retry_mode="resume").record
    name = f"{START_TOKEN} resume 1 of try 3"
    assert first.resume_token == f"polysync-{uuid.uuid5(uuid.NAMESPACE_OID, name)}"
    assert (second.resumes, second.resumed_at) == (2, None)
    # If a record was lost, nobody knows how many resumes there were.
    forgotten = resume_of(stored(), number=4, retry_mode="resume").record
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

    assert does(instruction) == (Command.RESUME, WRITTEN, resumed(try_number=3))
    assert waiting.command is Command.WAIT_FOR_CAPACITY
    assert not waiting.record.waits_for_capacity
    assert waiting_first.record.waits_for_capacity


def test_accepted_resume_is_watched_from_then_on() -> None:
    """Its attempt begins now, whatever AWS said of the attempt before."""
    before = resume_of(stored(), retry_mode="resume")

    instruction = after(before, Accepted(NOW))

    assert instruction.command is Command.WATCH
    assert instruction.store == instruction.record
    assert instruction.description is None
    assert instruction.record == edited(before.record, resumed_at=NOW)
    assert instruction.attempt_started_at == NOW
    assert lines_of(instruction) == [(INFO, f"Resumed (resume 1): execution {ARN}")]


def test_resume_from_before_a_clear_is_settled_first() -> None:
    """
    A process that was frozen may still send it, so it is sent before something else is
    decided.
    """
    for on_clear, status, command, resumes in (
        # If AWS had accepted it and it has failed since, the user wants the failed
        # steps to run now.
        ("resume", "Failed", Command.RESUME, 2),
        ("resume", "Executing", Command.WATCH, 1),
        ("resume", "Succeeded", Command.WATCH, 1),
        # It is not wanted any more.
        ("new", "Executing", Command.STOP, 1),
        ("new", "Failed", Command.PREPARE, 1),
    ):
        is_wanted = on_clear == "resume"
        again = resume_of(resumed(epoch=1), on_clear=on_clear)
        # Written although nothing may change, so that Airflow refuses it to a try that it
        # has replaced.
        epoch = 2 if is_wanted else 1
        written = resumed(epoch=epoch, try_number=3)
        assert does(again) == (Command.RESEND_RESUME, WRITTEN, written)
        accepted = after(again, Accepted(NOW))
        look = Command.DESCRIBE_RESUMED if is_wanted else Command.DESCRIBE
        written = edited(written, resumed_at=NOW)
        assert does(accepted) == (look, WRITTEN, written)

        instruction = after(accepted, described(status))

        assert instruction.command == command
        record = instruction.record or instruction.replaced
        assert record.resumes == resumes
        if command is Command.WATCH:
            text = f"Resumed (resume 1): execution {ARN}"
            assert lines_of(instruction) == [(INFO, text)]
            assert instruction.description == describe(status)
