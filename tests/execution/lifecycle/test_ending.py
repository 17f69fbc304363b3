"""What becomes of an execution that its task does not wait for any longer: the whole table."""

from __future__ import annotations

from typing import Literal

import pytest

from polysync_airflow.execution.lifecycle.ending import Exit, after_wait, leave, needs_record
from polysync_airflow.execution.lifecycle.ownership import Owner
from polysync_airflow.execution.models import ExecutionEvent, StoredExecution
from tests.execution.lifecycle.builders import ARN, stored

KEPT = "The execution keeps running because stop_on_kill=False."
RETRIED = "The next try continues with the execution."
LATER = "A later try continues with the execution, so it is not stopped."
MOVED = (
    "The task is still deferred: another triggerer has its trigger, or a later try has taken its place. "
    "Nothing is stopped."
)
UNKNOWN = (
    "It is not stopped, because Airflow does not say whether a later try has it. The next try, or the failure "
    "callback in the DAG processor, decides."
)


def test_without_an_execution_there_is_nothing_to_do() -> None:
    """The process ended before it stored a request."""
    leaving = leave(None, 2, stop_on_kill=True, retry_follows=True)

    assert (leaving.exit, leaving.text, leaving.handled) == (Exit.DONE, "", True)


@pytest.mark.parametrize(
    ("stop_on_kill", "retry_follows", "action", "text"),
    [
        (True, False, Exit.ANNOUNCE_STOP, ""),
        (True, True, Exit.ASK_OWNER, ""),
        (False, True, Exit.ASK_OWNER, ""),
        (False, False, Exit.DONE, KEPT),
    ],
)
def test_first_action(stop_on_kill: bool, retry_follows: bool, action: Exit, text: str) -> None:
    """A stop is announced, unless a retry follows or the author wants none."""
    leaving = leave(stored(), 2, stop_on_kill=stop_on_kill, retry_follows=retry_follows)

    assert (leaving.exit, leaving.text, leaving.handled) == (action, text, True)


def test_announcement_names_the_try() -> None:
    """By its number, a later try tells the stop from a cancellation by a user."""
    leaving = leave(stored(), 3, stop_on_kill=True)

    assert leaving.announced(stored()) == stored(stop_requested_by=3)


# retry follows, owner, with stop_on_kill, without; "handled" is False only if the failure callback must decide.
OWNERS = [
    (False, Owner.THIS_TRY, "", KEPT, True),
    (False, Owner.NOBODY, "", KEPT, True),
    (False, Owner.LATER_TRY, LATER, LATER, True),
    (False, Owner.OTHER_TRIGGER, MOVED, MOVED, True),
    (False, Owner.UNKNOWN, UNKNOWN, UNKNOWN, False),
    (True, Owner.THIS_TRY, RETRIED, RETRIED, True),
    (True, Owner.LATER_TRY, RETRIED, RETRIED, True),
    (True, Owner.UNKNOWN, RETRIED, RETRIED, True),
    # A user has cleared the task, so no retry continues with the execution.
    (True, Owner.NOBODY, "", KEPT, True),
]


@pytest.mark.parametrize(("retry_follows", "owner", "stopped", "kept", "handled"), OWNERS)
def test_action_by_owner(retry_follows: bool, owner: Owner, stopped: str, kept: str, handled: bool) -> None:
    """An execution is stopped only by whom it belongs to; otherwise a sentence says why it is not."""
    for stop_on_kill, text in ((True, stopped), (False, kept)):
        leaving = leave(stored(), 2, stop_on_kill=stop_on_kill, retry_follows=retry_follows).owned_by(owner)

        assert (leaving.exit, leaving.text) == (Exit.DONE if text else Exit.STOP, text)
        assert leaving.handled is handled


@pytest.mark.parametrize(
    ("owner", "failed", "action"),
    [
        (Owner.THIS_TRY, True, Exit.WITHDRAW_STOP),
        (Owner.THIS_TRY, False, Exit.DONE),
        # The record is another try's, or was deleted.
        (Owner.NOBODY, True, Exit.DONE),
    ],
)
def test_stop_that_failed_is_withdrawn(owner: Owner, failed: bool, action: Exit) -> None:
    """A later try must not take a cancellation by a user for this stop."""
    leaving = leave(stored(), 2, stop_on_kill=True).owned_by(owner)

    done = leaving.stop_requested("The execution was asked to stop.", failed=failed)

    assert (done.exit, done.text, done.handled) == (action, "The execution was asked to stop.", True)


def event(outcome: Literal["ended", "timed_out", "refused"], status: str | None) -> ExecutionEvent:
    """Return how a wait has ended."""
    return ExecutionEvent(
        outcome=outcome,
        execution_arn=ARN,
        pipeline_name="fanout",
        status=status,
        message=None,
        started_at=None,
        ended_at=None,
    )


@pytest.mark.parametrize(
    ("status", "stopped_by", "again"),
    [
        ("Stopped", 1, True),
        ("Stopped", 2, False),
        ("Stopped", 3, False),
        ("Stopped", None, False),
        ("Failed", 1, False),
        ("Succeeded", 1, False),
    ],
)
@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_task_begins_again_after_the_stop_of_an_earlier_try(
    status: str, stopped_by: int | None, again: bool, stop_on_kill: bool
) -> None:
    """That stop is no decision of a user. Without a proven record, it is taken for one."""
    end = event("ended", status)

    leaving = after_wait(end, stored(stop_requested_by=stopped_by), 2, stop_on_kill=stop_on_kill)

    assert (leaving.begins_again, leaving.text, leaving.handled) == (again, "", True)
    assert leaving.exit is (Exit.BEGIN_AGAIN if again else Exit.DONE)
    unproven = after_wait(end, None, 2, stop_on_kill=stop_on_kill, problem="it is damaged")
    assert (unproven.exit, unproven.text, unproven.handled) == (Exit.DONE, "", True)


OTHER = stored(execution_arn=ARN.replace("abcdefghijkl", "mnopqrstuvwx"))
MISSING = "The execution was not stopped, because the record of this task is missing or names another."


@pytest.mark.parametrize("end", [event("timed_out", "Executing"), event("refused", None)])
@pytest.mark.parametrize(
    ("record", "problem", "stop_on_kill", "action", "text", "handled"),
    [
        (stored(), None, True, Exit.ANNOUNCE_STOP, "", True),
        (None, None, False, Exit.DONE, KEPT, True),
        (None, "it is damaged", True, Exit.DONE, "The execution was not stopped: it is damaged", False),
        (None, None, True, Exit.DONE, MISSING, False),
        (OTHER, None, True, Exit.DONE, MISSING, False),
    ],
)
def test_execution_whose_wait_ends_before_it(
    end: ExecutionEvent,
    record: StoredExecution | None,
    problem: str | None,
    stop_on_kill: bool,
    action: Exit,
    text: str,
    handled: bool,
) -> None:
    """It is stopped, if the record proves that it is this task's; otherwise a sentence says why it is not."""
    leaving = after_wait(end, record, 2, stop_on_kill=stop_on_kill, problem=problem)

    assert (leaving.exit, leaving.text, leaving.handled) == (action, text, handled)
    assert (leaving.try_number, leaving.stop_on_kill) == (2, stop_on_kill)


@pytest.mark.parametrize(
    ("end", "with_stop", "without_stop"),
    [
        (event("ended", "Stopped"), True, True),
        (event("ended", "Failed"), False, False),
        (event("timed_out", "Stopped"), True, False),
        (event("refused", None), True, False),
    ],
)
def test_record_is_read_only_where_it_matters(
    end: ExecutionEvent, with_stop: bool, without_stop: bool
) -> None:
    """Each read is a request to Airflow, which may not respond."""
    assert needs_record(end, stop_on_kill=True) is with_stop
    assert needs_record(end, stop_on_kill=False) is without_stop
