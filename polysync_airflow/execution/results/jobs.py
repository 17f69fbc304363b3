"""
What the jobs of steps have made and used: the operation that describes each kind, and what is read from it.

Everything here is pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AliasChoices, AliasPath, Field

from polysync_airflow.execution.models import FrozenModel
from polysync_airflow.execution.results.members import (
    CHANNELS,
    CHANNELS_OF_ALL,
    CountsTogether,
    Name,
    Seconds,
    Time,
    Uri,
    UriList,
    Uris,
    Values,
    by_name,
    each_of,
    first_of,
)
from polysync_airflow.execution.steps.descriptions import StepDescription, job_name_of
from polysync_airflow.execution.storable import LENIENT, Count


class JobDescription(FrozenModel):
    """
    A response that describes a job. Its fields are those of the XCom ``outputs``.

    :param read_uris: where in S3 its inputs are; not in ``outputs``.
    """

    read_uris: UriList = Field(None, exclude=True)

    @property
    def written_uris(self) -> Sequence[str | None]:
        """Where in S3 the job writes what it makes."""
        return ()

    @property
    def outputs(self) -> dict[str, Any]:
        """What the XCom ``outputs`` has of it."""
        return _without_missing(self.model_dump(mode="json"))

    @property
    def instance_seconds(self) -> dict[str, float]:
        """The seconds for which AWS bills, of all instances together, by the type of instance."""
        return {}


def _without_missing(members: dict[str, Any]) -> dict[str, Any]:
    cleaned = {
        name: _without_missing(value) if isinstance(value, dict) else value for name, value in members.items()
    }
    return {name: value for name, value in cleaned.items() if value not in (None, {})}


class InstanceGroup(FrozenModel):
    """Instances of one type in a cluster that has several."""

    instance_type: Name = Field(None, validation_alias="InstanceType")
    instance_count: Count = Field(None, validation_alias="InstanceCount")


class TrainingJob(JobDescription):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html"""

    read_uris: Annotated[UriList, CHANNELS] = Field(None, validation_alias="InputDataConfig", exclude=True)
    metrics: Annotated[Values, by_name("MetricName", "Value")] = Field(
        None, validation_alias="FinalMetricDataList"
    )
    model_artifact: Uri = Field(None, validation_alias=AliasPath("ModelArtifacts", "S3ModelArtifacts"))
    billable_seconds: Seconds = Field(None, validation_alias="BillableTimeInSeconds")
    # AWS selects the instances if the job names several types.
    instance_type: Name = Field(
        None, validation_alias=first_of("ResourceConfig", "SelectedInstanceType", "InstanceType")
    )
    instance_count: Count = Field(
        None, validation_alias=first_of("ResourceConfig", "SelectedInstanceCount", "InstanceCount")
    )
    training_seconds: Seconds = Field(None, validation_alias="TrainingTimeInSeconds", exclude=True)
    is_spot: Annotated[bool | None, LENIENT] = Field(
        None, validation_alias="EnableManagedSpotTraining", exclude=True
    )
    instance_groups: Annotated[list[InstanceGroup] | None, LENIENT] = Field(
        None, validation_alias=AliasPath("ResourceConfig", "InstanceGroups"), exclude=True
    )

    @property
    def written_uris(self) -> Sequence[str | None]:
        """The model."""
        return [self.model_artifact]

    @property
    def outputs(self) -> dict[str, Any]:
        """
        What the XCom ``outputs`` has of it.

        Of managed spot training, it also has the share that was saved; of groups of instances, their number,
        and their type if they have only one.
        """
        made = super().outputs
        if groups := self.instance_groups:
            made["instance_count"] = sum(group.instance_count or 0 for group in groups)
            types = {group.instance_type for group in groups}
            made["instance_type"] = types.pop() if len(types) == 1 else None
        if self.is_spot and self.training_seconds and self.billable_seconds is not None:
            saved = 1 - self.billable_seconds / self.training_seconds
            made["spot_savings_percent"] = round(100 * saved, 1)
        return _without_missing(made)

    @property
    def instance_seconds(self) -> dict[str, float]:
        """AWS bills the billable time of each instance."""
        groups = self.instance_groups or [
            InstanceGroup(InstanceType=self.instance_type, InstanceCount=self.instance_count)
        ]
        return _instance_seconds(self.billable_seconds, groups)


class _TimedJob(JobDescription):
    """A job of which AWS names the begin and the end, but no billable time."""

    instance_type: Name
    instance_count: Count
    started_at: Time
    ended_at: Time

    @property
    def outputs(self) -> dict[str, Any]:
        """What the XCom ``outputs`` has of it, with its seconds."""
        made = super().outputs
        return made if self.seconds is None else {**made, "seconds": self.seconds}

    @property
    def seconds(self) -> float | None:
        """How long its instances ran; None if it has not begun or not ended."""
        if self.started_at is None or self.ended_at is None:
            return None
        return round(max(0.0, (self.ended_at - self.started_at).total_seconds()), 1)

    @property
    def instance_seconds(self) -> dict[str, float]:
        """The time of each instance."""
        group = InstanceGroup(InstanceType=self.instance_type, InstanceCount=self.instance_count)
        return _instance_seconds(self.seconds, [group])


class ProcessingJob(_TimedJob):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeProcessingJob.html"""

    read_uris: Annotated[UriList, each_of("S3Input.S3Uri")] = Field(
        None, validation_alias="ProcessingInputs", exclude=True
    )
    output_uris: Annotated[Uris, by_name("OutputName", "S3Output.S3Uri")] = Field(
        None, validation_alias=AliasPath("ProcessingOutputConfig", "Outputs")
    )
    instance_type: Name = Field(
        None,
        validation_alias=first_of(
            "ProcessingResources.ClusterConfig", "SelectedInstanceType", "InstanceType"
        ),
    )
    instance_count: Count = Field(
        None,
        validation_alias=first_of(
            "ProcessingResources.ClusterConfig", "SelectedInstanceCount", "InstanceCount"
        ),
    )
    started_at: Time = Field(None, validation_alias="ProcessingStartTime", exclude=True)
    ended_at: Time = Field(None, validation_alias="ProcessingEndTime", exclude=True)

    @property
    def written_uris(self) -> Sequence[str | None]:
        """The outputs."""
        return list((self.output_uris or {}).values())


class TransformJob(_TimedJob):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTransformJob.html"""

    read_uris: Annotated[UriList, CHANNELS] = Field(None, validation_alias="TransformInput", exclude=True)
    output_uri: Uri = Field(None, validation_alias=AliasPath("TransformOutput", "S3OutputPath"))
    instance_type: Name = Field(None, validation_alias=AliasPath("TransformResources", "InstanceType"))
    instance_count: Count = Field(None, validation_alias=AliasPath("TransformResources", "InstanceCount"))
    started_at: Time = Field(None, validation_alias="TransformStartTime", exclude=True)
    ended_at: Time = Field(None, validation_alias="TransformEndTime", exclude=True)

    @property
    def written_uris(self) -> Sequence[str | None]:
        """The predictions."""
        return [self.output_uri]


class TuningJob(JobDescription):
    """
    The training job with the best objective is described by a call of its own.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeHyperParameterTuningJob.html
    """

    read_uris: Annotated[UriList, CHANNELS_OF_ALL] = Field(
        None, validation_alias=AliasChoices("TrainingJobDefinition", "TrainingJobDefinitions"), exclude=True
    )
    best_training_job: Name = Field(None, validation_alias=AliasPath("BestTrainingJob", "TrainingJobName"))
    training_jobs: CountsTogether = Field(None, validation_alias="TrainingJobStatusCounters")


class AutoMLJob(JobDescription):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeAutoMLJobV2.html"""

    read_uris: Annotated[UriList, CHANNELS] = Field(
        None, validation_alias="AutoMLJobInputDataConfig", exclude=True
    )
    output_path: Uri = Field(
        None, validation_alias=AliasPath("OutputDataConfig", "S3OutputPath"), exclude=True
    )
    best_candidate: Name = Field(None, validation_alias=AliasPath("BestCandidate", "CandidateName"))
    objective: Annotated[Values, by_name("MetricName", "Value")] = Field(
        None, validation_alias=AliasPath("BestCandidate", "FinalAutoMLJobObjectiveMetric")
    )

    @property
    def written_uris(self) -> Sequence[str | None]:
        """The folder with the artefacts of all candidates."""
        return [self.output_path]


class ModelPackage(JobDescription):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html"""

    read_uris: Annotated[UriList, each_of("ModelDataUrl", "ModelDataSource.S3DataSource.S3Uri")] = Field(
        None, validation_alias=AliasPath("InferenceSpecification", "Containers"), exclude=True
    )
    model_package_group: Name = Field(None, validation_alias="ModelPackageGroupName")
    model_package_version: Count = Field(None, validation_alias="ModelPackageVersion")
    approval_status: Name = Field(None, validation_alias="ModelApprovalStatus")


class Endpoint(JobDescription):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html"""

    endpoint_status: Name = Field(None, validation_alias="EndpointStatus")


@dataclass(frozen=True, slots=True)
class JobKind:
    """
    A kind of job.

    :param operation: the operation that describes it, which is also its IAM action.
    :param member: the member of the request that names the job.
    :param resource: the type of the resource in its ARN.
    :param description: what is read from the response.
    """

    operation: str
    member: str
    resource: str
    description: type[JobDescription]


TRAINING: Final = JobKind("DescribeTrainingJob", "TrainingJobName", "training-job", TrainingJob)
_PROCESSING: Final = JobKind("DescribeProcessingJob", "ProcessingJobName", "processing-job", ProcessingJob)
# By the member of the step's metadata. What the other kinds of steps make has no metrics, times or files.
JOB_KINDS: Final[dict[str, JobKind]] = {
    "TrainingJob": TRAINING,
    "ProcessingJob": _PROCESSING,
    "QualityCheck": _PROCESSING,
    "ClarifyCheck": _PROCESSING,
    "TransformJob": JobKind("DescribeTransformJob", "TransformJobName", "transform-job", TransformJob),
    "TuningJob": JobKind(
        "DescribeHyperParameterTuningJob",
        "HyperParameterTuningJobName",
        "hyper-parameter-tuning-job",
        TuningJob,
    ),
    "AutoMLJob": JobKind("DescribeAutoMLJobV2", "AutoMLJobName", "automl-job", AutoMLJob),
    "RegisterModel": JobKind("DescribeModelPackage", "ModelPackageName", "model-package", ModelPackage),
    "Endpoint": JobKind("DescribeEndpoint", "EndpointName", "endpoint", Endpoint),
}


def job_of(step: StepDescription) -> tuple[JobKind, str] | None:
    """Return the kind and the name of a step's job; None if there is nothing that can be described."""
    kind = JOB_KINDS.get(step.kind or "")
    # A version of a model package has no name, only an ARN.
    name = step.job_arn if kind and kind.description is ModelPackage else job_name_of(step)
    return (kind, name) if kind and name else None


def sum_by_instance_type(jobs: Iterable[JobDescription]) -> dict[str, float]:
    """Return the seconds for which AWS bills, of all instances of some jobs, by the type of instance."""
    total: defaultdict[str, float] = defaultdict(float)
    for job in jobs:
        for instance_type, seconds in job.instance_seconds.items():
            total[instance_type] += seconds
    return {instance_type: round(total[instance_type], 1) for instance_type in sorted(total)}


def _instance_seconds(seconds: float | None, groups: Iterable[InstanceGroup]) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for group in groups:
        if seconds and group.instance_type and group.instance_count:
            total[group.instance_type] += seconds * group.instance_count
    return dict(total)
