"""Chooses the record store that the running version of Airflow offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.models import StoredExecution
from polysync_airflow.records.copies import pull_copy
from polysync_airflow.records.port import RecordStore
from polysync_airflow.records.proof import OwnTarget
from polysync_airflow.records.task_state_store import TaskStateRecordStore
from polysync_airflow.records.variable_store import VariableRecordStore

if TYPE_CHECKING:
    from airflow.sdk import Context


def record_store(context: Context, own_target: Callable[[], OwnTarget]) -> RecordStore:
    """
    Return the record store of a task instance.

    :param context: the task's context.
    :param own_target: returns what the task would start now.
    """
    store = TaskStateRecordStore if CAPABILITIES.task_state_store else VariableRecordStore
    return store(context, own_target)


def own_record(
    context: Context, own_target: Callable[[], OwnTarget]
) -> tuple[RecordStore, StoredExecution | None]:
    """
    Return the record store of a task instance and its record; the copy if the store has none.

    :param context: the task's context.
    :param own_target: returns what the task would start now.
    :raises StoredRecordError: the record is damaged, or was not written by this task.
    """
    store = record_store(context, own_target)
    return store, store.read() or pull_copy(context["ti"], own_target)
