"""
The types of jobs that a task can run as the step of a pipeline.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

from __future__ import annotations

import re
from typing import Final

# An IAM policy can allow to make pipelines whose names begin with it, and no others.
NAME_PREFIX: Final = "airflow"

# AWS documents 256 characters for the name of a pipeline, and was seen to refuse more
# than these: https://github.com/aws/sagemaker-python-sdk/issues/2933
MAX_PIPELINE_NAME: Final = 82
# Of the digest that follows the readable part of a name.
DIGITS: Final = 8

_OF_TASK: Final = re.compile(rf"{NAME_PREFIX}-[a-zA-Z0-9-]+-[0-9a-f]{{{DIGITS}}}")

# The members of a step that are not about what it runs.
# https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
STEP_MEMBERS: Final = (
    "CacheConfig",
    "Description",
    "DisplayName",
    "PropertyFiles",
    "RetryPolicies",
)


# The operation that starts such a job outside of a pipeline.
JOB_TYPES: Final = {
    "Training": "CreateTrainingJob",
    "Processing": "CreateProcessingJob",
    "Transform": "CreateTransformJob",
    "Tuning": "CreateHyperParameterTuningJob",
}
# The types of steps that start a job with a name of its own: the page of MAX_PREFIX.
STARTS_JOB: Final = {*JOB_TYPES, "AutoML", "ClarifyCheck", "QualityCheck"}
# What a step has as the name of its job, AWS takes for the beginning of the name that
# it makes. The maximum length of such a prefix, and that of others:
# https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-access.html
MAX_PREFIX: Final = 38
MAX_PREFIXES: Final = {"HyperParameterTuningJobName": 6}


def is_name_of_task(name: str) -> bool:
    """Return whether a pipeline has the name that follows from a task."""
    return _OF_TASK.fullmatch(name) is not None


def readable_name(dag_id: str, task_id: str) -> str:
    """
    Return how the name of the pipeline begins that a task makes. A digest follows.
    """
    name = re.sub(r"[^a-zA-Z0-9]+", "-", f"{NAME_PREFIX}-{dag_id}-{task_id}")
    return name[: MAX_PIPELINE_NAME - DIGITS - 1].rstrip("-")
