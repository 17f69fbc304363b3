"""
Owns the answer to "a try of a task begins: what becomes of the execution that earlier tries dealt with?".

Rules:

1. Before AWS is asked for anything that costs money, what is asked and the token it is asked with are
   stored; afterwards the ARN. A try that finds a request without an ARN asks again, byte for byte: AWS
   answers a token it knows with the execution it already has.
2. An *epoch* lasts until a user clears the task: Airflow's ``max_tries`` grows then, and not by a retry.
3. In the same epoch a try goes on with the stored execution: it waits for one that runs, adopts the result
   of one that succeeded, resumes or replaces one that failed, replaces one that was stopped.
4. In a new epoch the user wants a new execution; the stored one is stopped first if it still runs.
5. Never two at once: nothing new is started before the stored execution has ended.

Everything here is pure: the operator looks, asks and stores as it is told.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Literal

from polysync_airflow.execution.models import StoredExecution
from polysync_airflow.states import (
    STATUS_COMPLETED_WITH_FAILURES,
    STATUS_STOPPING,
    PolysyncState,
    has_ended,
    state_of,
)

RetryMode = Literal["new", "resume"]


class Action(Enum):
    """What to do next."""

    START = auto()
    """Start a new execution."""
    RESEND_START = auto()
    """Send the stored start again, to learn its execution's ARN."""
    DESCRIBE = auto()
    """Look at the stored execution."""
    REATTACH = auto()
    """Go on with it as it is: wait for its end, or take its result."""
    RESUME = auto()
    """Let AWS go on from where it failed."""
    STOP = auto()
    """Ask for its stop, then wait for its end."""
    WAIT_FOR_END = auto()
    """Wait for its end, then decide again."""


def next_action(
    stored: StoredExecution | None,
    epoch: int,
    status: str | None,
    *,
    retry_mode: RetryMode = "new",
    failures_succeed: bool = False,
    may_stop: bool = True,
) -> Action:
    """
    Decide what a try does first.

    :param stored: what earlier tries left; None if that is nothing, or nothing that exists.
    :param epoch: the try's epoch, Airflow's ``max_tries``.
    :param status: the stored execution's AWS status; None if it was not looked at.
    :param retry_mode: whether a failed execution is replaced or resumed.
    :param failures_succeed: CompletedWithFailures counts as a success.
    :param may_stop: executions may be stopped; if not, the end of one that runs is awaited.
    """
    if stored is None:
        return Action.START
    if stored.execution_arn is None:
        return Action.RESEND_START
    if status is None:
        return Action.DESCRIBE
    if stored.epoch != epoch:
        return _in_new_epoch(status, may_stop=may_stop)
    return _in_same_epoch(status, retry_mode=retry_mode, failures_succeed=failures_succeed)


def _in_same_epoch(status: str, *, retry_mode: RetryMode, failures_succeed: bool) -> Action:
    if status == STATUS_STOPPING:
        return Action.WAIT_FOR_END
    if not has_ended(status) or state_of(status) is PolysyncState.SUCCESS:
        return Action.REATTACH
    if state_of(status) is PolysyncState.CANCELLED:
        return Action.START
    if status == STATUS_COMPLETED_WITH_FAILURES and failures_succeed:
        return Action.REATTACH
    return Action.RESUME if retry_mode == "resume" else Action.START


def _in_new_epoch(status: str, *, may_stop: bool) -> Action:
    if has_ended(status):
        return Action.START
    if status == STATUS_STOPPING or not may_stop:
        return Action.WAIT_FOR_END
    return Action.STOP
