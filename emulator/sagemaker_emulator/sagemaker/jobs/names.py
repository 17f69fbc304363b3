"""
The names of the jobs that steps start, and the values in their arguments.

They are like ``pipelines-<execution id>-<step name>-<token>``, with at most twenty
characters of the name of the step. The name that the arguments have, such as
``TrainingJobName``, is a prefix: it replaces ``pipelines`` and the name of the step.
AWS's page has the lengths, too, but not what becomes of a longer prefix; here, it is
cut. It ends with a number of retries, which AWS's own examples do not have. Where the
type of job allows fewer characters, the name is shorter.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-access.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sagemaker_emulator.engine.caching import property_at
from sagemaker_emulator.engine.expressions import (
    ExpressionError,
    evaluate,
    evaluate_all,
    text,
)
from sagemaker_emulator.engine.step_runs import StepRun
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region

# For each step type: the resource type in the ARN of its job.
RESOURCES = {
    "Processing": "processing-job",
    "QualityCheck": "processing-job",
    "ClarifyCheck": "processing-job",
    "Training": "training-job",
    "Transform": "transform-job",
    "Tuning": "hyper-parameter-tuning-job",
    "AutoML": "automl-job",
    "Model": "model",
    "Endpoint": "endpoint",
    "EndpointConfig": "endpoint-config",
    "InferenceComponent": "inference-component",
}
# The maximum lengths of the names of jobs; see for example
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateHyperParameterTuningJob.html
_MAX_LENGTHS = {"Tuning": 32, "AutoML": 32}
_MAX_LENGTH = 63
_MAX_STEP_NAME = 20
_SUFFIX_LENGTH = 10
# For each step type: the member of its arguments with the prefix.
_PREFIXES = {
    "Processing": "ProcessingJobName",
    "QualityCheck": "ProcessingJobName",
    "ClarifyCheck": "ProcessingJobName",
    "Training": "TrainingJobName",
    "Transform": "TransformJobName",
    "Tuning": "HyperParameterTuningJobName",
    "AutoML": "AutoMLJobName",
    "Model": "ModelName",
}
_MAX_PREFIXES = {"Tuning": 6, "AutoML": 6}
_MAX_PREFIX = 38
_EXECUTION_ID = re.compile(r"(?:^|-)(?=([a-z0-9]{12})-)")
# A tuning job can start hundreds of training jobs. In the emulator, it starts at most
# these.
_MAX_TRAINING_JOBS = 10


def source_of(record: ExecutionRecord, run: StepRun) -> tuple[ExecutionRecord, StepRun]:
    """
    Return the execution and the run whose job has made the results of a run.

    They are earlier ones if the run has reused results.

    :param record: the execution of the run.
    :param run: the run.
    """
    executions = record.pipeline.executions
    if run.cached is not None:
        source = executions.get(run.cached.execution_arn)
        earlier: StepRun | None = run.cached.run
    else:
        source = executions.get(run.reused_from or "")
        earlier = None
        if source is not None:
            earlier = source.engine.runs.get(run.step.name)
    if source is None or earlier is None:
        return record, run
    return source_of(source, earlier)


def job_name(
    region: Region, record: ExecutionRecord, run: StepRun, attempt: int
) -> str:
    """Return the name of the job of an attempt."""
    kind = run.step.type
    suffix = region.identifier(_SUFFIX_LENGTH, record.arn, run.step.name, attempt)
    prefix = run.step.arguments.get(_PREFIXES.get(kind, ""))
    if prefix is not None:
        length = _MAX_PREFIXES.get(kind, _MAX_PREFIX)
        start = text(value_of(record, run, prefix))[:length].rstrip("-")
        return f"{start}-{record.id}-{suffix}"
    start = f"{record.id}-{run.step.name[:_MAX_STEP_NAME]}".replace("_", "-")
    length = _MAX_LENGTHS.get(kind, _MAX_LENGTH)
    if length == _MAX_LENGTH:
        start = f"pipelines-{start}"
    return f"{start[: length - _SUFFIX_LENGTH - 1].rstrip('-')}-{suffix}"


def execution_ids(name: str) -> Iterator[str]:
    """
    Yield what can be the id of the execution in the name of a job, or in how it begins.
    """
    for match in _EXECUTION_ID.finditer(name):
        yield match[1]


def job_arn(region: Region, record: ExecutionRecord, run: StepRun) -> str:
    """
    Return the ARN of the job of the current attempt, for a step type in `RESOURCES`.
    """
    source, earlier = source_of(record, run)
    name = job_name(region, source, earlier, earlier.attempt)
    return region.arn(RESOURCES[earlier.step.type], name)


def in_uuid_form(characters: str) -> str:
    """Return 32 characters with the hyphens of a UUID."""
    groups = (
        characters[:8],
        characters[8:12],
        characters[12:16],
        characters[16:20],
        characters[20:],
    )
    return "-".join(groups)


def arguments_of(record: ExecutionRecord, run: StepRun) -> dict[str, Any]:
    """
    Return the evaluated arguments of a step. A value that is not known is the text of
    its reference.
    """
    try:
        arguments = evaluate_all(
            dict(run.step.arguments), record.engine.scope_of(run.step)
        )
    except ExpressionError:
        return {}
    if not isinstance(arguments, dict):
        # All of them are one reference.
        return {}
    return arguments


def value_of(record: ExecutionRecord, run: StepRun, value: Any) -> Any:
    """
    Return the value of an expression in the body of a step; None if it cannot be
    evaluated.
    """
    try:
        return evaluate(value, record.engine.scope_of(run.step))
    except ExpressionError:
        return None


def training_job_names(
    region: Region, name: str, arguments: Mapping[str, Any]
) -> list[str]:
    """
    Return the names of the training jobs of a tuning job, or of the candidates of an
    AutoML job.

    :param region: the region.
    :param name: the name of the tuning or AutoML job.
    :param arguments: its evaluated arguments.
    """
    path = "HyperParameterTuningJobConfig.ResourceLimits.MaxNumberOfTrainingJobs"
    limit = property_at(arguments, path)
    count = 1
    if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
        count = min(limit, _MAX_TRAINING_JOBS)
    return [
        f"{name}-{number:03}-{region.identifier(8, name, number)}"
        for number in range(1, count + 1)
    ]
