"""
The life of an execution: which instruction follows from what happens, and what is
stored before it.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution.lifecycle.instructions import (
    Accepted,
    ClearChoice,
    Command,
    Described,
    Event,
    ExecutionRecord,
    Instruction,
    Killed,
    Prepared,
    Refused,
    Store,
)
from polysync_airflow.execution.lifecycle.machine import after
from tests.unit.execution.lifecycle.builders import (
    ARN,
    EARLIER,
    INCARNATION,
    NOW,
    REQUEST,
    START_TOKEN,
    describe,
    make_try,
    resumed,
    stored,
)

INFO, WARNING = logging.INFO, logging.WARNING
UNKNOWN_ARN = stored(execution_arn=None)


def refused(
    code: str = "InternalFailure", *, transient: bool = False, repeated: bool = False
) -> Refused:
    """Return the event of a request that AWS has refused."""
    error = SageMakerApiError(
        "AWS said no",
        error_code=code,
        operation="x",
        permanent=not transient,
        transient=transient,
    )
    return Refused(error, was_repeated=repeated)


def at(
    command: Command,
    record: ExecutionRecord | None,
    *,
    number: int = 3,
    epoch: int = 2,
    **options: Any,
) -> Instruction:
    """
    Return what a try is about to do. By default it is try 3, a retry of the try that
    stored the record.
    """
    return Instruction(command, make_try(number, epoch, **options), record)


def described(status: str) -> Described:
    """Return the event of a description."""
    return Described(NOW, describe(status))


# ---- a start


def test_request_is_stored_before_it_is_sent() -> None:
    """
    Write ahead: the record has the request with its token, and neither an ARN nor a
    resume.
    """
    before = replace(at(Command.PREPARE, None), description=describe("Failed"))

    instruction = after(before, Prepared(REQUEST, "eu-west-1"))

    assert (instruction.command, instruction.store, instruction.description) == (
        Command.START,
        Store.WRITE,
        None,
    )
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
    instruction = after(at(Command.START, UNKNOWN_ARN, number=1), Accepted(NOW, ARN))

    assert (instruction.command, instruction.store) == (Command.WATCH, Store.WRITE)
    assert instruction.record == stored(try_number=1)
    assert (instruction.started_at, instruction.attempt_started_at) == (NOW, None)
    assert instruction.lines[0].level == INFO
    assert instruction.lines[0].text == f"Started: execution {ARN} (pipeline fanout)"


# What is refused, and how: what the try does, and what becomes of the record.
REFUSALS: list[tuple[Command, ExecutionRecord, int, Refused, Command, Store]] = [
    # The only request was refused, so there is no execution.
    (
        Command.START,
        UNKNOWN_ARN,
        2,
        refused("ValidationException"),
        Command.FAIL,
        Store.DELETE,
    ),
    (Command.START, UNKNOWN_ARN, 2, refused(transient=True), Command.FAIL, Store.KEEP),
    (
        Command.START,
        UNKNOWN_ARN,
        2,
        refused("ValidationException", repeated=True),
        Command.FAIL,
        Store.KEEP,
    ),
    # An error about the request itself proves that AWS has never accepted it.
    (
        Command.RESEND_START,
        UNKNOWN_ARN,
        2,
        refused("ValidationException"),
        Command.FAIL,
        Store.DELETE,
    ),
    (
        Command.RESEND_START,
        UNKNOWN_ARN,
        2,
        refused("ResourceNotFound"),
        Command.FAIL,
        Store.DELETE,
    ),
    (
        Command.RESEND_START,
        UNKNOWN_ARN,
        2,
        refused("AccessDeniedException"),
        Command.FAIL,
        Store.KEEP,
    ),
    (
        Command.RESEND_START,
        UNKNOWN_ARN,
        3,
        refused("ValidationException"),
        Command.PREPARE,
        Store.DELETE,
    ),
    (
        Command.RESEND_START,
        UNKNOWN_ARN,
        3,
        refused("ResourceLimitExceeded"),
        Command.FAIL,
        Store.KEEP,
    ),
    (
        Command.DESCRIBE,
        stored(),
        2,
        refused("AccessDeniedException"),
        Command.FAIL,
        Store.KEEP,
    ),
    (
        Command.DESCRIBE_RESUMED,
        resumed(),
        2,
        refused(transient=True),
        Command.FAIL,
        Store.KEEP,
    ),
    (Command.RESUME, resumed(), 2, refused(transient=True), Command.FAIL, Store.KEEP),
    (
        Command.RESUME,
        resumed(),
        2,
        refused("ValidationException"),
        Command.DESCRIBE_REFUSED,
        Store.KEEP,
    ),
    (
        Command.RESEND_RESUME,
        resumed(),
        2,
        refused("AccessDeniedException"),
        Command.DESCRIBE_REFUSED,
        Store.KEEP,
    ),
    (
        Command.PREPARE,
        stored(),
        2,
        refused("ValidationException"),
        Command.FAIL,
        Store.KEEP,
    ),
    (
        Command.STOP,
        stored(),
        2,
        refused("AccessDeniedException"),
        Command.FAIL,
        Store.KEEP,
    ),
]


@pytest.mark.parametrize(
    ("command", "record", "epoch", "refusal", "next_command", "store"), REFUSALS
)
def test_refusal(
    command: Command,
    record: ExecutionRecord,
    epoch: int,
    refusal: Refused,
    next_command: Command,
    store: Store,
) -> None:
    """
    A refused request fails the try with its error, unless another way is left; the
    record is kept if it is needed.
    """
    instruction = after(at(command, record, epoch=epoch), refusal)

    assert (instruction.command, instruction.store) == (next_command, store)
    assert instruction.error is (
        refusal.error if next_command is Command.FAIL else None
    )
    assert instruction.record == (
        None if store is Store.DELETE or next_command is Command.PREPARE else record
    )


def test_lines_about_refusals() -> None:
    """They say which execution is concerned, why, and what follows."""
    resume = after(at(Command.RESUME, resumed()), refused("ValidationException"))
    start = after(
        at(Command.RESEND_START, UNKNOWN_ARN, epoch=3), refused("ValidationException")
    )
    replaced = after(at(Command.DESCRIBE_REFUSED, resumed()), described("Failed"))

    assert [
        (line.level, line.text)
        for instruction in (resume, start, replaced)
        for line in instruction.lines
    ] == [
        (WARNING, f"The execution cannot be resumed: AWS said no Execution: {ARN}"),
        (
            WARNING,
            "Pipeline fanout: the earlier request did not start an execution: AWS said no",
        ),
        (
            WARNING,
            f"A new execution, which repeats every step, is started in place of execution {ARN}",
        ),
    ]


REPLACED = stored(epoch=1, execution_arn=f"{ARN}1", try_number=1)
START_IN_PLACE = stored(execution_arn=None, replaces=REPLACED)


def test_start_keeps_what_it_replaces_until_aws_has_accepted_it() -> None:
    """The record of the new start has that of the execution before it."""
    prepared = after(
        at(Command.DESCRIBE, stored(), epoch=3), Described(NOW, describe("Failed"))
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
    instruction = after(at(command, START_IN_PLACE), event)

    assert (instruction.command, instruction.record, instruction.store) == (
        next_command,
        None,
        Store.RESTORE,
    )
    assert instruction.restored == REPLACED.model_copy(update={"try_number": 2})


def test_choice_of_a_user_outlives_the_refused_start() -> None:
    """The user chose while the record had the start."""
    choice = ClearChoice(on_clear="resume")
    start = START_IN_PLACE.model_copy(update={"clear_choice": choice})

    instruction = after(at(Command.START, start), refused("ValidationException"))

    assert instruction.restored.clear_choice == choice


@pytest.mark.parametrize("repeated", [True, False])
def test_start_that_may_have_been_accepted_keeps_both(repeated: bool) -> None:
    """The next try sends it again."""
    refusal = refused(repeated=repeated, transient=not repeated)

    instruction = after(at(Command.START, START_IN_PLACE), refusal)

    assert (instruction.record, instruction.store) == (START_IN_PLACE, Store.KEEP)


def test_clear_goes_on_with_what_the_refused_start_was_to_replace() -> None:
    """As if the start had never been requested."""
    instruction = after(
        at(Command.RESEND_START, START_IN_PLACE, epoch=3),
        refused("ValidationException"),
    )

    assert (instruction.command, instruction.store) == (Command.DESCRIBE, Store.WRITE)
    assert instruction.record == REPLACED.model_copy(update={"try_number": 3})


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
def test_aws_is_asked_again_for_an_execution_that_it_does_not_know(
    command: Command,
) -> None:
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
def test_nothing_is_started_beside_an_execution_that_aws_does_not_know(
    command: Command,
) -> None:
    """In the same epoch. The record stays."""
    record = DESCRIBES[command]
    instruction = replace(at(command, record), times_unknown=12)

    instruction = after(instruction, UNKNOWN)

    assert (instruction.command, instruction.record, instruction.store) == (
        Command.FAIL,
        record,
        Store.KEEP,
    )
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

    assert (instruction.command, instruction.record, instruction.replaced) == (
        Command.PREPARE,
        None,
        record,
    )
    assert [(line.level, line.text) for line in instruction.lines] == [
        (
            WARNING,
            "AWS does not know the execution of an earlier try: AWS said no A new one"
            f" is started in its place. Execution: {ARN}",
        )
    ]


@pytest.mark.parametrize("epoch", [2, 3])
def test_execution_of_another_account_fails_also_a_cleared_task(epoch: int) -> None:
    """It may run where this connection cannot see it."""
    instruction = after(
        at(Command.DESCRIBE, stored(), epoch=epoch), refused("OtherAccount")
    )

    assert (instruction.command, instruction.store) == (Command.FAIL, Store.KEEP)


def test_description_counts_the_next_answers_anew() -> None:
    """AWS may lag again later in the try."""
    instruction = replace(at(Command.DESCRIBE, stored()), times_unknown=12)

    assert after(instruction, described("Executing")).times_unknown == 0


def test_resent_start_describes_its_execution() -> None:
    """The execution may have been stopped meanwhile, or have ended."""
    instruction = after(at(Command.RESEND_START, UNKNOWN_ARN), Accepted(NOW, ARN))

    assert (instruction.command, instruction.store, instruction.record) == (
        Command.DESCRIBE,
        Store.WRITE,
        stored(try_number=3),
    )
    assert [(line.level, line.text) for line in instruction.lines] == [
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
    instruction = after(at(command, stored()), Killed())

    assert (instruction.command, instruction.store, instruction.record) == (
        Command.FAIL,
        Store.KEEP,
        stored(),
    )
    assert isinstance(instruction.error, PolysyncError)
    assert (str(instruction.error), instruction.error.permanent) == (
        "The task was killed.",
        False,
    )


@pytest.mark.parametrize("command", [Command.START, Command.WATCH])
def test_shutdown_of_the_worker_fails_the_try(command: Command) -> None:
    """The error says so, and Airflow's retries apply."""
    instruction = after(at(command, stored()), Killed(is_shutdown=True))

    assert isinstance(instruction.error, PolysyncError)
    assert (str(instruction.error), instruction.error.permanent) == (
        "The worker is shutting down, so this try ends.",
        False,
    )


def test_kill_before_the_start_deletes_the_record() -> None:
    """The request was not sent, so the next try must not send it."""
    instruction = after(at(Command.START, UNKNOWN_ARN), Killed())

    assert (instruction.command, instruction.store, instruction.record) == (
        Command.FAIL,
        Store.DELETE,
        None,
    )
    assert str(instruction.error) == "The task was killed."


# ---- the execution of an earlier try


def test_running_execution_is_waited_for() -> None:
    """The wait goes on where the earlier try left it."""
    instruction = after(at(Command.DESCRIBE, stored()), described("Executing"))

    assert (instruction.command, instruction.store, instruction.record) == (
        Command.WATCH,
        Store.KEEP,
        stored(),
    )
    assert instruction.description == describe("Executing")
    assert instruction.started_at == describe("Executing").created_at
    assert instruction.attempt_started_at == EARLIER
    assert [(line.level, line.text) for line in instruction.lines] == [
        (
            INFO,
            "Reattached to the execution of an earlier try (AWS status Executing); no new one is started: "
            f"execution {ARN}",
        )
    ]


def test_pending_resume_of_a_running_execution_was_accepted() -> None:
    """
    The earlier try did not receive the response, so this one stores that there was one.
    """
    instruction = after(at(Command.DESCRIBE, resumed()), described("Executing"))

    assert (instruction.command, instruction.store) == (Command.WATCH, Store.WRITE)
    assert instruction.record == resumed(resumed_at=NOW, try_number=3)
    assert [line.text.partition(" to ")[0] for line in instruction.lines] == [
        "Reattached"
    ]
    assert instruction.attempt_started_at == NOW


@pytest.mark.parametrize("record", [stored(), resumed(resumed_at=NOW)])
def test_execution_that_is_replaced_keeps_its_record_until_then(
    record: ExecutionRecord,
) -> None:
    """If the new request cannot be made, the next try decides as this one has."""
    instruction = after(at(Command.DESCRIBE, record), described("Failed"))

    assert (instruction.command, instruction.store, instruction.record) == (
        Command.PREPARE,
        Store.KEEP,
        None,
    )


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
    instruction = after(
        at(Command.DESCRIBE, stored(), epoch=3, stop_on_kill=stop_on_kill),
        described(status),
    )

    assert (instruction.command, instruction.store) == (command, store)
    marked = stored(replaced_by_epoch=3, try_number=3)
    assert instruction.record == (marked if stop_on_kill else stored())
    note = "" if stop_on_kill else "; stop_on_kill=False keeps it running"
    assert [(line.level, line.text) for line in instruction.lines] == [
        (
            WARNING,
            f"The execution of an earlier try has not ended (AWS status {status}). A new one starts after its "
            f"end{note}: execution {ARN}",
        )
    ]


def test_group_of_steps_goes_on_with_a_running_execution() -> None:
    """Some of its steps were cleared, which is decided after the end."""
    instruction = after(
        at(Command.DESCRIBE, stored(), epoch=3, stop_on_clear=False),
        described("Executing"),
    )

    assert (instruction.command, instruction.store, instruction.record) == (
        Command.WAIT_FOR_END,
        Store.KEEP,
        stored(),
    )
    (line,) = instruction.lines
    assert line.text == (
        "The execution of an earlier try has not ended (AWS status Executing). The task goes on with it after "
        f"its end: execution {ARN}"
    )


def test_retry_waits_for_an_execution_that_stops() -> None:
    """It belongs to the same epoch, so nothing is marked."""
    instruction = after(at(Command.DESCRIBE, stored()), described("Stopping"))

    assert (instruction.command, instruction.store, instruction.record) == (
        Command.WAIT_FOR_END,
        Store.KEEP,
        stored(),
    )


def test_end_is_waited_for_after_the_stop() -> None:
    """AWS has accepted the stop."""
    instruction = after(at(Command.STOP, stored()), Accepted(NOW))

    assert (
        instruction.command,
        instruction.store,
        instruction.record,
        instruction.lines,
    ) == (
        Command.WAIT_FOR_END,
        Store.KEEP,
        stored(),
        (),
    )


# ---- a resume


def resume_of(
    record: ExecutionRecord, *, epoch: int = 2, **options: Any
) -> Instruction:
    """Return the instruction after the description of a failed execution."""
    return after(
        at(Command.DESCRIBE, record, epoch=epoch, **options), described("Failed")
    )


def test_token_and_epoch_are_stored_before_the_resume() -> None:
    """What belonged to the attempt before is forgotten."""
    before = stored(stop_requested_by=1, epoch=1)

    instruction = resume_of(before, on_clear="resume")

    assert (instruction.command, instruction.store) == (Command.RESUME, Store.WRITE)
    assert instruction.existing_record.resume_token not in (None, START_TOKEN)
    expected = {
        "resumes": 1,
        "resume_token": instruction.existing_record.resume_token,
        "stop_requested_by": None,
    }
    assert instruction.record == before.model_copy(
        update={**expected, "epoch": 2, "try_number": 3}
    )


def test_each_resume_has_a_token_of_its_own() -> None:
    """
    It follows from the start token, the number and the try, so that a try that is
    repeated sends the same one.
    """
    first = resume_of(stored(), retry_mode="resume").existing_record
    second = resume_of(
        first.model_copy(update={"resumed_at": NOW}), retry_mode="resume"
    ).existing_record
    other = resume_of(
        stored(request=REQUEST.model_copy(update={"client_request_token": "x" * 32})),
        retry_mode="resume",
    ).existing_record

    assert first == resume_of(stored(), retry_mode="resume").existing_record
    name = f"{START_TOKEN} resume 1 of try 3"
    assert first.resume_token == f"polysync-{uuid.uuid5(uuid.NAMESPACE_OID, name)}"
    assert (second.resumes, second.resumed_at) == (2, None)
    # If a record was lost, nobody knows how many resumes there were.
    forgotten = resume_of(stored(), number=4, retry_mode="resume").existing_record
    assert len({each.resume_token for each in (first, second, other, forgotten)}) == 4


def test_pending_resume_is_sent_again_with_its_token() -> None:
    """AWS resumes once, however often the request is sent."""
    instruction = resume_of(resumed())

    assert (instruction.command, instruction.store, instruction.record) == (
        Command.RESUME,
        Store.WRITE,
        resumed(try_number=3),
    )


def test_accepted_resume_is_watched_from_then_on() -> None:
    """Its attempt begins now, whatever AWS said of the attempt before."""
    before = resume_of(stored(), retry_mode="resume")

    instruction = after(before, Accepted(NOW))

    assert (instruction.command, instruction.store, instruction.description) == (
        Command.WATCH,
        Store.WRITE,
        None,
    )
    assert instruction.record == before.existing_record.model_copy(
        update={"resumed_at": NOW}
    )
    assert instruction.attempt_started_at == NOW
    assert [(line.level, line.text) for line in instruction.lines] == [
        (INFO, f"Resumed (resume 1): execution {ARN}")
    ]


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
    assert (again.command, again.record) == (
        Command.RESEND_RESUME,
        resumed(epoch=2, try_number=3),
    )
    accepted = after(again, Accepted(NOW))
    assert (accepted.command, accepted.store) == (Command.DESCRIBE_RESUMED, Store.WRITE)
    assert accepted.existing_record.resumed_at == NOW

    instruction = after(accepted, described(status))

    assert (instruction.command, instruction.existing_record.resumes) == (
        command,
        resumes,
    )
    lines = (
        []
        if command is Command.RESUME
        else [(INFO, f"Resumed (resume 1): execution {ARN}")]
    )
    assert [(line.level, line.text) for line in instruction.lines] == lines
    if command is Command.WATCH:
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
    assert (again.command, again.store) == (Command.RESEND_RESUME, Store.WRITE)
    assert again.record == resumed(epoch=1, try_number=3)
    accepted = after(again, Accepted(NOW))
    assert (accepted.command, accepted.store) == (Command.DESCRIBE, Store.WRITE)
    assert accepted.record == resumed(epoch=1, try_number=3, resumed_at=NOW)

    assert after(accepted, described(status)).command is command


@pytest.mark.parametrize(
    ("status", "command"),
    [
        ("Executing", Command.WATCH),
        ("Stopping", Command.WAIT_FOR_END),
        ("Failed", Command.PREPARE),
        ("Stopped", Command.PREPARE),
    ],
)
def test_execution_may_run_although_aws_has_refused_its_resume(
    status: str, command: Command
) -> None:
    """
    AWS may have accepted an earlier request for the same resume; no new execution is
    started beside it.
    """
    instruction = after(at(Command.DESCRIBE_REFUSED, resumed()), described(status))

    assert instruction.command is command
    assert (instruction.record is None) == (command is Command.PREPARE)


def test_record_is_missed_where_there_must_be_one() -> None:
    """An instruction about an execution without a record is an error of the core."""
    with pytest.raises(LookupError, match=r"Command.DESCRIBE has no record"):
        _ = at(Command.DESCRIBE, None).existing_record


def test_every_event_has_a_transition() -> None:
    """A driver may report a refusal and a kill after each instruction."""
    events: list[Event] = [refused(), Killed()]
    for command in Command:
        for event in events:
            assert isinstance(after(at(command, resumed()), event), Instruction)
