"""
What a try finds in AWS when the record of the earlier tries is missing, or cannot be
believed.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    ClearChoice,
    Command,
    Described,
    ExecutionRecord,
    ExecutionsListed,
    Spent,
    Store,
    TaskIdentity,
    TaskTry,
)
from polysync_airflow.execution.lifecycle.lookup import record_of_wait
from polysync_airflow.execution.lifecycle.machine import begin
from polysync_airflow.execution.models import ExecutionDescription
from tests.unit.execution.lifecycle.builders import (
    ARN,
    EARLIER,
    INCARNATION,
    NOW,
    REPLACED,
    REQUEST,
    TASK,
    UNKNOWN_ARN,
    WRITTEN,
    after,
    at,
    describe,
    described,
    does,
    edited,
    instruct,
    lines_of,
    listed,
    make_try,
    named,
    stored,
)

WARNING = logging.WARNING
BEFORE = edited(INCARNATION, dag_run_started_at=EARLIER - timedelta(days=1))
# The same task instance before its DAG run was cleared; in another deployment; another
# task.
TASK_BEFORE = replace(TASK, incarnation=BEFORE)
ELSEWHERE = replace(TASK_BEFORE, deployment="staging")
EVALUATE = replace(TASK.key, task_id="evaluate")
OTHER_TASK = replace(ELSEWHERE, key=EVALUATE, incarnation=INCARNATION)


def lost(record: ExecutionRecord | None) -> StoredRecordError:
    """Return why a record cannot be believed."""
    return StoredRecordError(
        "it is not proven", problem="it is not proven", record=record
    )


def look(
    executions: list[ExecutionDescription],
    claimed: ExecutionDescription | None = None,
    *,
    of: TaskTry | None = None,
    unproven: StoredRecordError | None = None,
    command: Command = Command.LOOK_UP,
    record: ExecutionRecord | None = None,
) -> Any:
    """
    Return what a try does after a look; by default, it is a retry without a record.
    """
    task_try = replace(of or make_try(3, 2), unproven=unproven)
    instruction = instruct(command, task_try, record)
    return after(instruction, ExecutionsListed("fanout", executions, claimed))


def found_record(
    task: TaskIdentity = TASK, epoch: int = 2, number: int = 0, **changes: Any
) -> ExecutionRecord:
    """Return the record that is made from a name."""
    token = task.token(epoch, number)
    names = {"execution_display_name": "unknown", "client_request_token": token}
    request = edited(REQUEST, **names)
    return stored(**{"epoch": epoch, "request": request, "try_number": 3, **changes})


def test_first_try_looks_only_if_there_is_a_record() -> None:
    """
    The first start costs no call more. A later try, a rescheduled one, or a record that
    cannot be believed, says that there was an earlier one.
    """
    first = make_try(1, 2)
    unproven = replace(first, unproven=lost(None))

    assert begin(first, None) == instruct(Command.PREPARE, first, None)
    rescheduled = replace(first, is_rescheduled=True)
    for task_try in (unproven, rescheduled, make_try(2, 2)):
        assert begin(task_try, None) == instruct(Command.LOOK_UP, task_try, None)


def test_nothing_found_prepares_the_first_start_of_the_epoch() -> None:
    """Its token is the one that the earlier tries would have sent."""
    instruction = look(
        [
            named("nightly", status="Executing"),
            named("", status="Executing"),
            listed(2, 0, task=OTHER_TASK, status="Executing"),
            listed(2, 0, task=ELSEWHERE, status="Executing"),
        ]
    )

    assert does(instruction) == (Command.PREPARE, Store.KEEP, None)
    assert instruction.start_number == 0
    assert instruction.lines == ()


@pytest.mark.parametrize(
    ("command", "record"),
    [(Command.LOOK_UP, None), (Command.LOOK_UP_STARTED, UNKNOWN_ARN)],
)
def test_own_execution_takes_the_place_of_the_record(
    command: Command, record: ExecutionRecord | None
) -> None:
    """It is stored before it is described, and the log says how it was found."""
    instruction = look([listed(2, 0)], command=command, record=record)

    assert does(instruction) == (Command.DESCRIBE, WRITTEN, found_record())
    text = (
        "No record of the earlier tries can be used, but AWS has an execution with the"
        f" name of this task: execution {ARN}"
    )
    assert lines_of(instruction) == [(WARNING, text)]


@pytest.mark.parametrize(
    ("executions", "end"),
    [
        # The newest first, as AWS lists them.
        ([listed(2, 1, "b"), listed(2, 0, "a")], "b"),
        ([listed(2, 1, "b"), listed(2, 0, "a", status="Executing")], "a"),
        ([listed(2, 0, "b"), listed(1, 0, "a", status="Stopping")], "a"),
        ([listed(1, 3, "b"), listed(2, 0, "a")], "a"),
        ([listed(0, 0, task=TASK_BEFORE, status="Executing"), listed(2, 0, "a")], "a"),
    ],
    ids=["newest", "runs", "earlier epoch runs", "epoch", "incarnation"],
)
def test_running_execution_counts_first_then_the_newest_of_the_epoch(
    executions: list[ExecutionDescription], end: str
) -> None:
    """Beside one that runs, nothing may be started."""
    assert look(executions).record.arn == ARN + end


def test_ended_execution_of_an_earlier_epoch_counts_only_for_a_record() -> None:
    """
    Without a record, the task has succeeded in it; with one, the clear may want to
    resume it.
    """
    executions = [listed(1, 0, "a")]

    assert look(executions).command is Command.PREPARE
    instruction = look(executions, unproven=lost(None))
    assert instruction.record == found_record(epoch=1, execution_arn=f"{ARN}a")


@pytest.mark.parametrize("status", ["Executing", "Failed"])
def test_running_execution_of_another_incarnation_is_only_stopped(status: str) -> None:
    """The task instance has the same mark, in the same deployment."""
    other = listed(2, 0, task=TASK_BEFORE, status=status)

    instruction = look([named("nightly"), other])

    if status == "Failed":
        assert instruction.command is Command.PREPARE
        return
    assert instruction.command is Command.DESCRIBE
    assert instruction.store == instruction.record
    record = instruction.record
    assert record.epoch == NO_EPOCH
    assert record.replaced_by_epoch == 2
    assert record.execution_arn == ARN
    assert record.try_number == 3
    mark = TASK_BEFORE.incarnation_mark
    token = f"polysync-{TASK.task_mark}-{mark}-2-0"
    assert record.request.client_request_token == token


def test_execution_of_a_dag_run_that_was_created_again_is_not_continued() -> None:
    """
    The record that is not proven names its incarnation, which was not cleared since.
    """
    failed = listed(2, 0, task=TASK_BEFORE, status="Failed")

    instruction = look([failed], unproven=lost(stored(incarnation=BEFORE)))

    assert instruction.record.epoch == NO_EPOCH
    assert instruction.record.replaced_by_epoch == 2
    assert instruction.record.incarnation == INCARNATION
    assert "Its execution is not continued." in instruction.lines[0].text


def test_name_of_a_sent_request_may_be_in_its_description() -> None:
    """The DAG author has given the display name, which other executions have, too."""
    name = f"Airflow: {TASK.display_name(2, 0)}"
    request = edited(
        REQUEST, execution_display_name="nightly", execution_description=name
    )
    instruction = instruct(
        Command.LOOK_UP, make_try(3, 2), stored(execution_arn=None, request=request)
    )
    others = [named("nightly", "a"), named("nightly", "b", description="by hand")]

    own = named("nightly", "c", description=name)
    found = after(instruction, ExecutionsListed("fanout", [*others, own]))

    assert found.command is Command.DESCRIBE
    assert found.record.arn == f"{ARN}c"
    none = after(instruction, ExecutionsListed("fanout", others))
    assert none.command is Command.RESEND_START


WITH_FOREIGN_TOKEN = stored(request=edited(REQUEST, client_request_token="x" * 40))
CLAIMED = named("nightly", "x", status="Executing")
# The record of another deployment in a copy of its database, and its execution.
COPIED = edited(WITH_FOREIGN_TOKEN, deployment="staging")
OF_STAGING = listed(2, 0, task=ELSEWHERE, status="Executing")


@pytest.mark.parametrize(
    ("record", "claimed", "command"),
    [
        (WITH_FOREIGN_TOKEN, CLAIMED, Command.FAIL),
        (None, CLAIMED, Command.FAIL),
        (COPIED, CLAIMED, Command.FAIL),
        (COPIED, OF_STAGING, Command.PREPARE),
        (WITH_FOREIGN_TOKEN, OF_STAGING, Command.FAIL),
        (stored(), CLAIMED, Command.PREPARE),
        (None, edited(CLAIMED, status="Failed"), Command.PREPARE),
        (None, None, Command.PREPARE),
    ],
    ids=[
        "foreign token",
        "no token",
        "copied record",
        "copied record and name",
        "name of another task",
        "token of this epoch",
        "ended",
        "gone",
    ],
)
def test_nothing_is_started_beside_what_a_record_names(
    record: ExecutionRecord | None,
    claimed: ExecutionDescription | None,
    command: Command,
) -> None:
    """
    Unless the execution has ended, or the start itself asks AWS by the same token.
    """
    error = lost(record)

    instruction = look([], claimed, unproven=error)

    assert instruction.command is command
    if command is Command.FAIL:
        assert instruction.error is error


def test_claimed_execution_is_believed_by_its_name() -> None:
    """It may be older than all that are listed. Also a first try stores its record."""
    claimed = listed(2, 0, status="Executing")

    instruction = look([], claimed, of=make_try(1, 2), unproven=lost(stored()))

    record = found_record(try_number=1)
    assert does(instruction) == (Command.DESCRIBE, WRITTEN, record)


def test_record_that_was_deleted_during_the_wait_is_made_again() -> None:
    """Its tokens are never sent: an execution with an ARN is not started again."""
    token = f"polysync-{TASK.task_mark}-{TASK.incarnation_mark}-deleted"
    record = found_record(epoch=NO_EPOCH, try_number=0)
    request = edited(record.request, client_request_token=token)
    started = edited(record, request=request)
    resumed = edited(started, resumes=2, resume_token=token)

    assert record_of_wait(ARN, 0, TASK, "fanout") == started
    assert record_of_wait(ARN, 2, TASK, "fanout") == resumed


PROBLEM = (
    "AWS has answered the start with ConflictException, also when it was repeated for"
    " up to 60 s: another change of pipeline fanout is in progress, or an earlier try of"
    " this task has started an execution with other arguments, of which AWS knows the"
    " client token. None of the newest 300 executions of the pipeline has the name of"
    " this task."
)


def test_conflict_that_lasts_uses_the_retries() -> None:
    """The record stays, so that the next try sends the same request again."""
    instruction = look([], command=Command.LOOK_UP_STARTED, record=UNKNOWN_ARN)

    assert does(instruction) == (Command.FAIL, Store.KEEP, UNKNOWN_ARN)
    assert instruction.error is not None
    assert instruction.error.permanent is False
    assert str(instruction.error) == (
        f"{PROBLEM} The next try sends the same request again. If that ends in the same"
        " way, look for the execution in the SageMaker console, stop it there if it"
        " runs, and clear the task."
    )


def test_clear_after_a_conflict_that_lasts_starts_anew() -> None:
    """The user has looked for the execution, as the error says."""
    for replaces, command, store in (
        (None, Command.PREPARE, Store.DELETE),
        # As if that start had never been requested.
        (REPLACED, Command.DESCRIBE, WRITTEN),
    ):
        record = stored(epoch=1, execution_arn=None, replaces=replaces)

        instruction = look([], command=Command.LOOK_UP_STARTED, record=record)

        written = replaces and edited(replaces, try_number=3)
        assert does(instruction) == (command, store, written)
        assert lines_of(instruction) == [(WARNING, PROBLEM)]


def start_of_earlier_epoch(**changes: Any) -> ExecutionRecord:
    """Return the record of a start of epoch 1, whose response is not known."""
    name = TASK.display_name(1, 0)
    token = TASK.token(1, 0)
    request = edited(REQUEST, execution_display_name=name, client_request_token=token)
    return stored(epoch=1, execution_arn=None, request=request, **changes)


@pytest.mark.parametrize("status", ["Executing", "Failed"])
def test_clear_after_a_conflict_finds_what_was_started(status: str) -> None:
    """
    AWS has accepted that start, so the clear does not pay for its steps again. What the
    user chose, and what was spent, are in its record.
    """
    kept: dict[str, Any] = {
        "clear_choice": ClearChoice(on_clear="resume", epoch=2),
        "spent": Spent(epoch=2, amount=1.5, until=NOW),
    }
    record = start_of_earlier_epoch(**kept)
    execution = listed(1, 0, status=status)

    instruction = look([execution], command=Command.LOOK_UP_STARTED, record=record)

    written = edited(record, execution_arn=ARN, try_number=3)
    if status == "Executing":
        # It is told by its name, as without a record.
        written = found_record(epoch=1, **kept)
    assert does(instruction) == (Command.DESCRIBE, WRITTEN, written)


# ---- a start whose token AWS knows already


MINUTE = timedelta(minutes=1)


def test_start_that_returns_an_old_execution() -> None:
    """
    What an earlier try has started is decided about as if its record had been found.
    """
    for created_at, status, command, number in (
        (NOW, "Executing", Command.WATCH, 0),
        (NOW - MINUTE, "Failed", Command.WATCH, 0),
        (None, "Failed", Command.WATCH, 0),
        (NOW - 1.1 * MINUTE, "Executing", Command.WATCH, 0),
        (NOW - 1.1 * MINUTE, "Failed", Command.PREPARE, 1),
    ):
        before = replace(at(Command.DESCRIBE_STARTED, stored()), started_at=NOW)

        description = edited(describe(status), created_at=created_at)
        instruction = after(before, Described(NOW, description))

        assert instruction.command is command
        assert instruction.store is Store.KEEP
        if command is Command.PREPARE:
            assert instruction.start_number == number
            continue
        is_old = created_at is not None and created_at < NOW - MINUTE
        assert (instruction.description is not None) is is_old


def test_start_without_a_time_in_its_response_is_new() -> None:
    """Nothing says that it is old, and the wait goes on with it in any case."""
    before = at(Command.DESCRIBE_STARTED, stored())

    assert after(before, described("Failed")).command is Command.WATCH
