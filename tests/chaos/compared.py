"""
The test cases in which both providers are measured: the arguments of their operators,
and the training job that both of them run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from sagemaker_emulator.builders import ROLE
from tests.chaos.kill_points import kill_at_call

# The name of the pipeline or job, which each run of the suite has for itself.
NAME: Final = "{{ dag_run.conf['pipeline'] }}"
TRAINING_JOB: Final[dict[str, Any]] = {
    "AlgorithmSpecification": {
        "TrainingImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/train:1",
        "TrainingInputMode": "File",
    },
    "OutputDataConfig": {"S3OutputPath": "s3://ml-bucket/models"},
    "ResourceConfig": {
        "InstanceType": "ml.m5.large",
        "InstanceCount": 1,
        "VolumeSizeInGB": 10,
    },
    "RoleArn": ROLE,
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
}
DAGRUN_TIMEOUT: Final = {"9c": timedelta(seconds=90)}
COMMON: Final[dict[str, Any]] = {
    "task_id": "start",
    "deferrable": True,
    "retries": 2,
    "retry_delay": timedelta(seconds=2),
}


def compared_cases(start: str) -> dict[str, dict[str, Any]]:
    """
    Return the arguments of an operator by test case.

    :param start: the operation with which it starts what costs money.
    """
    timeout = {"execution_timeout": timedelta(seconds=60), "retries": 0}
    cases: dict[str, dict[str, Any]] = {
        "2": {"pre_execute": kill_at_call(start, after_response=True)},
        **{number: {} for number in ("6a", "6b", "8a", "8b", "8c", "8d", "9c")},
        "9a": timeout,
        "9b": {**timeout, "deferrable": False},
    }
    return {number: {**COMMON, **options} for number, options in cases.items()}
