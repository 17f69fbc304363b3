"""
What the triggerer keeps of the DAG that Airflow sends for each task that starts there:
with Airflow's own runner.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Sized
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.triggers.base import BaseTrigger, TriggerEvent

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.operators.step_tasks import PolysyncPipelineStepOperator
from polysync_airflow.triggers import poller
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import EmulatedTime, TaskInstance

if CAPABILITIES.start_from_trigger:
    from tests.unit.sensors.triggerer import sent_dag_run, sent_ti

pytestmark = pytest.mark.skipif(
    not CAPABILITIES.start_from_trigger, reason="no task starts in this triggerer"
)

COUNT = 3


class PlainTrigger(BaseTrigger):
    """Waits for ever, and keeps what Airflow gives it."""

    waiting: ClassVar[list[PlainTrigger]] = []

    def __init__(self, **_: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores."""
        return f"{__name__}.PlainTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait."""
        self.waiting.append(self)
        await asyncio.Event().wait()
        yield TriggerEvent(None)  # type: ignore[no-untyped-call]


def waiting(path: str) -> Sized:
    """Return the tasks that wait."""
    if path.endswith("PlainTrigger"):
        return PlainTrigger.waiting
    return [wait for each in poller._POLLERS.values() for wait in each._schedule.waits]


async def dags_kept(path: str) -> int:
    """
    Let Airflow start the tasks of three steps with a trigger; return how many DAGs
    exist while they wait.
    """
    from airflow.executors.workloads.trigger import RunTrigger
    from airflow.jobs.triggerer_job_runner import TriggerRunner
    from airflow.models.trigger import Trigger
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("steps", schedule=None) as dag:
        names = [f"Step{number}" for number in range(COUNT)]
        tasks = [
            PolysyncPipelineStepOperator(
                task_id=name, execution_task_id="execution", step_name=name
            )
            for name in names
        ]
    stored = json.dumps(DagSerialization.to_dict(dag))
    runner: Any = TriggerRunner()  # type: ignore[no-untyped-call]
    for number, task in enumerate(tasks):
        ti = TaskInstance(task.task_id, dag_id="steps")
        arguments = task.start_trigger_args
        assert arguments
        workload = RunTrigger.model_construct(
            id=number,
            classpath=path,
            encrypted_kwargs=Trigger.encrypt_kwargs(arguments.trigger_kwargs or {}),
            ti=sent_ti(ti),
            timeout_after=None,
            watched_assets=None,
            dag_data=json.loads(stored),
            dag_run_data=sent_dag_run(ti),
        )
        runner.to_create.append(workload)
        del workload
    await runner.create_triggers()
    try:
        async with asyncio.timeout(60):
            while len(waiting(path)) < COUNT:
                await asyncio.sleep(0.001)
        gc.collect()
        return sum(
            type(each) is SerializedDAG and each.dag_id == "steps"
            for each in gc.get_objects()
        )
    finally:
        running = [details["task"] for details in runner.triggers.values()]
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        PlainTrigger.waiting.clear()


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        (f"{__name__}.PlainTrigger", COUNT),
        ("polysync_airflow.start_in_triggerer.PolysyncStepTaskEndTrigger", 0),
    ],
    ids=["plain", "step"],
)
def test_dags_are_freed_while_steps_wait(
    path: str,
    kept: int,
    simulated_airflow: SimulatedAirflow,
    emulated_time: EmulatedTime,
) -> None:
    """
    Of a trigger that does nothing for it, Airflow keeps a copy of the DAG for each
    task.
    """
    TaskInstance("execution", dag_id="steps", state=lambda: "queued")

    assert asyncio.run(dags_kept(path)) == kept
