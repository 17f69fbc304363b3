"""
Answers what the processes of simulated tasks ask Airflow: states, XComs, and the
Variables of their records.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.deployment import DEPLOYMENT_KEY
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records.keys import RECORD_KEY, variable_key
from polysync_airflow.records.serialization import RECORD, TASK
from polysync_airflow.states import DELETED
from tests.fakes.airflow_encoding import pulled
from tests.fakes.airflow_service import DEPLOYMENT, MISSING, AirflowService

if TYPE_CHECKING:
    from tests.tasks import TaskInstance


_WITH_NEW_ID: Final = (DELETED, "scheduled", "restarting", "up_for_retry", None)


class AirflowApiError(Exception):
    """An error of Airflow's API server."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"API_SERVER_ERROR: {status_code}")


class SimulatedAirflow(AirflowService):
    """
    Knows the task instances of a test, by their tries.

    If ``has_teams``, they belong to a team: Airflow shows a Variable to the current try
    on its worker only, and hides XComs from a try that it has replaced.

    The record in the Variable of a task instance is in its ``store``, where tests look
    for it and edit it.
    """

    def __init__(self) -> None:
        self.instances: list[TaskInstance] = []
        self._processes: list[TaskInstance] = []
        self.has_teams = False

    def clear(self) -> None:
        """Forget all task instances."""
        self.instances.clear()
        self._processes.clear()
        self.has_teams = False

    @contextmanager
    def process(self, ti: TaskInstance) -> Iterator[None]:
        """Run the process of a try. While it is frozen, that of another try may run."""
        self._processes.append(ti)
        try:
            yield
        finally:
            self._processes.pop()

    def task_state(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
        """
        Return the state of a task instance; MISSING if there is no such task instance.
        """
        self._raise_if_cut_off()
        ti = self._find(TaskKey(dag_id, run_id, task_id, map_index))
        state = ti.state()
        if state == DELETED:
            return MISSING
        if state == "running" and ti.is_deferred:
            return "deferred"
        return state

    def is_current(self, ti_id: uuid.UUID) -> bool:
        """
        Return whether a task instance has this id. A retry that is due, or a clear,
        gives it another one.
        """
        self._raise_if_cut_off()
        return self._has_id(next(each for each in self.instances if each.id == ti_id))

    def _has_id(self, ti: TaskInstance) -> bool:
        return self._find(TaskKey.of(ti)) is ti and ti.state() not in _WITH_NEW_ID

    def try_number(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
        """
        Return the number of the newest try; MISSING if the task instance was deleted.
        """
        self._raise_if_cut_off()
        ti = self._find(TaskKey(dag_id, run_id, task_id, map_index))
        return MISSING if ti.state() == DELETED else ti.try_number

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
    ) -> Any:
        """Return the value of an XCom."""
        self._raise_if_hidden()
        return self._find(TaskKey(dag_id, run_id, task_id, map_index)).xcoms.get(key)

    def put_xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int,
        key: str,
        value: Any,
    ) -> None:
        """Store an XCom."""
        self._raise_if_cut_off()
        self._raise_if_hidden()
        ti = self._find(TaskKey(dag_id, run_id, task_id, map_index))
        self._raise_if_deleted(ti)
        ti.xcoms[key] = pulled(value)

    def remove_xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
    ) -> None:
        """Delete an XCom."""
        self._find(TaskKey(dag_id, run_id, task_id, map_index)).xcoms.pop(key, None)

    def variable(self, key: str) -> str | None:
        """Return the value of a Variable; None if there is none."""
        self._raise_if_cut_off()
        if self.has_teams and not (
            self._processes and self._has_id(self._processes[-1])
        ):
            return None
        if key == DEPLOYMENT_KEY:
            return self._processes[-1].deployment if self._processes else DEPLOYMENT
        return self.record_text(key)

    def record_text(self, key: str) -> str | None:
        """Return the text of the Variable with a record; None if there is none."""
        ti = self._find_by_variable(key)
        value = ti.store.get(RECORD_KEY)
        return (
            None
            if value is None
            else json.dumps({TASK: asdict(TaskKey.of(ti)), RECORD: value})
        )

    def variable_keys(self) -> list[str]:
        """Return the keys of all Variables."""
        return [
            variable_key(TaskKey.of(ti))
            for ti in self.instances
            if ti.store.get(RECORD_KEY) is not None
        ]

    def put_variable(self, key: str, value: str, description: str) -> None:
        """Store a Variable."""
        self._raise_if_cut_off()
        assert description
        if key == DEPLOYMENT_KEY:
            self._processes[-1].deployment = value
            return
        ti = self._find_by_variable(key)
        self._raise_if_deleted(ti)
        ti.store.set(RECORD_KEY, json.loads(value)[RECORD])

    def delete_variable(self, key: str) -> None:
        """Delete a Variable."""
        self._raise_if_cut_off()
        self._find_by_variable(key).store.delete(RECORD_KEY)

    def _raise_if_cut_off(self) -> None:
        if self._processes and (status_code := self._processes[-1].status_code):
            raise AirflowApiError(status_code)

    def _raise_if_hidden(self) -> None:
        # The triggerer and the DAG processor, which have no process here, see all.
        asking = self._processes[-1] if self._processes else None
        if self.has_teams and asking and not self._has_id(asking):
            raise AirflowApiError(403)

    @staticmethod
    def _raise_if_deleted(ti: TaskInstance) -> None:
        # As Airflow 3.4 does.
        if ti.state() == DELETED:
            raise AirflowApiError(404)

    def _find(self, key: TaskKey) -> TaskInstance:
        return next(ti for ti in reversed(self.instances) if TaskKey.of(ti) == key)

    def _find_by_variable(self, key: str) -> TaskInstance:
        return next(
            ti for ti in reversed(self.instances) if variable_key(TaskKey.of(ti)) == key
        )


AIRFLOW = SimulatedAirflow()
