"""
The types of jobs that a task can run as the step of a pipeline.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

from __future__ import annotations

import re
from typing import Final

# An IAM policy can allow to make pipelines whose names begin with it, and no others.
NAME_PREFIX: Final = "airflow"

_OF_TASK: Final = re.compile(rf"{NAME_PREFIX}-[a-zA-Z0-9-]+-[0-9a-f]{{8}}")

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


def is_name_of_task(name: str) -> bool:
    """Return whether a pipeline has the name that follows from a task."""
    return _OF_TASK.fullmatch(name) is not None


def readable_name(dag_id: str, task_id: str) -> str:
    """
    Return how the name of the pipeline begins that a task makes. A digest follows.
    """
    return re.sub(r"[^a-zA-Z0-9]+", "-", f"{NAME_PREFIX}-{dag_id}-{task_id}")
