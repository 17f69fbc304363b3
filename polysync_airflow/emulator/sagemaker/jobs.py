"""
The names of what steps create: jobs, models and model packages.

AWS does not document how it forms these names. Names in its examples are like
``pipelines-<execution id>-<step name>-<random>``; where this is longer than the type of job allows, the
name is shorter. The versions of model packages come from the registry (`calls.AwsServices`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from polysync_airflow.emulator.engine.expressions import ExpressionError, evaluate, evaluate_all
from polysync_airflow.emulator.engine.step_runs import StepRun
from polysync_airflow.emulator.sagemaker.calls import AwsServices
from polysync_airflow.emulator.sagemaker.store import ExecutionRecord, Region

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
_SUFFIX_LENGTH = 10
_DEFAULT_GROUP = "emulated"


def source_of(record: ExecutionRecord, run: StepRun) -> tuple[ExecutionRecord, StepRun]:
    """Return the execution and the run with the job of a run: earlier ones if it has reused results."""
    arn = run.cached.execution_arn if run.cached else run.reused_from
    source = record.pipeline.executions.get(arn or "")
    if source is None:
        return record, run
    earlier = run.cached.run if run.cached else source.engine.runs.get(run.step.name)
    return (record, run) if earlier is None else source_of(source, earlier)


def job_name(region: Region, record: ExecutionRecord, run: StepRun, attempt: int) -> str:
    """Return the name of the job of an attempt."""
    suffix = region.identifier(_SUFFIX_LENGTH, record.arn, run.step.name, attempt)
    length = _MAX_LENGTHS.get(run.step.type, _MAX_LENGTH)
    prefix = "pipelines-" if length == _MAX_LENGTH else ""
    start = f"{prefix}{record.id}-{run.step.name}".replace("_", "-")
    return f"{start[: length - _SUFFIX_LENGTH - 1].rstrip('-')}-{suffix}"


def job_arn(region: Region, record: ExecutionRecord, run: StepRun) -> str:
    """Return the ARN of the job of the current attempt, for a step type in `RESOURCES`."""
    record, run = source_of(record, run)
    return region.arn(RESOURCES[run.step.type], job_name(region, record, run, run.attempt))


def arguments_of(record: ExecutionRecord, run: StepRun) -> dict[str, Any]:
    """Return the evaluated arguments of a step. A value that is not known is the text of its reference."""
    try:
        arguments: dict[str, Any] = evaluate_all(dict(run.step.arguments), record.engine.scope_of(run.step))
    except ExpressionError:
        return {}
    return arguments


def value_of(record: ExecutionRecord, run: StepRun, value: Any) -> Any:
    """Return the value of an expression in the body of a step; None if it cannot be evaluated."""
    try:
        return evaluate(value, record.engine.scope_of(run.step))
    except ExpressionError:
        return None


def register_model_packages(region: Region, services: AwsServices) -> None:
    """
    Create the model packages of all RegisterModel steps that have succeeded, in the order of their ends.

    All executions of the region must have been advanced to the present.

    :param region: the region.
    :param services: the model registry.
    """
    for _, record, run in sorted(_unregistered(region), key=lambda entry: entry[0]):
        request = arguments_of(record, run)
        if not request.get("ModelPackageName"):
            request.setdefault("ModelPackageGroupName", _DEFAULT_GROUP)
        arn = services.create_model_package(region.name, request, run.ended_at or 0.0)
        record.model_packages[run.step.name] = arn


def _unregistered(region: Region) -> Iterator[tuple[tuple[float, str, int], ExecutionRecord, StepRun]]:
    for record in region.executions():
        for run in record.engine.runs.values():
            is_new = run.step.name not in record.model_packages and run.reused_from is None
            if run.step.type == "RegisterModel" and run.status == "Succeeded" and is_new:
                yield (run.ended_at or 0.0, record.arn, run.order), record, run
