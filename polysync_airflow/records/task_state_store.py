"""The record store in Airflow's task state store, which Airflow deletes with the DAG run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.airflow_compat.sdk import api_status_code
from polysync_airflow.airflow_compat.task_instances import read_state
from polysync_airflow.execution.lifecycle.ownership import Owner, has_later_try, owner_of_replaced
from polysync_airflow.execution.models import StoredExecution
from polysync_airflow.records.copies import pull_copy
from polysync_airflow.records.port import RecordStore
from polysync_airflow.records.proof import RECORD_KEY, to_stored

if TYPE_CHECKING:
    from airflow.sdk import Context

NOT_FOUND: Final = 404


class TaskStateRecordStore(RecordStore):
    """
    Keeps the record in the task state store.

    Airflow accepts a write only while the task instance is that of the try that writes.
    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/task-and-asset-state-store.html
    """

    place = f"the key {RECORD_KEY!r} on the tab Task State Store of the task instance"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._store: Any = context["task_state_store"]

    def announce_stop(self, record: StoredExecution) -> Owner:
        """Store that this try is going to stop its execution, which proves that it may."""
        try:
            self._set(record)
        except Exception as error:
            is_replaced = api_status_code(error) == NOT_FOUND
            return self._owner_of_replaced(record) if is_replaced else self._unknown(error)
        return Owner.THIS_TRY

    def owner(self, record: StoredExecution) -> Owner:
        """Return who decides about the execution of this try, without a change."""
        try:
            if self._get() is not None:
                return Owner.THIS_TRY
        except Exception as error:
            return self._unknown(error)
        return self._owner_of_replaced(record)

    def delete_leftovers(self) -> None:
        """Do nothing: Airflow deletes the records with their DAG run."""

    def _owner_of_replaced(self, record: StoredExecution) -> Owner:
        try:
            state = read_state(self._ti)
            # An early answer spares a request.
            copy = None if has_later_try(state) else pull_copy(self._ti)
        except Exception as error:
            return self._unknown(error)
        return owner_of_replaced(record, self.try_number, state, copy)

    def _get(self) -> Any:
        return self._store.get(RECORD_KEY)

    def _set(self, record: StoredExecution) -> dict[str, Any]:
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined] # missing in its stubs

        value = to_stored(record, self._task)
        # An execution may take longer than Airflow's default retention of 30 days.
        self._store.set(RECORD_KEY, value, retention=NEVER_EXPIRE)
        return value

    def _remove(self) -> None:
        self._store.delete(RECORD_KEY)
