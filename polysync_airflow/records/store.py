"""Chooses the record store that the running version of Airflow offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.models import StoredExecution
from polysync_airflow.records.copies import pull_copy
from polysync_airflow.records.port import RecordStore
from polysync_airflow.records.task_state_store import TaskStateRecordStore
from polysync_airflow.records.variable_store import VariableRecordStore

if TYPE_CHECKING:
    from airflow.sdk import Context


def record_store(context: Context) -> RecordStore:
    """Return the record store of a task instance."""
    store = TaskStateRecordStore if CAPABILITIES.task_state_store else VariableRecordStore
    return store(context)


def own_record(context: Context) -> tuple[RecordStore, StoredExecution | None]:
    """
    Return the record store of a task instance and its record; the copy if the store has none.

    :raises StoredRecordError: the record is damaged, or was not written by this task.
    """
    store = record_store(context)
    return store, store.read() or pull_copy(context["ti"])
