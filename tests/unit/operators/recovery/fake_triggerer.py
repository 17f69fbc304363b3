"""
Fakes of the triggerer: a trigger with its task instance, and the channel to Airflow's
API server.
"""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger
from tests.fakes.simulated_airflow import AIRFLOW, SimulatedAirflow
from tests.tasks import TaskInstance, run_task

DAG, RUN, TASK = "retraining", "scheduled__2026-01-01T00:00:00+00:00", "group.train"


class FakeSupervisor(SimulatedAirflow):
    """
    Answers requests for one task instance's state and XComs, and those for the
    Variables of all simulated tasks.

    :param state: the state of the task instance; MISSING if Airflow does not know the
        task instance. An exception is raised.
    """

    def __init__(self, state: Any) -> None:
        super().__init__()
        self.instances = AIRFLOW.instances
        self.state = state
        self.xcoms: dict[str, Any] = {}
        # What was stored as the XCom ``run``.
        self.runs: list[dict[str, Any]] = []

    def task_state(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
        """Return the state. Simulated tasks have their own states."""
        if task_id != TASK:
            return super().task_state(dag_id, run_id, task_id, map_index)
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
    ) -> Any:
        """Return an XCom."""
        assert (dag_id, run_id, task_id, map_index) == (DAG, RUN, TASK, -1)
        return self.xcoms.get(key)

    def put_xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int,
        key: str,
        value: Any,
    ) -> None:
        """Store an XCom, and remember all values of ``run``."""
        if task_id != TASK:
            super().put_xcom(dag_id, run_id, task_id, map_index, key, value)
            return
        assert (dag_id, run_id, map_index) == (DAG, RUN, -1)
        self.xcoms[key] = json.loads(json.dumps(value))
        self.runs += [self.xcoms[key]] if key == "run" else []


def make_trigger(arn: str, **changes: Any) -> PolysyncPipelineExecutionTrigger:
    """
    Return the trigger as a triggerer creates it: from JSON, with its task instance.
    """
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
        dag_id=DAG, task_id=TASK, run_id=RUN, map_index=-1, try_number=1
    )
    return trigger


def start_execution() -> str:
    """Start an execution of the task, and return its ARN. It has no record."""
    operator = PolysyncStartPipelineOperator(
        task_id=TASK, pipeline_name="fanout", wait_for_completion=False
    )
    ti = TaskInstance(TASK, DAG, RUN)
    return str(run_task(operator, ti).result)


def call_on_kill(trigger: PolysyncPipelineExecutionTrigger) -> None:
    """
    Call ``on_kill``, as Airflow does when a user or the DAG run has ended the task.
    """
    asyncio.run(trigger.on_kill())
