"""Owns what stands in for a triggerer's way to Airflow's API."""

from __future__ import annotations

from typing import Any

from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom, TaskStatesResult, XComResult

DAG, RUN, TASK = "retraining", "scheduled__2026-01-01T00:00:00+00:00", "group.train"
MISSING: Any = object()


class Supervisor:
    """
    Stands in for the triggerer's way to Airflow's API: answers what a task's state is, and its XComs.

    :param state: the task's; MISSING if Airflow knows no such task.
    :param map_index: the task's; -1 if it is not mapped.
    """

    def __init__(self, state: Any, map_index: int = -1) -> None:
        self.state, self.map_index = state, map_index
        self.run: Any = None
        self.asked: list[GetTaskStates] = []
        self.errors: dict[type, Exception] = {}

    def send(self, msg: Any) -> Any:
        """Answer as the API server does."""
        if type(msg) in self.errors:
            raise self.errors[type(msg)]
        if isinstance(msg, GetXCom):
            assert (msg.key, msg.task_id, msg.run_id, msg.map_index) == ("run", TASK, RUN, self.map_index)
            return XComResult(key=msg.key, value=self.run)
        self.asked.append(msg)
        # As ``get_task_instance_states`` in airflow/api_fastapi/execution_api/routes/task_instances.py.
        key = TASK if self.map_index < 0 else f"{TASK}_{self.map_index}"
        states = {} if self.state is MISSING else {RUN: {key: self.state}}
        return TaskStatesResult(task_states=states)
