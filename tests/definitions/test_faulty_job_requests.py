"""Requests of jobs that AWS would refuse are refused before anything is started."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.operators import PolysyncRunJobOperator
from sagemaker_emulator import EmulatorServer
from tests.definitions.job_requests import (
    GROUPS,
    OBJECTIVE,
    RANGES,
    ROLE,
    SPOT,
    TRAIN,
    processing,
    training,
    transform,
    tuning,
)
from tests.tasks import run_task

GROUP: Final = [{**GROUPS[0], "InstanceType": "m5.large"}]
CLUSTER: Final = "ProcessingResources.ClusterConfig"
JOB: Final = "TrainingJobDefinition"
CONFIG: Final = "HyperParameterTuningJobConfig"
LIMITS: Final = f"{CONFIG}.ResourceLimits"
WAIT: Final = "StoppingCondition.MaxWaitTimeInSeconds"
KEEP: Final = "ResourceConfig.KeepAlivePeriodInSeconds"
MAKERS: Final = {
    "Training": training,
    "Processing": processing,
    "Transform": transform,
    "Tuning": tuning,
}
# The type of the job, what differs from a sound request, the member that the error
# names with its value, and the rule. A template stands for "bad" in params.
FAULTS: Final[list[tuple[str, dict[str, Any], str, str]]] = [
    # Bounds and patterns.
    ("Training", {"ResourceConfig.InstanceCount": 0}, "InstanceCount = 0", "at least"),
    ("Processing", {f"{CLUSTER}.VolumeSizeInGB": 0}, "VolumeSizeInGB", "min value: 1"),
    ("Training", {"StoppingCondition.MaxRuntimeInSeconds": -1}, "MaxRuntime", "-1"),
    ("Training", {"RoleArn": "not an ARN of a role"}, "RoleArn = 'not", "match"),
    (
        "Training",
        {"OutputDataConfig.S3OutputPath": "{{ params.bad }}"},
        "Path",
        "match",
    ),
    ("Training", {"HyperParameters": {"k": "x" * 2501}}, "HyperParameters.k", "2500"),
    ("Training", {"ResourceConfig.InstanceType": "m5.large"}, "'m5.large'", "'ml.'"),
    ("Training", {KEEP: 21601}, f"{KEEP} = 21601", "the maximum is 21600"),
    ("Processing", {f"{CLUSTER}.InstanceCount": 101}, "InstanceCount = 101", "100"),
    (
        "Processing",
        {"AppSpecification.ContainerArguments": ["x" * 257]},
        "AppSpecification.ContainerArguments[0]",
        "the maximum is 256",
    ),
    ("Processing", {"AppSpecification.ContainerArguments": []}, "Arguments", "min"),
    ("Processing", {f"{CLUSTER}.InstanceType": "{{ params.bad }}"}, "'bad'", "'ml.'"),
    ("Training", {"InputDataConfig": []}, "InputDataConfig", "min"),
    # Members that need or exclude each other.
    (
        "Training",
        {"EnableManagedSpotTraining": True},
        "StoppingCondition.MaxWaitTimeInSeconds = None",
        "must be given",
    ),
    ("Training", {**SPOT, WAIT: 59}, f"{WAIT} = 59", "at least MaxRuntimeInSeconds"),
    ("Training", {WAIT: "86400"}, f"{WAIT} = 86400", "EnableManagedSpotTraining"),
    ("Training", {**SPOT, KEEP: 600}, f"{KEEP} = 600", "EnableManagedSpotTraining"),
    (
        "Training",
        {"ResourceConfig.InstanceGroups": GROUPS},
        "ResourceConfig.InstanceType = 'ml.m5.large'",
        "InstanceGroups",
    ),
    (
        "Training",
        {"ResourceConfig": {"InstanceGroups": GROUP, "VolumeSizeInGB": 1}},
        "InstanceGroups[0].InstanceType = 'm5.large'",
        "'ml.'",
    ),
    (
        "Training",
        {"AlgorithmSpecification.AlgorithmName": "knn"},
        "AlgorithmSpecification.AlgorithmName = 'knn'",
        "exactly one",
    ),
    ("Training", {"InputDataConfig": [TRAIN, TRAIN]}, "ChannelName = 'train'", "own"),
    (
        "Training",
        {"InputDataConfig": [{**TRAIN, "ChannelName": c} for c in "{{ params.bad }}b"]},
        "ChannelName",
        "a name of its own",
    ),
    (
        "Transform",
        {"MaxPayloadInMB": "60", "MaxConcurrentTransforms": 2},
        "MaxPayloadInMB = 60",
        "greater than 100",
    ),
    (
        "Transform",
        {"BatchStrategy": "MultiRecord", "TransformInput.SplitType": "None"},
        "BatchStrategy = 'MultiRecord'",
        "SplitType",
    ),
    ("Tuning", {f"{LIMITS}.MaxParallelTrainingJobs": 5}, "MaxParallel", "= 5"),
    (
        "Tuning",
        {f"{JOB}.StaticHyperParameters.k": "3"},
        "TrainingJobDefinition.StaticHyperParameters = 'k'",
        "both",
    ),
    (
        "Tuning",
        {
            f"{CONFIG}.Strategy": "Hyperband",
            f"{CONFIG}.TrainingJobEarlyStoppingType": "Auto",
        },
        "TrainingJobEarlyStoppingType = 'Auto'",
        "Hyperband",
    ),
    (
        "Tuning",
        {
            "TrainingJobDefinitions": [
                {"TuningObjective": OBJECTIVE, "HyperParameterRanges": RANGES}
            ]
        },
        "TrainingJobDefinitions",
        "exactly one",
    ),
]


def changed(job_type: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return a request that differs from a sound one in some members."""
    request = deepcopy(MAKERS[job_type]())
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = request
        for parent in parents:
            place = place[parent]
        place[last] = deepcopy(value)
    return request


@pytest.mark.parametrize(("job_type", "changes", "named", "rule"), FAULTS)
def test_fault_is_refused_before_anything_is_started(
    job_type: str,
    changes: dict[str, Any],
    named: str,
    rule: str,
    emulator: EmulatorServer,
) -> None:
    """No pipeline is created, and the error has the member, the value and the rule."""
    operator = PolysyncRunJobOperator(
        task_id="job",
        job_type=job_type,
        config=changed(job_type, changes),
        role_arn=ROLE,
    ).prepare_for_execution()
    params = {"seconds": 600, "bad": "bad"}
    context: Any = {"ds": "2026-01-01", "params": params}
    operator.render_template_fields(context)

    error = run_task(operator).error

    assert isinstance(error, ParametersError)
    assert named in str(error)
    assert rule in str(error)
    assert "Nothing was started" in str(error)
    assert emulator.control.calls("CreatePipeline") == []


def test_only_a_processing_step_has_property_files() -> None:
    """AWS refuses the member in steps of other types."""
    with pytest.raises(
        ParametersError, match="CacheConfig, Description, DisplayName, RetryPolicies"
    ):
        PolysyncRunJobOperator(
            task_id="job",
            job_type="Training",
            config=training(),
            step={"PropertyFiles": []},
        )
