"""
Decides what a new try of a task does with the execution of the earlier tries.

Rules:

1. A try stores the request and its client request token before it sends a request that costs money, and the
   ARN afterwards. A try that finds a stored request without an ARN sends the same request again, byte for
   byte: if AWS knows the token, it returns the execution that it has already started.
2. An *epoch* lasts until a user clears the task. A clear raises Airflow's ``max_tries``; a retry does not.
3. In the same epoch, a try continues with the stored execution. If the execution runs, the try waits for its
   end. If it succeeded, the try takes its result. If it failed, the try resumes or replaces it. If it was
   stopped, the try replaces it.
4. In a new epoch, the user wants a new execution. If the stored execution still runs, the try stops it first.
5. Two executions of a task never run at the same time: a try starts a new one only after the end of the
   stored one.

Everything here is pure. ``operators/starter.py`` makes the calls to AWS and updates the record.
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
    """The next action of a try."""

    START = auto()
    """Start a new execution."""
    RESEND_START = auto()
    """Send the stored start request again, to get the ARN of its execution."""
    DESCRIBE = auto()
    """Describe the stored execution, to get its status."""
    REATTACH = auto()
    """Continue with the stored execution: wait for its end, or take its result."""
    RESUME = auto()
    """Resume the stored execution from its failed steps (RetryPipelineExecution)."""
    STOP = auto()
    """Request a stop of the stored execution, then wait for its end."""
    WAIT_FOR_END = auto()
    """Wait for the end of the stored execution, then decide again."""


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
    Return the next action of a try.

    :param stored: the record of the earlier tries; None if there is none or its execution no longer exists.
    :param epoch: the epoch of this try, which is Airflow's ``max_tries``.
    :param status: AWS status of the stored execution; None if it was not described yet.
    :param retry_mode: whether a failed execution is replaced (``new``) or resumed (``resume``).
    :param failures_succeed: whether CompletedWithFailures counts as a success.
    :param may_stop: whether a running execution of an earlier epoch may be stopped; if not, the try waits for
        its end.
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
