"""
What becomes of an execution that its task does not wait for any longer: the whole
table.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import pytest

from polysync_airflow.execution.lifecycle.ending import (
    OF_OTHER_DEPLOYMENT,
    AwaitedEnd,
    EndAction,
    Owner,
    TryEnd,
    after_wait,
    awaited_end,
    end_in_triggerer,
    leave,
    needs_record,
    outcomes_to_stop_at,
    outcomes_to_stop_earlier_at,
    stops_before_event,
)
from polysync_airflow.execution.lifecycle.instructions import NO_EPOCH, ExecutionRecord
from polysync_airflow.execution.models import (
    CONNECTION_NOT_FOUND,
    StopBeforeEvent,
    UnendedOutcome,
)
from polysync_airflow.execution.waiter import ExecutionEvent
from tests.unit.execution.lifecycle.builders import (
    ARN,
    REFUSED_START,
    WAIT,
    edited,
    end_of_wait,
    stored,
)

KEEPS_RUNNING = "The execution keeps running because stop_on_kill=False."
RETRIED = "The next try continues with the execution."
LATER = "A later try continues with the execution, so it is not stopped."
MOVED = (
    "The task is still deferred: another triggerer has its trigger, or a later try has"
    " taken its place. Nothing is stopped."
)
SHUTTING_DOWN = (
    "Nobody has ended the task, so its worker is shutting down: the execution goes on."
)
UNKNOWN = (
    "It is not stopped, because Airflow does not say whether a later try has it. The"
    " next try, or the failure callback in the DAG processor, decides."
)


RESUMED = "Airflow has gone on with the task meanwhile: the trigger stops nothing."


def test_without_an_execution_there_is_nothing_to_do() -> None:
    """The process ended before it stored a request."""
    try_end = leave(None, 2, stop_on_kill=True, retry_follows=True)

    assert try_end.action is EndAction.DONE
    assert try_end.text == ""
    assert try_end.handled


@pytest.mark.parametrize(
    ("stop_on_kill", "retry_follows", "is_signalled", "action"),
    [
        (True, False, False, EndAction.ANNOUNCE_STOP),
        (True, True, False, EndAction.ASK_OWNER),
        (False, True, False, EndAction.ASK_OWNER),
        (False, False, False, EndAction.DONE),
        (True, False, True, EndAction.ASK_OWNER),
        # The process must know whether it is to end.
        (False, False, True, EndAction.ASK_OWNER),
    ],
)
def test_stop_is_announced_unless_somebody_must_be_asked_first(
    stop_on_kill: bool, retry_follows: bool, is_signalled: bool, action: EndAction
) -> None:
    """
    A stop is announced, unless a retry follows, a signal has come, or the author wants
    none.
    """
    try_end = leave(
        stored(),
        2,
        stop_on_kill=stop_on_kill,
        retry_follows=retry_follows,
        is_signalled=is_signalled,
    )

    assert try_end.action is action
    assert try_end.text == (KEEPS_RUNNING if action is EndAction.DONE else "")
    assert try_end.handled


FAILED: dict[str, bool] = {}
RETRIED_LATER = {"retry_follows": True}
SIGNALLED = {"is_signalled": True}
# Why the try ends, owner, what comes next with stop_on_kill, and its text.
OWNERS: list[tuple[dict[str, bool], Owner, EndAction, str]] = [
    (FAILED, Owner.THIS_TRY, EndAction.STOP, ""),
    (FAILED, Owner.NOBODY, EndAction.STOP, ""),
    (FAILED, Owner.LATER_TRY, EndAction.DONE, LATER),
    (FAILED, Owner.OTHER_TRIGGER, EndAction.DONE, MOVED),
    (FAILED, Owner.WORKER, EndAction.DONE, RESUMED),
    (FAILED, Owner.OTHER_DEPLOYMENT, EndAction.DONE, OF_OTHER_DEPLOYMENT),
    (RETRIED_LATER, Owner.OTHER_DEPLOYMENT, EndAction.DONE, OF_OTHER_DEPLOYMENT),
    (SIGNALLED, Owner.OTHER_DEPLOYMENT, EndAction.DONE, OF_OTHER_DEPLOYMENT),
    (FAILED, Owner.UNKNOWN, EndAction.DONE, UNKNOWN),
    (RETRIED_LATER, Owner.THIS_TRY, EndAction.DONE, RETRIED),
    (RETRIED_LATER, Owner.LATER_TRY, EndAction.DONE, RETRIED),
    (RETRIED_LATER, Owner.UNKNOWN, EndAction.DONE, RETRIED),
    # A user has cleared the task, so no retry continues with the execution.
    (RETRIED_LATER, Owner.NOBODY, EndAction.ANNOUNCE_STOP, ""),
    # The worker shuts down.
    (SIGNALLED, Owner.THIS_TRY, EndAction.DONE, SHUTTING_DOWN),
    # A user has ended or cleared the task.
    (SIGNALLED, Owner.NOBODY, EndAction.ANNOUNCE_STOP, ""),
    (SIGNALLED, Owner.LATER_TRY, EndAction.DONE, LATER),
    (SIGNALLED, Owner.UNKNOWN, EndAction.DONE, UNKNOWN),
]


@pytest.mark.parametrize(("why", "owner", "action", "text"), OWNERS)
def test_owner_decides_what_a_try_does_with_its_execution(
    why: dict[str, bool], owner: Owner, action: EndAction, text: str
) -> None:
    """
    An execution is stopped only by whom it belongs to; otherwise a sentence says why it
    is not.
    """
    asked = leave(stored(), 2, stop_on_kill=True, **why)
    try_end = asked.owned_by(owner)
    kept = replace(asked, stop_on_kill=False).owned_by(owner)

    assert try_end.action is action
    assert try_end.text == text
    ends_epoch = action is EndAction.ANNOUNCE_STOP
    assert (kept.action is EndAction.END_EPOCH) == ends_epoch
    assert kept.text == (text or KEEPS_RUNNING)
    for each in (try_end, kept):
        # Else the failure callback must decide.
        assert each.handled == (text != UNKNOWN)
        assert each.is_shutdown == (text == SHUTTING_DOWN)


@pytest.mark.parametrize("why", [FAILED, RETRIED_LATER, SIGNALLED])
def test_execution_of_a_group_is_left_to_the_try_after_a_clear(
    why: dict[str, bool],
) -> None:
    """The next try must know that it is none after a failure."""
    try_end = leave(stored(), 2, stop_on_kill=True, **why).owned_by(Owner.NEXT_TRY)

    assert try_end.action is EndAction.END_EPOCH
    assert try_end.text == (
        "The task was cleared. Its next try decides what becomes of the execution."
    )
    assert try_end.handled


def test_clear_ends_the_epoch_of_an_execution_that_is_kept() -> None:
    """The next try must not take itself for a retry, which would go on with it."""
    try_end = leave(stored(), 2, stop_on_kill=False, **SIGNALLED).owned_by(Owner.NOBODY)

    assert try_end.announced(stored()) == stored(epoch=NO_EPOCH)


@pytest.mark.parametrize("owner", [Owner.THIS_TRY, Owner.NOBODY])
def test_failed_stop_is_withdrawn(owner: Owner) -> None:
    """A later try must not take a cancellation by a user for this stop."""
    try_end = leave(stored(), 2, stop_on_kill=True).owned_by(owner)

    accepted = try_end.stop_accepted("The execution was asked to stop.")
    failed = try_end.stop_failed("The execution cannot be stopped.")

    assert accepted.action is EndAction.DONE
    assert accepted.text == "The execution was asked to stop."
    assert accepted.handled is True
    assert failed.action is EndAction.WITHDRAW_STOP
    assert failed.text == "The execution cannot be stopped."
    assert failed.handled is True


@pytest.mark.parametrize(
    ("status", "stopped_by", "again", "own"),
    [
        ("Stopped", 1, True, False),
        ("Stopped", 2, False, True),
        ("Stopped", 3, False, False),
        ("Stopped", None, False, False),
        ("Failed", 1, False, False),
        ("Failed", 2, False, False),
        ("Succeeded", 1, False, False),
    ],
)
@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_stop_by_a_try_of_the_task(
    status: str, stopped_by: int | None, again: bool, own: bool, stop_on_kill: bool
) -> None:
    """
    That stop is no decision of a user: after one of an earlier try, the task begins
    again. Without a proven record, it is taken for one.
    """
    end = end_of_wait("ended", status)
    record = stored(stop_requested_by=stopped_by)

    unproven = after_wait(
        end, None, 2, stop_on_kill=stop_on_kill, problem="it is damaged"
    )
    try_end = after_wait(end, record, 2, stop_on_kill=stop_on_kill)

    assert unproven == TryEnd(EndAction.DONE, 2, stop_on_kill)
    action = EndAction.BEGIN_AGAIN if again else EndAction.DONE
    assert try_end == replace(unproven, action=action, is_own_stop=own)


OTHER = stored(execution_arn=ARN.replace("abcdefghijkl", "mnopqrstuvwx"))
DAMAGED = "The execution was not stopped: it is damaged"
MISSING = (
    "The execution was not stopped, because the record of this task is missing or"
    " names another."
)


@pytest.mark.parametrize(
    "end", [end_of_wait("timed_out", "Executing"), end_of_wait("refused", None)]
)
@pytest.mark.parametrize(
    ("record", "problem", "stop_on_kill", "action", "text"),
    [
        (stored(), None, True, EndAction.ANNOUNCE_STOP, ""),
        (None, None, False, EndAction.DONE, KEEPS_RUNNING),
        (None, "it is damaged", True, EndAction.DONE, DAMAGED),
        (None, None, True, EndAction.DONE, MISSING),
        (OTHER, None, True, EndAction.DONE, MISSING),
    ],
)
def test_execution_whose_wait_ends_before_it(
    end: ExecutionEvent,
    record: ExecutionRecord | None,
    problem: str | None,
    stop_on_kill: bool,
    action: EndAction,
    text: str,
) -> None:
    """
    It is stopped, if the record proves that it is this task's; otherwise a sentence
    says why it is not.
    """
    try_end = after_wait(end, record, 2, stop_on_kill=stop_on_kill, problem=problem)

    handled = text in ("", KEEPS_RUNNING)
    assert try_end == TryEnd(action, 2, stop_on_kill, text=text, handled=handled)


@pytest.mark.parametrize(
    ("end", "action"),
    [
        (end_of_wait("refused", "Executing"), EndAction.ASK_OWNER),
        (end_of_wait("timed_out", "Executing"), EndAction.ANNOUNCE_STOP),
    ],
)
def test_execution_is_left_to_a_retry_unless_its_time_is_up(
    end: ExecutionEvent, action: EndAction
) -> None:
    """
    Polls that are refused, for example without a connection, say nothing about the
    execution.
    """
    try_end = after_wait(end, stored(), 2, stop_on_kill=True, retry_follows=True)
    assert try_end.action is action


@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_execution_that_is_too_expensive_is_stopped_whatever_stop_on_kill_says(
    stop_on_kill: bool,
) -> None:
    """By the worker, if its trigger has not."""
    end = end_of_wait("too_expensive", "Executing")

    try_end = after_wait(end, stored(), 2, stop_on_kill=stop_on_kill)

    assert needs_record(end, stop_on_kill=stop_on_kill)
    assert try_end.action is EndAction.ANNOUNCE_STOP


AT = datetime(2026, 11, 29, 20, 30, 5, tzinfo=UTC)
ASKED = "The execution was asked to stop by the triggerer, at 2026-11-29 20:30:05 UTC."
NOT_NEEDED = (
    "No stop was needed when the triggerer asked for it, at 2026-11-29 20:30:05 UTC:"
    " the execution has ended or is stopping (AWS status Succeeded)."
)


@pytest.mark.parametrize("outcome", ["timed_out", "refused"])
@pytest.mark.parametrize("stop_on_kill", [True, False])
@pytest.mark.parametrize(
    ("status", "text"), [("Stopping", ASKED), ("Succeeded", NOT_NEEDED)]
)
def test_execution_that_the_trigger_has_stopped(
    outcome: Literal["timed_out", "refused"], stop_on_kill: bool, status: str, text: str
) -> None:
    """The worker stops it no second time, whatever its record says by now."""
    stop = StopBeforeEvent(requested_at=AT, status=status)
    end = edited(end_of_wait(outcome, "Executing"), stop=stop)

    for record in (stored(), OTHER, None):
        try_end = after_wait(
            end, record, 2, stop_on_kill=stop_on_kill, retry_follows=True
        )
        assert try_end.action == EndAction.DONE
        assert try_end.text == text
        assert try_end.handled is True
    assert not needs_record(end, stop_on_kill=True)


@pytest.mark.parametrize(
    ("is_last_try", "may_retry_refusal", "outcomes", "outcomes_of_earlier"),
    [
        (True, False, ["timed_out", "refused"], ["timed_out", "refused"]),
        (False, False, ["timed_out", "refused"], ["refused"]),
        (False, True, ["timed_out"], []),
    ],
)
def test_outcomes_at_which_the_trigger_stops(
    is_last_try: bool,
    may_retry_refusal: bool,
    outcomes: list[str],
    outcomes_of_earlier: list[str],
) -> None:
    """
    The time of this try's execution is up; to that of an earlier try, and to one that
    cannot be polled, a retry may come back.
    """
    for stop_on_kill in (True, False):
        stops = {"stop_on_kill": stop_on_kill, "may_retry_refusal": may_retry_refusal}
        own = outcomes_to_stop_at(**stops)
        earlier = outcomes_to_stop_earlier_at(is_last_try=is_last_try, **stops)
        assert own == (outcomes if stop_on_kill else [])
        assert earlier == (outcomes_of_earlier if stop_on_kill else [])


TIMED_OUT = end_of_wait("timed_out", "Executing")
REFUSED = end_of_wait("refused", None)


@pytest.mark.parametrize(
    ("end", "outcomes", "stops"),
    [
        (TIMED_OUT, ["timed_out"], True),
        (REFUSED, ["timed_out"], False),
        (REFUSED, ["timed_out", "refused"], True),
        (TIMED_OUT, [], False),
        (end_of_wait("too_expensive", "Executing"), [], True),
        (end_of_wait("ended", "Failed"), ["timed_out", "refused"], False),
        # The connection may come back, and a retry goes on.
        (edited(REFUSED, error_code=CONNECTION_NOT_FOUND), ["refused"], False),
    ],
)
def test_trigger_stops_before_its_event(
    end: ExecutionEvent, outcomes: list[UnendedOutcome], stops: bool
) -> None:
    """At the outcomes that the worker has named, and what is too expensive."""
    assert stops_before_event(end, outcomes) is stops


def test_trigger_announces_its_stop_first() -> None:
    """
    By the number of its try, a later try tells the stop from a cancellation by a user.
    Airflow says whose execution it is.
    """
    try_end = end_in_triggerer(3)

    assert try_end.action is EndAction.ANNOUNCE_STOP
    assert try_end.announced(stored()) == stored(stop_requested_by=3)
    assert try_end.owned_by(Owner.THIS_TRY).action is EndAction.STOP
    assert try_end.owned_by(Owner.NOBODY).action is EndAction.STOP


@pytest.mark.parametrize(
    ("end", "with_stop", "without_stop"),
    [
        (end_of_wait("ended", "Stopped"), True, True),
        (end_of_wait("ended", "Failed"), False, False),
        (end_of_wait("timed_out", "Stopped"), True, False),
        (end_of_wait("refused", None), True, False),
    ],
)
def test_record_is_read_only_where_it_matters(
    end: ExecutionEvent, with_stop: bool, without_stop: bool
) -> None:
    """Each read is a request to Airflow, which may not respond."""
    assert needs_record(end, stop_on_kill=True) is with_stop
    assert needs_record(end, stop_on_kill=False) is without_stop


@pytest.mark.parametrize(
    ("record", "epoch", "awaited"),
    [
        (stored(), 2, AwaitedEnd.OWN_EXECUTION),
        (stored(), 5, AwaitedEnd.EARLIER_EXECUTION),
        (stored(capacity=WAIT), 2, AwaitedEnd.PAUSE),
        (REFUSED_START, 5, AwaitedEnd.PAUSE),
    ],
)
def test_what_a_wait_was_for_follows_from_the_record(
    record: ExecutionRecord, epoch: int, awaited: AwaitedEnd
) -> None:
    """Airflow forgets it if it ends the wait itself."""
    assert awaited_end(record, epoch) is awaited
