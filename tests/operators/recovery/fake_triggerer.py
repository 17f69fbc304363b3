"""Fakes of the triggerer: a trigger with its task instance, and the channel to Airflow's API server."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom, TaskStatesResult, XComResult

from polysync_airflow.records.proof import RECORD_KEY
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger

DAG, RUN, TASK = "retraining", "scheduled__2026-01-01T00:00:00+00:00", "group.train"
MISSING: Any = object()


class FakeSupervisor:
    """
    Answers the triggerer's requests for a task instance's state and XComs.

    :param state: the state of the task instance; MISSING if Airflow does not know the task instance.
    :param map_index: the map index of the task instance; -1 if the task is not mapped.
    """

    def __init__(self, state: Any, map_index: int = -1) -> None:
        self.state, self.map_index = state, map_index
        self.copy: Any = None
        self.requests: list[GetTaskStates] = []
        self.errors: dict[type, Exception] = {}

    def send(self, msg: Any) -> Any:
        """Return the response of the API server."""
        if type(msg) in self.errors:
            raise self.errors[type(msg)]
        if isinstance(msg, GetXCom):
            assert (msg.key, msg.task_id, msg.run_id, msg.map_index) == (
                RECORD_KEY,
                TASK,
                RUN,
                self.map_index,
            )
            return XComResult(key=msg.key, value=self.copy)
        self.requests.append(msg)
        # Like ``get_task_instance_states`` in airflow/api_fastapi/execution_api/routes/task_instances.py.
        key = TASK if self.map_index < 0 else f"{TASK}_{self.map_index}"
        states = {} if self.state is MISSING else {RUN: {key: self.state}}
        return TaskStatesResult(task_states=states)


def make_trigger(
    arn: str, *, map_index: int = -1, try_number: int = 1, **changes: Any
) -> PolysyncPipelineExecutionTrigger:
    """Return the trigger as a triggerer creates it: from JSON, with its task instance."""
    kwargs = {
        "execution_arn": arn,
        "pipeline_name": "fanout",
        "polysync_conn_id": "polysync_default",
        "region_name": "us-east-1",
        "poll_interval": 30.0,
        "since": 1_750_000_000.0,
        "deadline": 1_750_600_000.0,
        "attempt": 0,
        "stop_on_kill": True,
        **changes,
    }
    trigger = PolysyncPipelineExecutionTrigger(**json.loads(json.dumps(kwargs)))
    trigger.task_instance = SimpleNamespace(  # type: ignore[assignment]
        dag_id=DAG, task_id=TASK, run_id=RUN, map_index=map_index, try_number=try_number
    )
    return trigger


def call_on_kill(trigger: PolysyncPipelineExecutionTrigger) -> None:
    """Call ``on_kill``, as Airflow does when a user or the DAG run has ended the task."""
    asyncio.run(trigger.on_kill())
