"""
The record store: the record of a task's execution, kept between the tries, and who may act on it.

The fields of the record are defined by ``StoredExecution`` in ``execution/models.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.exceptions import AirflowRuntimeError

from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.models import StoredExecution
from polysync_airflow.records.ownership import Owner, has_later_try, owner_of_replaced
from polysync_airflow.records.proof import RECORD_KEY, OwnTarget, from_stored, to_stored
from polysync_airflow.records.signature import TaskKey
from polysync_airflow.records.task_state import read_state

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

NOT_FOUND: Final = 404


class RecordStore:
    """
    Read and write the record of a task's execution. The record outlives tries, crashes, deferrals and clears.

    Every write also pushes a copy as an XCom, since the DAG processor and the triggerer cannot read Airflow's
    task state store.
    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/task-and-asset-state-store.html

    :param context: the task's context.
    :param own_target: returns what the task would start now.
    """

    def __init__(self, context: Context, own_target: Callable[[], OwnTarget]) -> None:
        self._store: Any = context["task_state_store"]
        self._ti: Any = context["ti"]
        self._own_target = own_target

    @property
    def try_number(self) -> int:
        """The number of this try."""
        return int(self._ti.try_number)

    def read(self) -> StoredExecution | None:
        """
        Return the record that earlier tries stored; None if there is no record.

        :raises StoredRecordError: the record is damaged, or is not one of this task.
        """
        value = self._store.get(RECORD_KEY)
        return None if value is None else from_stored(value, TaskKey.of(self._ti), self._own_target)

    def write(self, record: StoredExecution) -> None:
        """
        Store the record. It is kept until Airflow deletes the DAG run.

        :param record: the record.
        :raises AirflowRuntimeError: Airflow has given the task instance to a later try, or does not respond.
        """
        self._ti.xcom_push(RECORD_KEY, self._set(record))

    def delete(self) -> None:
        """Delete the record. Only correct if AWS has certainly not started an execution."""
        self._store.delete(RECORD_KEY)
        # A task instance has no method that deletes an XCom.
        self._ti.xcom_push(RECORD_KEY, None)

    def announce_stop(self, record: StoredExecution) -> Owner:
        """
        Find out whether this try may stop its execution, and store that it is going to do so.

        Airflow accepts the write only while the task instance is that of this try. By the stored number of
        the try, a later try tells this stop from a cancellation by somebody else.

        :param record: the record of the execution.
        """
        try:
            self._set(record.model_copy(update={"stop_requested_by": self.try_number}))
        except AirflowRuntimeError as error:
            if _status_code(error) != NOT_FOUND:
                return self._unknown(error)
            return self._owner_of_replaced(record)
        except Exception as error:
            return self._unknown(error)
        return Owner.THIS_TRY

    def withdraw_stop(self, record: StoredExecution) -> None:
        """
        Store that a stop that was announced has failed. Raises no error: the task ends with its own.

        :param record: the record of the execution.
        """
        try:
            self._set(record)
        except Exception as error:
            log.warning("The record cannot be updated: %s", error)

    def owner(self, record: StoredExecution) -> Owner:
        """
        Return who decides about the execution of this try, without a change.

        :param record: the record of the execution.
        """
        try:
            if self._store.get(RECORD_KEY) is not None:
                return Owner.THIS_TRY
        except Exception as error:
            return self._unknown(error)
        return self._owner_of_replaced(record)

    def _owner_of_replaced(self, record: StoredExecution) -> Owner:
        # For a later try, and at once when a running task is cleared, Airflow gives the task instance a new
        # id. This process then no longer reaches the task state store. It still reaches the XComs, which
        # Airflow deletes when a later try begins.
        try:
            state = read_state(self._ti)
            # An early answer spares a request.
            copy = None if has_later_try(state) else pull_copy(self._ti, self._own_target)
        except Exception as error:
            return self._unknown(error)
        return owner_of_replaced(record, self.try_number, state, copy)

    def _unknown(self, error: Exception) -> Owner:
        log.warning("Whether a later try has the execution cannot be read from Airflow: %s", error)
        return Owner.UNKNOWN

    def _set(self, record: StoredExecution) -> dict[str, Any]:
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined] # missing in its stubs

        value = to_stored(record, TaskKey.of(self._ti))
        # An execution may take longer than Airflow's default retention of 30 days.
        self._store.set(RECORD_KEY, value, retention=NEVER_EXPIRE)
        return value


def pull_copy(ti: Any, own_target: Callable[[], OwnTarget]) -> StoredExecution | None:
    """
    Return the record in the XComs of a task instance; None if there is none, or if it is not proven.

    :param ti: the task instance, on a worker or in the DAG processor.
    :param own_target: returns what the task would start now.
    """
    value = ti.xcom_pull(task_ids=ti.task_id, key=RECORD_KEY, map_indexes=ti.map_index)
    return proven_copy(value, ti, own_target)


def proven_copy(value: Any, ti: Any, own_target: Callable[[], OwnTarget]) -> StoredExecution | None:
    """
    Return the record that an XCom holds; None if it holds none, or if it is not proven.

    :param value: the value of the XCom.
    :param ti: the task instance.
    :param own_target: returns what the task would start now.
    """
    try:
        return None if value is None else from_stored(value, TaskKey.of(ti), own_target)
    except StoredRecordError as error:
        log.warning("XCom %r is ignored: %s", RECORD_KEY, error)
        return None


def _status_code(error: AirflowRuntimeError) -> Any:
    return (error.error.detail or {}).get("status_code")
