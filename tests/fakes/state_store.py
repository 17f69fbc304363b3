"""Airflow's task state store, as the tries of a simulated task reach it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any


class AirflowApiError(Exception):
    """An error of Airflow's API server, with the members that ``AirflowRuntimeError`` of Airflow 3 has."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"API_SERVER_ERROR: {status_code}")
        self.error = SimpleNamespace(detail={"status_code": status_code, "message": "Server returned error"})


class StateStore:
    """
    Replaces Airflow's task state store: JSON values by key, which are kept after retries and clears.

    ``task_instance_id`` counts how often Airflow has given the task instance a new id.
    """

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.retentions: dict[str, Any] = {}
        self.task_instance_id = 0

    def replace_task_instance(self) -> None:
        """Give the task instance a new id, as ``TaskInstance.prepare_db_for_next_try`` does."""
        self.task_instance_id += 1

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Store a value; only JSON can be stored."""
        self.values[key], self.retentions[key] = json.dumps(value), retention

    def delete(self, key: str) -> None:
        """Delete a value."""
        self.values.pop(key, None)


class StateStoreOfTry:
    """
    The task state store as one try reaches it: only while the task instance has the id that the try knows.

    Its errors are those of ``TaskStateStoreAccessor`` in airflow/sdk/execution_time/context.py.

    :param store: the store of the task.
    """

    def __init__(self, store: StateStore) -> None:
        self.of_task = store
        self._id = store.task_instance_id
        self.status_code: int | None = None

    def fail_with(self, status_code: int) -> None:
        """Let every request fail, as with 403 after the token of the try has expired."""
        self.status_code = status_code

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value; the default if the task instance has another id."""
        self._raise_if_failing()
        return self.of_task.get(key, default) if self._id == self.of_task.task_instance_id else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Store a value."""
        self._raise_if_replaced()
        self.of_task.set(key, value, retention=retention)

    def delete(self, key: str) -> None:
        """Delete a value."""
        self._raise_if_replaced()
        self.of_task.delete(key)

    def _raise_if_replaced(self) -> None:
        self._raise_if_failing()
        if self._id != self.of_task.task_instance_id:
            raise AirflowApiError(404)

    def _raise_if_failing(self) -> None:
        if self.status_code:
            raise AirflowApiError(self.status_code)
