"""
The Describe operations of the jobs that steps have started, and the list of the
training jobs of a tuning job.

The properties of a step are the members of this description
(https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-properties.html), so
one step's description needs those of the steps that its arguments refer to. Jobs that a
client has created itself are moto's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sagemaker_emulator.engine.caching import STEP_PROPERTY, property_at
from sagemaker_emulator.engine.expressions import Unknown
from sagemaker_emulator.engine.step_runs import Attempt, StepRun
from sagemaker_emulator.sagemaker.jobs import processing, training
from sagemaker_emulator.sagemaker.jobs.job import Job
from sagemaker_emulator.sagemaker.jobs.names import (
    arguments_of,
    execution_ids,
    job_name,
    source_of,
    training_job_names,
)
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region

_BY_STEP_TYPE: Mapping[str, Callable[[Job], dict[str, Any]]] = {
    "Processing": processing.describe_processing_job,
    "QualityCheck": processing.describe_processing_job,
    "ClarifyCheck": processing.describe_processing_job,
    "Training": training.describe_training_job,
    "Tuning": training.describe_tuning_job,
    "AutoML": training.describe_auto_ml_job,
    "Transform": processing.describe_transform_job,
    "Endpoint": processing.describe_endpoint,
    # No operation of the emulator describes these; the arguments of other steps refer
    # to their properties.
    "Model": lambda job: {"ModelName": job.name},
    "EndpointConfig": lambda job: {"EndpointConfigName": job.name},
    "RegisterModel": lambda job: {
        "ModelApprovalStatus": "PendingManualApproval",
        **job.arguments,
    },
}
_ENDED = {"Succeeded": "Completed", "Failed": "Failed", "Stopped": "Stopped"}


@dataclass(frozen=True)
class JobOperation:
    """
    An operation that describes a job, or lists its training jobs.

    :param member: the member of the request with the name of the job.
    :param resource: the resource type in the ARN of the job.
    :param step_types: the types of the steps with such a job.
    """

    member: str
    resource: str
    step_types: tuple[str, ...]


LIST_TRAINING_JOBS = "ListTrainingJobsForHyperParameterTuningJob"
OPERATIONS: Mapping[str, JobOperation] = {
    "DescribeTrainingJob": JobOperation(
        "TrainingJobName", "training-job", ("Training", "Tuning")
    ),
    "DescribeProcessingJob": JobOperation(
        "ProcessingJobName",
        "processing-job",
        ("Processing", "QualityCheck", "ClarifyCheck"),
    ),
    "DescribeTransformJob": JobOperation(
        "TransformJobName", "transform-job", ("Transform",)
    ),
    "DescribeHyperParameterTuningJob": JobOperation(
        "HyperParameterTuningJobName", "hyper-parameter-tuning-job", ("Tuning",)
    ),
    LIST_TRAINING_JOBS: JobOperation(
        "HyperParameterTuningJobName", "hyper-parameter-tuning-job", ("Tuning",)
    ),
    "DescribeAutoMLJob": JobOperation("AutoMLJobName", "automl-job", ("AutoML",)),
    "DescribeAutoMLJobV2": JobOperation("AutoMLJobName", "automl-job", ("AutoML",)),
    "DescribeEndpoint": JobOperation("EndpointName", "endpoint", ("Endpoint",)),
}


class Descriptions:
    """
    The descriptions of the jobs of an execution, which must have been advanced to the
    present.

    :param region: the region of the execution.
    :param record: the execution.
    :param now: the time, as Unix time.
    """

    def __init__(self, region: Region, record: ExecutionRecord, now: float) -> None:
        self._region = region
        self._record = record
        self._now = now

    def of(self, run: StepRun, attempt: Attempt) -> dict[str, Any]:
        """
        Return the description of the job of an attempt; empty for a type of step that
        has none.
        """
        if run.step.type not in _BY_STEP_TYPE:
            return {}
        job = self.job(run, attempt)
        if run.step.type == "Training":
            pool = None
            if attempt.warm_pool is not None:
                pool = attempt.warm_pool.status(self._now)
            return training.describe_training_job(job, WarmPoolStatus=pool)
        return _BY_STEP_TYPE[run.step.type](job)

    def jobs(self, step_types: Sequence[str]) -> Iterator[tuple[StepRun, Attempt, str]]:
        """Yield the attempts of steps of some types, with the names of their jobs."""
        for run in self._record.engine.history:
            if run.step.type in step_types:
                for attempt in run.attempts:
                    name = job_name(self._region, self._record, run, attempt.number)
                    yield run, attempt, name

    def job(self, run: StepRun, attempt: Attempt) -> Job:
        """Return the job of an attempt."""
        if attempt.status in _ENDED:
            status = _ENDED[attempt.status]
        elif run.status == "Stopping" and attempt is run.attempts[-1]:
            status = "Stopping"
        else:
            status = "InProgress"
        until = self._now
        if attempt.ended_at is not None:
            until = attempt.ended_at
        container_started_at = None
        if attempt.executing_at <= until:
            container_started_at = attempt.executing_at
        return Job(
            region=self._region,
            kind=run.step.type,
            name=job_name(self._region, self._record, run, attempt.number),
            arguments=arguments_of(self._record, run),
            status=status,
            created_at=attempt.started_at,
            started_at=container_started_at,
            ended_at=attempt.ended_at,
            described_at=self._now,
            failure_reason=attempt.failure_reason,
            metrics=attempt.scenario.metrics,
            role_arn=self._record.role_arn,
        )

    def property(self, reference: str) -> Any:
        """
        Return the value of a step's property; `Unknown` if the description of its job
        does not have it.
        """
        match = STEP_PROPERTY.fullmatch(reference)
        if match is None or match[1] not in self._record.engine.runs:
            return Unknown(reference)
        run = self._record.engine.runs[match[1]]
        record, source = source_of(self._record, run)
        # A step starts after those that it refers to have ended, so their properties do
        # not change any more.
        if source.attempts and source.order not in record.properties:
            descriptions = Descriptions(self._region, record, self._now)
            record.properties[source.order] = descriptions._properties_of(source)
        value = property_at(record.properties.get(source.order), match[2])
        if value is None:
            return Unknown(reference)
        return value

    def _properties_of(self, run: StepRun) -> dict[str, Any]:
        attempt = run.attempts[-1]
        properties = self.of(run, attempt)
        if "BestCandidate" in properties:
            paths = training.best_candidate_properties(self.job(run, attempt))
            properties["BestCandidateProperties"] = paths
        return properties


def respond(
    region: Region, operation: str, request: Mapping[str, Any], now: float
) -> dict[str, Any] | None:
    """
    Return the response of an operation; None if no step has started such a job.

    :param region: the region of the request.
    :param operation: an operation in ``OPERATIONS``.
    :param request: the request.
    :param now: the time of the request, as Unix time.
    """
    name = request[OPERATIONS[operation].member]
    for record in _executions_in(region, name):
        record.engine.advance(now)
        if region.keeps_instances:
            # Another execution may have the warm pool of the job by now.
            region.advance(now)
        descriptions = Descriptions(region, record, now)
        response = _respond_from(descriptions, operation, request)
        if response is not None:
            return response
    return None


def _respond_from(
    descriptions: Descriptions, operation: str, request: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the response of an operation; None if the execution has no such job."""
    name = request[OPERATIONS[operation].member]
    for run, attempt, own_name in descriptions.jobs(OPERATIONS[operation].step_types):
        if operation == "DescribeTrainingJob" and run.step.type == "Tuning":
            if not name.startswith(own_name):
                continue
            job = descriptions.job(run, attempt)
            if name in training_job_names(job.region, job.name, job.arguments):
                return training.describe_training_job_of_tuning(job, name)
        elif name == own_name:
            return _respond_of(descriptions, run, attempt, operation, request)
    return None


def _respond_of(
    descriptions: Descriptions,
    run: StepRun,
    attempt: Attempt,
    operation: str,
    request: Mapping[str, Any],
) -> dict[str, Any] | None:
    if operation == LIST_TRAINING_JOBS:
        return training.list_training_jobs(descriptions.job(run, attempt), request)
    if operation == "DescribeAutoMLJob":
        return _describe_version_1(descriptions.job(run, attempt))
    return descriptions.of(run, attempt)


def _executions_in(region: Region, name: str) -> list[ExecutionRecord]:
    """Return the executions whose ids are in the name of a job, or how it begins."""
    records = map(region.execution_with_id, execution_ids(name))
    return [record for record in records if record is not None]


def logged_executions(region: Region, stream: str) -> Iterator[ExecutionRecord]:
    """
    Yield the executions whose logs a client may read, and whose logs may be incomplete.

    :param region: the region.
    :param stream: with what the names of the log streams begin.
    """
    records = _executions_in(region, stream)
    yield from records
    if not records:
        for pipeline in region.pipelines.values():
            yield from pipeline.executions.unlogged()


def _describe_version_1(job: Job) -> dict[str, Any] | None:
    """Return the response of DescribeAutoMLJob; None for a job of version 2."""
    if "AutoMLJobInputDataConfig" in job.arguments:
        return None
    return training.describe_auto_ml_job(job, "DescribeAutoMLJob")
