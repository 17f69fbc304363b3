"""The identity of a task instance, from which the tokens and names of its executions follow."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from polysync_airflow.airflow_compat.task_instances import is_start_planned, read_incarnation
from polysync_airflow.execution.lifecycle.identity import TaskIdentity, TaskKey
from polysync_airflow.execution.record import Incarnation
from polysync_airflow.records.signature import task_marks

if TYPE_CHECKING:
    from airflow.sdk import Context


def task_identity(context: Context) -> TaskIdentity:
    """
    Return the identity of a task instance. For a worker.

    :raises PolysyncError: the deployment's Fernet key cannot be used.
    """
    key = TaskKey.of(context["ti"])
    incarnation = Incarnation.model_validate(read_incarnation(context))
    # A test run begins at its date, also the next time: it must not get the execution of the last time.
    nonce = uuid.uuid4().hex if is_start_planned(context) else ""
    return TaskIdentity(key, incarnation, task_marks(key), nonce)
