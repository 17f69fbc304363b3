"""Which executions are stopped when no process of their task is left."""

from __future__ import annotations

from polysync_airflow.execution.lifecycle.ending import Owner
from polysync_airflow.execution.lifecycle.instructions import UnattendedStop
from polysync_airflow.execution.lifecycle.orphans import (
    Finding,
    TaskSnapshot,
    Verdict,
    judge_task,
    owner_of_orphan,
    queue_of_watch,
    with_status,
)
from tests.unit.execution.lifecycle.builders import (
    ARN,
    REQUEST,
    RESUME_TOKEN,
    edited,
    stored,
)

CONNECTION = "polysync_default"
DELETED_TASK = TaskSnapshot(exists=False)
STOPPED = UnattendedStop(polysync_conn_id=CONNECTION)
KEPT_AFTER_SUCCESS = UnattendedStop(polysync_conn_id=CONNECTION, after_success=False)
OTHER_REQUEST = edited(REQUEST, client_request_token="polysync-".ljust(40, "2"))
DELETED = "The task was deleted."
CREATED_AGAIN = "The DAG run was deleted, and created again with the same id."
ENDED = "The task has ended (state {})."
NOT_ENDED = "The task has not ended (state {}): its own tries decide."
GOES_ON = (
    "The task has succeeded with wait_for_completion=False: the execution goes on."
)
KEPT = "The execution keeps running because stop_on_kill=False."


def test_only_what_nobody_may_go_on_with_is_stopped() -> None:
    """Only what nobody else may go on with is stopped."""
    for task, stop, finding, text in (
        # Ended, whoever has ended it.
        (TaskSnapshot(True, "failed"), STOPPED, Finding.STOP, ENDED),
        (TaskSnapshot(True, "success"), STOPPED, Finding.STOP, ENDED),
        (DELETED_TASK, STOPPED, Finding.STOP, DELETED),
        # A try runs, or is on its way.
        (TaskSnapshot(True, None), STOPPED, Finding.KEEP, NOT_ENDED),
        (TaskSnapshot(True, "running"), STOPPED, Finding.KEEP, NOT_ENDED),
        (TaskSnapshot(True, "deferred"), STOPPED, Finding.KEEP, NOT_ENDED),
        (TaskSnapshot(True, "up_for_retry"), STOPPED, Finding.KEEP, NOT_ENDED),
        (TaskSnapshot(True, "of a later Airflow"), STOPPED, Finding.KEEP, NOT_ENDED),
        # wait_for_completion=False: its success leaves the execution alone.
        (TaskSnapshot(True, "success"), KEPT_AFTER_SUCCESS, Finding.KEEP, GOES_ON),
        (TaskSnapshot(True, "failed"), KEPT_AFTER_SUCCESS, Finding.STOP, ENDED),
        (DELETED_TASK, KEPT_AFTER_SUCCESS, Finding.STOP, DELETED),
        # stop_on_kill=False
        (TaskSnapshot(True, "failed"), None, Finding.KEEP, KEPT),
        (DELETED_TASK, None, Finding.KEEP, KEPT),
        # The number of its newest try is known.
        (TaskSnapshot(True, "failed", 2), STOPPED, Finding.STOP, ENDED),
        (TaskSnapshot(True, "running", 3), STOPPED, Finding.KEEP, NOT_ENDED),
        # The DAG run was deleted, and created again: it has begun to count anew.
        (TaskSnapshot(True, None, 0), STOPPED, Finding.STOP, CREATED_AGAIN),
        (TaskSnapshot(True, "running", 1), STOPPED, Finding.STOP, CREATED_AGAIN),
    ):
        verdict = judge_task(stored(unattended_stop=stop), task)

        assert verdict == Verdict(finding, text.format(task.state))


def test_status_can_spare_a_stop_but_asks_for_none() -> None:
    """AWS's status can spare a stop, and asks for none."""
    for before, status, after in (
        (Finding.STOP, "Executing", Finding.STOP),
        (Finding.STOP, None, Finding.STOP),
        (Finding.STOP, "OfALaterAws", Finding.STOP),
        (Finding.STOP, "Stopping", Finding.OVER),
        (Finding.STOP, "Failed", Finding.OVER),
        (Finding.KEEP, "Failed", Finding.KEEP),
    ):
        text = DELETED
        if after is Finding.OVER:
            text += (
                " No stop is needed: the execution has ended or is stopping (AWS status"
                f" {status})."
            )
        assert with_status(Verdict(before, DELETED), status) == Verdict(after, text)


FAILED = TaskSnapshot(True, "failed")


def test_whoever_goes_on_between_the_looks_is_the_owner() -> None:
    """Whoever goes on with the execution between the looks is noticed."""
    for changes, task, owner in (
        ({}, FAILED, Owner.NOBODY),
        ({}, DELETED_TASK, Owner.NOBODY),
        # The ARN was found in AWS's list meanwhile.
        ({"execution_arn": None}, FAILED, Owner.NOBODY),
        ({"stop_requested_by": 2}, FAILED, Owner.NOBODY),
        # A later try, a resume, another execution, another choice.
        ({"execution_arn": f"{ARN}m"}, FAILED, Owner.LATER_TRY),
        ({"try_number": 3}, FAILED, Owner.LATER_TRY),
        ({"resumes": 1, "resume_token": RESUME_TOKEN}, FAILED, Owner.LATER_TRY),
        ({"request": OTHER_REQUEST}, FAILED, Owner.LATER_TRY),
        ({"unattended_stop": None}, FAILED, Owner.LATER_TRY),
        # A clear.
        ({}, TaskSnapshot(True, "running"), Owner.LATER_TRY),
        # It has succeeded, and has deleted the record.
        (None, FAILED, Owner.LATER_TRY),
    ):
        examined = stored(unattended_stop=STOPPED)
        now = None
        if changes is not None:
            now = edited(examined, **changes)

        assert owner_of_orphan(now, examined, task) is owner


def test_queue_of_the_watch() -> None:
    """That of the task, or else one that a triggerer serves."""
    for served, queue in (
        # Nothing is known: deferred tasks of this queue need a triggerer of it.
        (set(), "gpu"),
        ({"gpu", "a", None}, "gpu"),
        ({"a", None}, None),
        ({"b", "a"}, "a"),
    ):
        assert queue_of_watch("gpu", served) == queue
