"""
What the triggerer keeps of the DAG that Airflow sends for each task that starts there:
with Airflow's own runner.
"""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

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


def waiting() -> int:
    """Return the number of tasks that wait."""
    return sum(len(each._schedule.waits) for each in poller._POLLERS.values())


async def dags_kept() -> int:
    """
    Let Airflow start the tasks of three steps in the triggerer; return how many DAGs
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
            classpath=arguments.trigger_cls,
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
            while waiting() < COUNT:
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


def test_dags_are_freed_while_steps_wait(
    simulated_airflow: SimulatedAirflow, emulated_time: EmulatedTime
) -> None:
    """
    Of a trigger that does nothing for it, Airflow would keep a copy of the DAG for each
    task.
    """
    TaskInstance("execution", dag_id="steps", state=lambda: "queued")

    assert asyncio.run(dags_kept()) == 0
