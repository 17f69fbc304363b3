"""
Who decides about an execution, as each process of Airflow sees it: the whole tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from polysync_airflow.execution.lifecycle.ending import (
    Owner,
    awaits_process,
    has_ended_before_wait,
    is_over,
    keeps_xcoms,
    may_store,
    needs_provenance,
    owner_at_end_of_wait,
    owner_by_provenance,
    owner_by_record,
    owner_of_dead_process,
    owner_of_deferred,
)
from polysync_airflow.execution.lifecycle.instructions import (
    ExecutionRecord,
    Incarnation,
    read_name,
)
from polysync_airflow.execution.lifecycle.provenance import Provenance, has_never_begun
from polysync_airflow.states import DELETED
from tests.unit.execution.lifecycle.builders import EARLIER, TASK, edited, stored

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
    """The number of the try in the record says who has gone on with the execution."""
    assert owner_by_record(RECORD, 2, state, record, is_current=is_current) is owner


@pytest.mark.parametrize(
    ("state", "record", "is_current", "owner"), list(owners_by_record())
)
def test_cleared_task_of_a_group_is_its_next_trys(
    state: str | None, record: ExecutionRecord | None, is_current: bool, owner: Owner
) -> None:
    """Only a clear: whoever ends the task wants the execution to be stopped."""
    if owner is Owner.NOBODY and record and state in ("restarting", None):
        owner = Owner.NEXT_TRY

    found = owner_by_record(
        RECORD, 2, state, record, is_current=is_current, is_of_group=True
    )

    assert found is owner


def test_owner_of_a_record_that_a_later_try_has_written() -> None:
    """
    A process that was frozen during a deferral reads it as its own, and must leave the
    execution alone.
    """
    owner = owner_by_record(
        OF_A_LATER_TRY, 2, "failed", OF_A_LATER_TRY, is_current=False
    )

    assert owner is Owner.LATER_TRY


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


def test_owner_of_a_record_without_the_start_of_the_dag_run() -> None:
    """Airflow did not tell it. The next try has written it."""
    earlier = edited(RECORD, incarnation=Incarnation())

    of_this_try = owner_by_record(earlier, 2, "failed", earlier, is_current=True)
    of_next_try = owner_by_record(earlier, 2, "failed", RECORD, is_current=False)

    assert of_this_try is Owner.NOBODY
    assert of_next_try is Owner.LATER_TRY


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


@pytest.mark.parametrize(
    ("state", "owner"),
    [
        *((state, Owner.WORKER) for state in sorted({*WITH_LATER_TRY} - {"deferred"})),
        *((state, Owner.NOBODY) for state in WITHOUT),
        ("deferred", Owner.THIS_TRY),
    ],
)
def test_owner_at_the_end_of_a_wait_is_this_try_until_airflow_goes_on(
    state: str | None, owner: Owner
) -> None:
    """
    It is this try, until Airflow goes on with the task: that of a later try is in the
    record.
    """
    for record in (RECORD, OF_AN_EARLIER_TRY, None):
        assert owner_at_end_of_wait(state, record, RECORD.arn, 2) is owner
    for record in (OF_A_LATER_TRY, WITH_ANOTHER_ARN):
        later = owner_at_end_of_wait(state, record, RECORD.arn, 2)
        assert later is Owner.LATER_TRY


NAME = read_name(TASK.display_name(0, 0))
NAME_ELSEWHERE = read_name(replace(TASK, deployment="staging").display_name(0, 0))


@pytest.mark.parametrize(
    ("own", "named", "is_hidden", "name", "is_other"),
    [
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
    ],
)
def test_execution_of_another_deployment_is_told_by_its_name(
    own: str | None, named: str | None, is_hidden: bool, name: Any, is_other: bool
) -> None:
    """Only where it has none, by the record. It changes who decides without a record."""
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


@pytest.mark.parametrize(
    ("record", "retry_follows", "owner"),
    [
        (RECORD, False, Owner.NOBODY),
        (RECORD, True, Owner.LATER_TRY),
        (OF_A_LATER_TRY, False, Owner.LATER_TRY),
        # The last try has died before it could write its number.
        (OF_AN_EARLIER_TRY, False, Owner.NOBODY),
        (None, False, Owner.LATER_TRY),
    ],
)
def test_owner_of_a_dead_process_is_nobody_unless_a_later_try_goes_on(
    record: ExecutionRecord | None, retry_follows: bool, owner: Owner
) -> None:
    """The failure callback stops nothing that a later try has written."""
    assert owner_of_dead_process(record, 2, retry_follows=retry_follows) is owner
