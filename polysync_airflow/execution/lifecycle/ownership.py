"""
Who decides about an execution, as a process that waited for it sees it: on a worker, in a triggerer, or in
the DAG processor. Everything here is pure.

``state`` is the state of the task instance now; None if it has been cleared. ``copy`` is the proven record
in its XComs; None if there is none.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from polysync_airflow.airflow_compat.task_instances import DELETED
from polysync_airflow.execution.models import StoredExecution

# States of a task instance that has a later try, or gets one. In all other states, a user has cleared or
# ended the task.
_RUNNING: Final = "running"
DEFERRED: Final = "deferred"
_WITH_LATER_TRY: Final = ("scheduled", "queued", _RUNNING, DEFERRED, "up_for_retry", "up_for_reschedule")


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


def has_later_try(state: str | None) -> bool:
    """Return whether a task instance in this state has a later try, or gets one."""
    return state in _WITH_LATER_TRY


def owner_of_replaced(
    record: StoredExecution, try_number: int, state: str | None, copy: StoredExecution | None
) -> Owner:
    """
    Return who decides about the execution of a try whose task instance has a new id.

    For a later try, and at once when a running task is cleared, Airflow gives the task instance a new id.
    The process of the former try then no longer reaches the task state store. It still reaches the XComs,
    which Airflow deletes when a later try begins.
    """
    if has_later_try(state):
        return Owner.LATER_TRY
    if state == DELETED:
        return Owner.NOBODY
    return Owner.NOBODY if _is_of_same_try(copy, record, try_number) else Owner.LATER_TRY


def owner_by_record(
    record: StoredExecution,
    try_number: int,
    state: str | None,
    stored: StoredExecution | None,
    copy: StoredExecution | None,
) -> Owner:
    """
    Return who decides about the execution of a try, where the record store accepts the writes of every try.

    A try that has gone on with the execution has written its number into the stored record. One that has
    begun, but has not come so far, has caused that Airflow deleted the XComs.
    """
    if stored and not _is_of_same_try(stored, record, try_number):
        return Owner.LATER_TRY
    if state == _RUNNING:
        return Owner.THIS_TRY if _is_of_same_try(copy, record, try_number) else Owner.LATER_TRY
    return owner_of_replaced(record, try_number, state, copy)


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
    if retry_follows or copy is None or copy.try_number != try_number:
        return Owner.LATER_TRY
    return Owner.NOBODY


def _is_of_same_try(other: StoredExecution | None, record: StoredExecution, try_number: int) -> bool:
    return (
        other is not None
        and other.try_number == try_number
        and other.request.client_request_token == record.request.client_request_token
    )
