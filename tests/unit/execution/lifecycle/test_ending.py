"""
What becomes of an execution that its task does not wait for any longer, and who decides
about it, as each process of Airflow sees it: the whole tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
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
    awaits_process,
    end_in_triggerer,
    has_ended_before_wait,
    is_over,
    keeps_xcoms,
    leave,
    may_store,
    needs_provenance,
    needs_record,
    outcomes_to_stop_at,
    outcomes_to_stop_earlier_at,
    owner_at_end_of_wait,
    owner_by_provenance,
    owner_by_record,
    owner_of_dead_process,
    owner_of_deferred,
    stops_before_event,
)
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    ExecutionRecord,
    Incarnation,
    read_name,
)
from polysync_airflow.execution.lifecycle.provenance import Provenance, has_never_begun
from polysync_airflow.execution.models import (
    CONNECTION_NOT_FOUND,
    StopBeforeEvent,
    UnendedOutcome,
)
from polysync_airflow.execution.waiter import ExecutionEvent
from polysync_airflow.states import DELETED
from tests.unit.execution.lifecycle.builders import (
    ARN,
    EARLIER,
    REFUSED_START,
    TASK,
    WAIT,
    edited,
    end_of_wait,
    stored,
)

KEEPS_RUNNING = "The execution keeps running because stop_on_kill=False."
RETRIED = "Airflow runs the task again, which continues with the execution."
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
    ("status", "stopped_by", "action", "own"),
    [
        ("Stopped", 1, EndAction.BEGIN_AGAIN, False),
        ("Stopped", 2, EndAction.DONE, True),
        ("Stopped", 3, EndAction.DONE, False),
        ("Stopped", None, EndAction.DONE, False),
        ("Failed", 1, EndAction.DONE, False),
        ("Failed", 2, EndAction.DONE, False),
        ("Succeeded", 1, EndAction.DONE, False),
    ],
)
@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_stop_by_a_try_of_the_task(
    status: str,
    stopped_by: int | None,
    action: EndAction,
    own: bool,
    stop_on_kill: bool,
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
    assert try_end == replace(unproven, action=action, is_own_stop=own)


OTHER = stored(execution_arn=ARN.replace("abcdefghijkl", "mnopqrstuvwx"))
DAMAGED = "The execution was not stopped: it is damaged"
MISSING = (
    "The execution was not stopped, because the record of this task is missing or"
    " names another."
)


def test_execution_whose_wait_ends_before_it() -> None:
    """
    It is stopped, if the record proves that it is this task's; otherwise a sentence
    says why it is not.
    """
    for end in (
        end_of_wait("timed_out", "Executing"),
        end_of_wait("refused", None),
    ):
        for record, problem, stop_on_kill, action, text in (
            (stored(), None, True, EndAction.ANNOUNCE_STOP, ""),
            (None, None, False, EndAction.DONE, KEEPS_RUNNING),
            (None, "it is damaged", True, EndAction.DONE, DAMAGED),
            (None, None, True, EndAction.DONE, MISSING),
            (OTHER, None, True, EndAction.DONE, MISSING),
        ):
            try_end = after_wait(
                end, record, 2, stop_on_kill=stop_on_kill, problem=problem
            )

            handled = text in ("", KEEPS_RUNNING)
            assert try_end == TryEnd(
                action, 2, stop_on_kill, text=text, handled=handled
            )


def test_execution_is_left_to_a_retry_unless_its_time_or_its_money_is_up() -> None:
    """
    Polls that are refused, for example without a connection, say nothing about the
    execution. One that is too expensive is stopped whatever ``stop_on_kill`` says.
    """
    too_expensive = end_of_wait("too_expensive", "Executing")
    for end, stops, action in (
        (end_of_wait("refused", "Executing"), True, EndAction.ASK_OWNER),
        (end_of_wait("timed_out", "Executing"), True, EndAction.ANNOUNCE_STOP),
        (too_expensive, True, EndAction.ANNOUNCE_STOP),
        (too_expensive, False, EndAction.ANNOUNCE_STOP),
    ):
        try_end = after_wait(end, stored(), 2, stop_on_kill=stops, retry_follows=True)
        assert try_end.action is action
        assert needs_record(end, stop_on_kill=stops)


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


def test_outcomes_at_which_the_trigger_stops() -> None:
    """
    The time of this try's execution is up; to that of an earlier try, and to one that
    cannot be polled, a retry may come back.
    """
    for is_last_try, may_retry_refusal, outcomes, outcomes_of_earlier in (
        (True, False, ("timed_out", "refused"), ("timed_out", "refused")),
        (False, False, ("timed_out", "refused"), ("refused",)),
        (False, True, ("timed_out",), ()),
    ):
        for stop_on_kill, own, earlier in (
            (True, outcomes, outcomes_of_earlier),
            (False, (), ()),
        ):
            stops = {
                "stop_on_kill": stop_on_kill,
                "may_retry_refusal": may_retry_refusal,
            }
            found = outcomes_to_stop_earlier_at(is_last_try=is_last_try, **stops)
            assert outcomes_to_stop_at(**stops) == own
            assert found == earlier


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


def test_record_is_read_only_where_it_matters() -> None:
    """Each read is a request to Airflow, which may not respond."""
    for end, with_stop, without_stop in (
        (end_of_wait("ended", "Stopped"), True, True),
        (end_of_wait("ended", "Failed"), False, False),
        (end_of_wait("timed_out", "Stopped"), True, False),
        (end_of_wait("refused", None), True, False),
    ):
        assert needs_record(end, stop_on_kill=True) is with_stop
        assert needs_record(end, stop_on_kill=False) is without_stop


def test_what_a_wait_was_for_follows_from_the_record() -> None:
    """Airflow forgets it if it ends the wait itself."""
    for record, epoch, awaited in (
        (stored(), 2, AwaitedEnd.OWN_EXECUTION),
        (stored(), 5, AwaitedEnd.EARLIER_EXECUTION),
        (stored(capacity=WAIT), 2, AwaitedEnd.PAUSE),
        (REFUSED_START, 5, AwaitedEnd.PAUSE),
    ):
        assert awaited_end(record, epoch) is awaited


RECORD = stored()
OF_A_LATER_TRY = edited(RECORD, try_number=3)
OF_AN_EARLIER_TRY = edited(RECORD, try_number=1)
DELETED_DAG_RUN = Incarnation(dag_run_started_at=EARLIER - timedelta(days=1))
OF_A_DELETED_DAG_RUN = edited(RECORD, try_number=3, incarnation=DELETED_DAG_RUN)
OF_ANOTHER_EXECUTION = edited(
    RECORD, request=edited(RECORD.request, client_request_token="b" * 32)
)
WITH_ANOTHER_ARN = edited(RECORD, execution_arn=RECORD.arn[:-1] + "z")

WITH_LATER_TRY = (
    "scheduled",
    "queued",
    "running",
    "deferred",
    "up_for_retry",
    "up_for_reschedule",
)
WITHOUT = (
    None,
    "success",
    "failed",
    "skipped",
    "removed",
    "upstream_failed",
    "restarting",
    DELETED,
)
STATES = (*WITH_LATER_TRY, *WITHOUT)


def test_task_is_over_unless_a_process_may_still_run() -> None:
    """
    No process of it may write a record any more, or send a request that costs money.
    """
    assert [state for state in STATES if is_over(state)] == list(WITHOUT)


def test_task_that_is_over_does_not_begin_to_wait() -> None:
    """A success leaves the execution alone if the task does not wait for it."""
    waiting = [each for each in STATES if has_ended_before_wait(each, waits=True)]
    leaving = [each for each in STATES if has_ended_before_wait(each, waits=False)]

    assert waiting == list(WITHOUT)
    assert leaving == [each for each in WITHOUT if each != "success"]


def test_task_that_is_over_keeps_its_xcoms_unless_it_was_deleted() -> None:
    """Those of a later try, or of a task instance that is gone, are not written."""
    assert [state for state in STATES if keeps_xcoms(state)] == list(WITHOUT[:-1])


CURRENT = (True, False)


def owners_by_record() -> Iterator[
    tuple[str | None, ExecutionRecord | None, bool, Owner]
]:
    """Yield the state, the record, whether the try is the current one, and the owner."""
    # A later try has written its number, or has begun an execution of its own.
    later = (OF_A_LATER_TRY, OF_ANOTHER_EXECUTION)
    for case in product(("running", "failed", DELETED), later, CURRENT):
        yield *case, Owner.LATER_TRY
    # The earlier try of the record, or of an earlier DAG run: this try was killed
    # before it wrote its number.
    earlier = (RECORD, OF_AN_EARLIER_TRY, OF_A_DELETED_DAG_RUN)
    for record in (*earlier, None):
        yield "running", record, True, Owner.THIS_TRY
        yield "running", record, False, Owner.LATER_TRY
    for state in sorted({*WITH_LATER_TRY} - {"running"}):
        yield state, RECORD, True, Owner.LATER_TRY
        yield state, RECORD, False, Owner.LATER_TRY
    for over in WITHOUT:
        for record, is_current in product(earlier, CURRENT):
            yield over, record, is_current, Owner.NOBODY
        yield over, None, True, Owner.NOBODY
        # A later try has succeeded and deleted the record.
        owner = Owner.NOBODY if over == DELETED else Owner.LATER_TRY
        yield over, None, False, owner


@pytest.mark.parametrize(
    ("state", "record", "is_current", "owner"), list(owners_by_record())
)
def test_owner_as_the_process_of_a_try_sees_it(
    state: str | None, record: ExecutionRecord | None, is_current: bool, owner: Owner
) -> None:
    """
    The number of the try in the record says who has gone on with the execution. A
    cleared task of a group is its next try's: whoever ends the task wants the execution
    to be stopped.
    """
    of_group = owner
    if owner is Owner.NOBODY and record and state in ("restarting", None):
        of_group = Owner.NEXT_TRY
    see = partial(owner_by_record, RECORD, 2, state, record, is_current=is_current)

    assert see() is owner
    assert see(is_of_group=True) is of_group


def test_owner_of_a_record_that_does_not_tell_the_tries_apart() -> None:
    """
    A process that was frozen during a deferral reads that of a later try as its own,
    and must leave the execution alone. Airflow may not have told the start of the DAG
    run, which the next try has written.
    """
    later = OF_A_LATER_TRY
    earlier = edited(RECORD, incarnation=Incarnation())
    for own, record, is_current, owner in (
        (later, later, False, Owner.LATER_TRY),
        (earlier, earlier, True, Owner.NOBODY),
        (earlier, RECORD, False, Owner.LATER_TRY),
    ):
        found = owner_by_record(own, 2, "failed", record, is_current=is_current)
        assert found is owner


@pytest.mark.parametrize("is_current", CURRENT)
@pytest.mark.parametrize("state", STATES)
def test_owner_of_a_request_to_which_a_later_try_has_no_response(
    state: str | None, is_current: bool
) -> None:
    """
    A process that was frozen sends it after the task has ended: only this process knows
    what AWS has begun.
    """
    resumed = edited(RECORD, resumes=1, resume_token="c" * 32, resumed_at=EARLIER)
    later = edited(resumed, try_number=3, resumed_at=None)
    with_other_token = edited(later, resumes=2, resume_token="d" * 32)
    without_arn = edited(OF_A_LATER_TRY, execution_arn=None)
    without_resume = edited(OF_A_LATER_TRY, resumes=0)

    def owner(own: ExecutionRecord, record: ExecutionRecord) -> Owner:
        return owner_by_record(own, 2, state, record, is_current=is_current)

    expected = Owner.NOBODY if state in WITHOUT else Owner.LATER_TRY
    assert owner(resumed, later) is expected
    assert owner(RECORD, without_arn) is expected
    assert owner(resumed, without_resume) is expected
    assert owner(resumed, with_other_token) is Owner.LATER_TRY
    assert owner(resumed, OF_ANOTHER_EXECUTION) is Owner.LATER_TRY


def owners_of_deferred() -> Iterator[tuple[str | None, ExecutionRecord | None, Owner]]:
    """Yield the state, the record and the owner."""
    for record in (RECORD, OF_A_LATER_TRY, None):
        yield "deferred", record, Owner.OTHER_TRIGGER
        for of_later in ("running", "up_for_retry", "up_for_reschedule"):
            yield of_later, record, Owner.LATER_TRY
    for state in (*WITHOUT, "scheduled", "queued"):
        for record in (RECORD, OF_AN_EARLIER_TRY, None):
            yield state, record, Owner.NOBODY
        yield state, OF_A_LATER_TRY, Owner.LATER_TRY
        yield state, WITH_ANOTHER_ARN, Owner.LATER_TRY


@pytest.mark.parametrize(("state", "record", "owner"), list(owners_of_deferred()))
def test_owner_of_a_deferred_task_is_told_by_state_and_record(
    state: str | None, record: ExecutionRecord | None, owner: Owner
) -> None:
    """Airflow ends a trigger when the task ends, and when the trigger moves."""
    assert owner_of_deferred(state, record, RECORD.arn, 2) is owner


@pytest.mark.parametrize("state", STATES)
def test_trigger_looks_again_while_its_task_waits_for_a_worker(
    state: str | None,
) -> None:
    """While it is queued, and for a minute while it is to be scheduled."""
    awaited = [
        seconds for seconds in (0.0, 59.0, 60.0) if awaits_process(state, seconds)
    ]

    by_state = {"queued": [0.0, 59.0, 60.0], "scheduled": [0.0, 59.0]}
    assert awaited == by_state.get(str(state), [])


def test_owner_at_the_end_of_a_wait_is_this_try_until_airflow_goes_on() -> None:
    """
    It is this try, until Airflow goes on with the task: that of a later try is in the
    record.
    """
    for state, owner in (
        *((state, Owner.WORKER) for state in sorted({*WITH_LATER_TRY} - {"deferred"})),
        *((state, Owner.NOBODY) for state in WITHOUT),
        ("deferred", Owner.THIS_TRY),
    ):
        for record in (RECORD, OF_AN_EARLIER_TRY, None):
            assert owner_at_end_of_wait(state, record, RECORD.arn, 2) is owner
        for record in (OF_A_LATER_TRY, WITH_ANOTHER_ARN):
            later = owner_at_end_of_wait(state, record, RECORD.arn, 2)
            assert later is Owner.LATER_TRY


NAME = read_name(TASK.display_name(0, 0))
NAME_ELSEWHERE = read_name(replace(TASK, deployment="staging").display_name(0, 0))


def test_execution_of_another_deployment_is_told_by_its_name() -> None:
    """Only where it has none, by the record. It changes who decides without a record."""
    for own, named, is_hidden, name, is_other in (
        # The name of the execution says it.
        (TASK.deployment, None, False, NAME, False),
        (TASK.deployment, "staging", False, NAME, False),
        (TASK.deployment, None, False, NAME_ELSEWHERE, True),
        (TASK.deployment, TASK.deployment, False, NAME_ELSEWHERE, True),
        # It has none, so the record says it.
        (TASK.deployment, None, False, None, False),
        (TASK.deployment, TASK.deployment, False, None, False),
        (TASK.deployment, "staging", False, None, True),
        # The identity was deleted, or never made, or is hidden.
        (None, "staging", False, NAME, False),
        (None, None, False, NAME, True),
        (None, None, True, None, False),
        (None, "staging", True, None, False),
    ):
        provenance = Provenance(TASK.key, own, named, is_hidden)

        assert provenance.is_of_other_deployment(name) is is_other
        for owner in Owner:
            found = owner_by_provenance(owner, provenance, name)
            assert found is (Owner.OTHER_DEPLOYMENT if is_other else owner)


@pytest.mark.parametrize(
    ("try_numbers", "is_logged", "never"),
    [
        ([], False, True),
        ([0], False, True),
        ([], True, False),
        ([0], True, False),
        ([0, 1], False, False),
    ],
)
def test_imported_record_is_told_by_tries(
    try_numbers: list[int], is_logged: bool, never: bool
) -> None:
    """A task writes no record before a try of it has begun in this database."""
    assert has_never_begun(try_numbers, lambda: is_logged) is never


@pytest.mark.parametrize("owner", Owner)
def test_provenance_is_needed_for_a_stop_without_a_record(owner: Owner) -> None:
    """A proven record is that of this deployment, and who stops nothing asks nobody."""
    may_stop = owner in (Owner.THIS_TRY, Owner.NOBODY)

    assert needs_provenance(owner, None) is may_stop
    assert not needs_provenance(owner, RECORD)


@pytest.mark.parametrize("state", STATES)
def test_process_without_context_stores_only_what_no_other_process_writes(
    state: str | None,
) -> None:
    """Its own try's, or that of a task which no process runs any more."""
    stored_by = [owner for owner in Owner if may_store(owner, state)]

    of_ended_task = [Owner.NOBODY] if state in WITHOUT[:-1] else []
    assert stored_by == [Owner.THIS_TRY, *of_ended_task]


def test_owner_of_a_dead_process_is_nobody_unless_a_later_try_goes_on() -> None:
    """The failure callback stops nothing that a later try has written."""
    for record, retry_follows, owner in (
        (RECORD, False, Owner.NOBODY),
        (RECORD, True, Owner.LATER_TRY),
        (OF_A_LATER_TRY, False, Owner.LATER_TRY),
        # The last try has died before it could write its number.
        (OF_AN_EARLIER_TRY, False, Owner.NOBODY),
        (None, False, Owner.LATER_TRY),
    ):
        assert owner_of_dead_process(record, 2, retry_follows=retry_follows) is owner
