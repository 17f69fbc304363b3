"""
Who decides about an execution, as a process that waited for it sees it: on a worker, in a triggerer, or in
the DAG processor. Everything here is pure.

``state`` is the state of the task instance now; None if it has been cleared. ``copy`` is the proven record
in its XComs; None if there is none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final

from polysync_airflow.airflow_compat.task_instances import DELETED
from polysync_airflow.execution.record import StoredExecution

# States of a task instance that has a later try, or gets one. In all other states, a user has cleared or
# ended the task.
_RUNNING: Final = "running"
DEFERRED: Final = "deferred"
_WITH_LATER_TRY: Final = ("scheduled", "queued", _RUNNING, DEFERRED, "up_for_retry", "up_for_reschedule")

# In records of earlier versions.
_UNKNOWN_START: Final = datetime.min.replace(tzinfo=UTC)


class Owner(Enum):
    """Who decides about the execution of a try."""

    THIS_TRY = auto()
    """The task instance is still that of this try."""
    NOBODY = auto()
    """
    A user has cleared, ended or deleted the task, and no later try has begun. Only this try can stop it.
    """
    LATER_TRY = auto()
    """A later try decides."""
    OTHER_TRIGGER = auto()
    """The trigger of the same try in another triggerer, or that of a later try."""
    UNKNOWN = auto()
    """Airflow does not say, for example because the process was away for longer than its token is valid."""


def is_over(state: str | None) -> bool:
    """Return whether a task has ended, or was cleared or deleted, so that no try runs or is on its way."""
    return state not in _WITH_LATER_TRY


def keeps_xcoms(state: str | None) -> bool:
    """Return whether a task that its try has left keeps the XComs of this try: no later try deletes them."""
    return is_over(state) and state != DELETED


def owner_by_record(
    record: StoredExecution,
    try_number: int,
    state: str | None,
    stored: StoredExecution | None,
    copy: StoredExecution | None,
) -> Owner:
    """
    Return who decides about the execution of a try, as its own process sees it.

    A try that has gone on with the execution has written its number into the stored record. One that has
    begun, but has not come so far, has caused that Airflow deleted the XComs. If the task has ended
    since, and the later try has no response to a request that this one has sent late, only this one knows
    what AWS has begun.

    :param stored: the record in the store now; None if there is none.
    """
    # The record that a process reads after a deferral may already be that of a later try.
    own = _started_at(record), try_number
    # A process that was frozen may push the copy of an earlier try late, but none of a later one.
    is_own_copy = copy is not None and _is_of_same_execution(copy, record) and _order(copy) <= own
    if stored and not (_is_of_same_execution(stored, record) and _order(stored) <= own):
        return Owner.NOBODY if is_over(state) and _is_unanswered(stored, record) else Owner.LATER_TRY
    if state == _RUNNING:
        return Owner.THIS_TRY if is_own_copy else Owner.LATER_TRY
    if state in _WITH_LATER_TRY:
        return Owner.LATER_TRY
    if state == DELETED or is_own_copy:
        return Owner.NOBODY
    # The task has ended or was cleared before any later try, or this one, could write its number.
    return Owner.NOBODY if stored and (copy is None or _order(stored) < own) else Owner.LATER_TRY


def owner_of_deferred(state: str | None, copy: StoredExecution | None, try_number: int) -> Owner:
    """
    Return who decides about the execution of a deferred task whose trigger Airflow has ended.

    If the task is still deferred, its trigger has only moved to another triggerer (Airflow 3.4 no longer
    reports that), or the task was cleared: then its new try has stopped this execution, or waits for it.
    """
    if state == DEFERRED:
        return Owner.OTHER_TRIGGER
    if copy is not None:
        # A triggerer that was suspended may learn only after the next try that its trigger has moved.
        return Owner.LATER_TRY if copy.try_number > try_number else Owner.NOBODY
    # Airflow deletes the XComs when a try begins. A try that is at work reads the record itself; if none is,
    # nobody else stops the execution.
    return Owner.LATER_TRY if state == _RUNNING else Owner.NOBODY


def owner_of_dead_process(copy: StoredExecution | None, try_number: int, *, retry_follows: bool) -> Owner:
    """
    Return who decides about the execution of a try whose process has died, as the DAG processor sees it.
    """
    if retry_follows or copy is None or copy.try_number > try_number:
        return Owner.LATER_TRY
    return Owner.NOBODY


def _order(record: StoredExecution) -> tuple[datetime, int]:
    """Return a value that is greater for a later try, also after the DAG run was created again."""
    return _started_at(record), record.try_number


def _started_at(record: StoredExecution) -> datetime:
    incarnation = record.incarnation
    return (incarnation and incarnation.dag_run_started_at) or _UNKNOWN_START


def _is_of_same_execution(other: StoredExecution, record: StoredExecution) -> bool:
    return other.request.client_request_token == record.request.client_request_token


def _is_unanswered(other: StoredExecution, record: StoredExecution) -> bool:
    """Return whether the try that wrote a record does not know what AWS has responded to the same request."""
    if not _is_of_same_execution(other, record):
        return False
    return other.execution_arn is None or (
        other.resume_is_pending and other.resume_token == record.resume_token
    )
