"""What becomes of an execution that its task does not wait for any longer: the whole table."""

from __future__ import annotations

from typing import Literal

import pytest

from polysync_airflow.execution.lifecycle.ending import Exit, begins_again, leave, needs_record
from polysync_airflow.execution.lifecycle.ownership import Owner
from polysync_airflow.execution.models import ExecutionEvent
from tests.execution.lifecycle.builders import ARN, stored

KEPT = "The execution keeps running because stop_on_kill=False."
RETRIED = "The next try continues with the execution."
LATER = "A later try continues with the execution, so it is not stopped."
MOVED = "The trigger has moved to another triggerer, and the task is still deferred: nothing is stopped."
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
    (False, Owner.OTHER_TRIGGERER, MOVED, MOVED, True),
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
    ("end", "stopped_by", "again"),
    [
        (event("ended", "Stopped"), 1, True),
        (event("ended", "Stopped"), 2, False),
        (event("ended", "Stopped"), 3, False),
        (event("ended", "Stopped"), None, False),
        (event("ended", "Failed"), 1, False),
        (event("ended", "Succeeded"), 1, False),
        (event("timed_out", "Stopped"), 1, False),
        (event("refused", None), 1, False),
    ],
)
def test_task_begins_again_after_the_stop_of_an_earlier_try(
    end: ExecutionEvent, stopped_by: int | None, again: bool
) -> None:
    """That stop is no decision of a user. The record is only read where it can matter."""
    assert begins_again(end, stored(stop_requested_by=stopped_by), 2) is again
    assert begins_again(end, None, 2) is False
    assert needs_record(end) is (end.outcome == "ended" and end.status == "Stopped")
