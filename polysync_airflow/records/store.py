"""Chooses the record store that the running version of Airflow offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
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
