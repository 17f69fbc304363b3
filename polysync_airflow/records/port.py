"""
The record store: the record of a task's execution, kept between the tries, and who may act on it.

The fields of the record are defined by ``StoredExecution`` in ``execution/models.py``. ``store`` chooses the
implementation.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from polysync_airflow.execution.lifecycle.ownership import Owner
from polysync_airflow.execution.models import StoredExecution
from polysync_airflow.records.proof import RECORD_KEY, from_stored
from polysync_airflow.records.signature import TaskKey

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class RecordStore(ABC):
    """
    Read and write the record of a task's execution. The record outlives tries, crashes, deferrals and clears.

    Every write also pushes a copy as an XCom, since not every process of Airflow can read the store.
    """

    # Where a user finds the record, and deletes it.
    place: str

    def __init__(self, context: Context) -> None:
        self._ti: Any = context["ti"]
        self._task = TaskKey.of(self._ti)

    @property
    def try_number(self) -> int:
        """The number of this try."""
        return int(self._ti.try_number)

    def read(self) -> StoredExecution | None:
        """
        Return the record that earlier tries stored; None if there is no record.

        :raises StoredRecordError: the record is damaged, or is not one of this task.
        """
        value = self._get()
        return None if value is None else from_stored(value, self._task, place=self.place)

    def write(self, record: StoredExecution) -> None:
        """
        Store the record.

        :raises Exception: Airflow has given the task instance to a later try, or does not respond.
        """
        self._ti.xcom_push(RECORD_KEY, self._set(record))

    def delete(self) -> None:
        """Delete the record. Only correct if AWS has certainly not started an execution."""
        self._remove()
        # A task instance has no method that deletes an XCom.
        self._ti.xcom_push(RECORD_KEY, None)

    @abstractmethod
    def announce_stop(self, record: StoredExecution) -> Owner:
        """
        Find out whether this try may stop its execution, and store that it is going to do so.

        By the stored number of the try, a later try tells this stop from a cancellation by somebody else.
        """

    def withdraw_stop(self, record: StoredExecution) -> None:
        """Store that a stop that was announced has failed. Raises no error: the task ends with its own."""
        try:
            self._set(record)
        except Exception as error:
            log.warning("The record cannot be updated: %s", error)

    @abstractmethod
    def owner(self, record: StoredExecution) -> Owner:
        """Return who decides about the execution of this try, without a change."""

    @abstractmethod
    def delete_leftovers(self) -> None:
        """Delete what earlier DAG runs need no longer. Raises no error: the task goes on without it."""

    @abstractmethod
    def _get(self) -> Any:
        """Return the stored value; None if there is none."""

    @abstractmethod
    def _set(self, record: StoredExecution) -> dict[str, Any]:
        """Store the record, and return it in its signed form."""

    @abstractmethod
    def _remove(self) -> None:
        """Delete the stored value."""

    def _unknown(self, error: Exception) -> Owner:
        log.warning("Whether a later try has the execution cannot be read from Airflow: %s", error)
        return Owner.UNKNOWN
