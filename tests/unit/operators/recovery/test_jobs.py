"""
Jobs, whose pipelines their tasks make: at most one execution, wherever a try dies, and
whatever other runs make of the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from polysync_airflow.operators import PolysyncRunJobOperator
from tests.conftest import IN_BOTH_MODES
from tests.fakes.json_store import JsonStore
from tests.unit.operators.recovery.harness import CrashError, Task, crash
from tests.world import START, World

UPDATE, CREATE = "UpdatePipeline", "CreatePipeline"
ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
PROCESSING: dict[str, Any] = {
    "ProcessingJobName": "report-{{ ds }}",
    "RoleArn": ROLE,
    "AppSpecification": {
        "ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/report:1",
        "ContainerArguments": ["--day", "{{ ds }}"],
    },
    "Environment": {"DAY": "{{ ds }}"},
    "ProcessingResources": {
        "ClusterConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": "{{ params.n }}",
            "VolumeSizeInGB": 10,
        }
    },
}


@dataclass
class JobTask(Task):
    """
    A task that runs a job.

    :param day: what its templates render.
    :param config: the request before they are rendered.
    """

    day: str = "2026-01-01"
    config: Any = None

    def _make_operator(self, changes: dict[str, Any]) -> PolysyncRunJobOperator:
        values = {
            "task_id": self.task_id,
            "job_type": "Processing",
            "config": self.config or PROCESSING,
            "poll_interval": 60,
            "progress_interval": None,
            "deferrable": self.deferrable,
            "retries": self.retries,
            **self.arguments,
            **changes,
        }
        operator = PolysyncRunJobOperator(**values).prepare_for_execution()
        context: Any = {"ds": self.day, "params": {"n": 2}}
        operator.render_template_fields(context)
        return operator


def versions(world: World) -> list[int]:
    """Return the number of versions of each pipeline that a task has made."""
    (region,) = world.emulator.sagemaker.regions.values()
    return [
        len(pipeline.versions)
        for pipeline in region.pipelines.values()
        if pipeline.name.startswith("airflow-")
    ]


def days(world: World) -> list[str]:
    """Return the days for which executions have run, in the order of their starts."""
    started = [
        {each["Name"]: each["Value"] for each in record.request["PipelineParameters"]}
        for record in world.log.executions
    ]
    return [parameters["DAY"] for parameters in started]


@IN_BOTH_MODES
@pytest.mark.parametrize("operation", [UPDATE, CREATE, START])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("is_lost", [False, True], ids=["record", "lost"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside"])
def test_crash(
    moment: str,
    operation: str,
    is_lost: bool,
    beside: bool,
    deferrable: bool,
    world: World,
) -> None:
    """
    A try dies before or after each call, its record is kept or lost, and another run
    with another config starts meanwhile: one execution, and the retry succeeds.
    """
    task = JobTask(deferrable)
    getattr(world.requests, moment)(operation, crash)
    assert isinstance(task.next_try().error, CrashError)
    world.requests.clear()
    if beside:
        config = {**PROCESSING, "StoppingCondition": {"MaxRuntimeInSeconds": 60}}
        other = JobTask(
            deferrable, run_id="scheduled__2", day="2026-01-02", config=config
        )
        assert other.next_try().error is None
    if is_lost:
        task.store = JsonStore()

    run = task.next_try()

    assert run.error is None
    assert days(world).count("2026-01-01") == 1
