"""Owns what a task's tries leave to each other: one record in Airflow's task state store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.models import StoredExecution

if TYPE_CHECKING:
    from airflow.sdk import Context

# Tasks that are under way have it stored: under another name, they would start anew.
STORE_KEY: Final = "polysync_execution"


class RecordStore:
    """
    The record of a task's execution; it outlives tries, crashes, deferrals and a user's clear.

    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/task-and-asset-state-store.html

    :param context: the task's context.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context["task_state_store"]

    def read(self) -> StoredExecution | None:
        """
        Return what earlier tries left.

        :raises StoredRecordError: if it is damaged; people can edit it.
        """
        found = self._store.get(STORE_KEY)
        if found is None:
            return None
        try:
            return StoredExecution.model_validate(found)
        except ValidationError as error:
            told = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'all of it'}: {problem['msg']}"
                for problem in error.errors(include_url=False)
            )
        raise StoredRecordError(
            f"What earlier tries of this task stored about their execution is damaged ({told}). Nothing was "
            "started, since that execution may still run: look for it in the SageMaker console, and stop it "
            f"there if it does. Then delete the key {STORE_KEY!r} on the tab Task State Store of the task "
            "instance, and clear the task."
        )

    def write(self, stored: StoredExecution) -> None:
        """
        Store it for as long as its DAG run is kept: Airflow's default of 30 days may be over too soon.

        :param stored: the record.
        """
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined] # missing in its stubs

        self._store.set(STORE_KEY, stored.model_dump(mode="json"), retention=NEVER_EXPIRE)

    def delete(self) -> None:
        """Forget it: there certainly is no execution."""
        self._store.delete(STORE_KEY)
