"""
The record store: the record of a task's execution, kept in Airflow's task state store between the tries.

The fields of the record are defined by ``StoredExecution`` in ``execution/models.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.models import StoredExecution
from polysync_airflow.execution.texts import describe_validation_error

if TYPE_CHECKING:
    from airflow.sdk import Context

# Running tasks have stored their record under this key. With another key, their next try would not find the
# record and would start a second execution.
STORE_KEY: Final = "polysync_execution"


class RecordStore:
    """
    Read and write the record of a task's execution. The record outlives tries, crashes, deferrals and clears.

    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/task-and-asset-state-store.html

    :param context: the task's context.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context["task_state_store"]

    def read(self) -> StoredExecution | None:
        """
        Return the record that earlier tries stored; None if there is no record.

        :raises StoredRecordError: the record is damaged, for example because somebody edited it.
        """
        value = self._store.get(STORE_KEY)
        if value is None:
            return None
        try:
            return StoredExecution.model_validate(value)
        except ValidationError as error:
            problems = describe_validation_error(error)
        raise StoredRecordError(
            "The record that earlier tries of this task stored about their execution is damaged "
            f"({problems}). Nothing was started, because that execution may still be running. Look for it in "
            "the SageMaker console, and stop it there if it is running. Then delete the key "
            f"{STORE_KEY!r} on the tab Task State Store of the task instance, and clear the task."
        )

    def write(self, record: StoredExecution) -> None:
        """
        Store the record. It is kept until Airflow deletes the DAG run.

        :param record: the record.
        """
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined] # missing in its stubs

        # An execution may take longer than Airflow's default retention of 30 days.
        self._store.set(STORE_KEY, record.model_dump(mode="json"), retention=NEVER_EXPIRE)

    def delete(self) -> None:
        """Delete the record. Only correct if AWS has certainly not started an execution."""
        self._store.delete(STORE_KEY)
