"""
How much more than ``max_cost`` is spent, by what AWS bills of each kind of job. What
AWS says of a training job that runs grows.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.exceptions import PipelineExecutionTooExpensiveError
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step
from sagemaker_emulator.engine.durations import STOPPING
from tests.conftest import IN_BOTH_MODES
from tests.unit.events.conftest import client
from tests.unit.operators.recovery.conftest import MakeTask
from tests.world import World

MAX_COST = 600
INTERVAL = 30
# What the emulator needs to stop a job. SageMaker needs up to 120 seconds.
BOUND = INTERVAL + STOPPING
SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {
        "MaxRuntimeInSeconds": 86_400,
        "MaxWaitTimeInSeconds": 86_400,
    },
}
KEPT = {
    "InstanceType": "ml.m5.large",
    "InstanceCount": 1,
    "VolumeSizeInGB": 30,
    "KeepAlivePeriodInSeconds": 600,
}


@pytest.fixture(autouse=True)
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an instance cost 1 USD a second."""
    table = {
        "currency": "USD",
        "date": "2026-11-01",
        "prices": {"us-east-1": {"ml.m5.large": 3600}},
    }
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", json.dumps(table))


def billed_seconds(sagemaker: Any, metadata: dict[str, Any]) -> tuple[float, float]:
    """Return for how long a job ran, and for how long AWS bills its instance."""
    ((member, value),) = metadata.items()
    name = value["Arn"].rpartition("/")[2]
    match member:
        case "TrainingJob":
            job = sagemaker.describe_training_job(TrainingJobName=name)
            pool = job.get("WarmPoolStatus", {})
            kept = pool.get("ResourceRetainedBillableTimeInSeconds", 0)
            return job["TrainingTimeInSeconds"], job["BillableTimeInSeconds"] + kept
        case "ProcessingJob":
            job = sagemaker.describe_processing_job(ProcessingJobName=name)
            seconds = job["ProcessingEndTime"] - job["ProcessingStartTime"]
        case "TransformJob":
            job = sagemaker.describe_transform_job(TransformJobName=name)
            seconds = job["TransformEndTime"] - job["TransformStartTime"]
        case "TuningJob":
            (job,) = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
                HyperParameterTuningJobName=name
            )["TrainingJobSummaries"]
            seconds = job["TrainingEndTime"] - job["TrainingStartTime"]
    return seconds.total_seconds(), seconds.total_seconds()


@IN_BOTH_MODES
@pytest.mark.parametrize(
    ("kind", "arguments", "billed_share", "kept_seconds"),
    [
        ("Training", {}, 1, 0),
        ("Training", SPOT, 0.3, 0),
        ("Training", {"ResourceConfig": KEPT}, 1, 600),
        ("Processing", {}, 1, 0),
        ("Transform", {}, 1, 0),
        ("Tuning", {}, 1, 0),
    ],
)
def test_execution_is_stopped_within_the_bound(
    kind: str,
    arguments: dict[str, Any],
    billed_share: float,
    kept_seconds: int,
    make_task: MakeTask,
    emulator: EmulatorServer,
    world: World,
) -> None:
    """The first bound of the page about costs, with that of the warm pools."""
    sagemaker: Any = client(emulator, "sagemaker")
    sagemaker.create_pipeline(
        PipelineName="dear",
        PipelineDefinition=definition(step("Run", kind, Arguments=arguments)),
        RoleArn=ROLE,
    )
    world.control.put_scenario({"steps": {"Run": {"duration": 50_000}}})
    task = make_task(
        pipeline_name="dear",
        pipeline_parameters={},
        max_cost=MAX_COST,
        poll_interval=INTERVAL,
        progress_interval=INTERVAL,
    )

    run = task.next_try()

    world.control.advance(5000)
    (listed,) = sagemaker.list_pipeline_execution_steps(
        PipelineExecutionArn=world.log.arns[0]
    )["PipelineExecutionSteps"]
    seconds, billed = billed_seconds(sagemaker, listed["Metadata"])
    assert isinstance(run.error, PipelineExecutionTooExpensiveError)
    assert MAX_COST <= seconds < MAX_COST + BOUND
    assert billed == pytest.approx(seconds * billed_share + kept_seconds, abs=1)
