"""
What the jobs of steps have made and used: the operation that describes each kind, and what is read from it.

Everything here is pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    AliasChoices,
    AliasPath,
    BeforeValidator,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    WrapValidator,
)

from polysync_airflow.execution.models import MAX_INTEGER, FrozenModel, ResponseTime
from polysync_airflow.execution.steps.rows import StepDescription, job_name_of
from polysync_airflow.execution.texts import ArnText, NameText

# AWS allows 40 metrics of a training job, and 10 outputs of a processing job.
_MAX_ENTRIES: Final = 100
S3_URI_PATTERN: Final = r"^s3://[^/\s]+"


def _none_if_invalid(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


def _values_by_name(entries: Any, name_member: str, path: Iterable[str]) -> dict[str, Any]:
    found = {}
    # An objective is one object in place of a list.
    entries = [entries] if isinstance(entries, dict) else entries
    for entry in entries[:_MAX_ENTRIES] if isinstance(entries, list) else ():
        value = entry
        for member in path:
            value = value.get(member) if isinstance(value, Mapping) else None
        if value is not None and isinstance(entry.get(name_member), str):
            found[entry[name_member]] = value
    return found


def _by_name(name_member: str, *path: str) -> BeforeValidator:
    """
    Return what makes a dict of a list of objects.

    :param name_member: the member whose value becomes the key.
    :param path: the members that lead to the value.
    """
    # mutmut changes nothing that runs at import.
    return BeforeValidator(lambda entries: _values_by_name(entries, name_member, path))  # pragma: no mutate


def _sum(counts: Any) -> Any:
    numbers = counts.values() if isinstance(counts, dict) else ()
    return sum(each for each in numbers if isinstance(each, int)) or None


# A member that is missing, or is not as AWS documents it, is None: it must not hide the others.
_LENIENT: Final = WrapValidator(_none_if_invalid)
_Name = Annotated[NameText | None, _LENIENT]
_Uri = Annotated[Annotated[ArnText, StringConstraints(pattern=S3_URI_PATTERN)] | None, _LENIENT]
_Count = Annotated[Annotated[int, Field(ge=0, le=MAX_INTEGER)] | None, _LENIENT]
_Seconds = Annotated[Annotated[float, Field(ge=0, le=MAX_INTEGER)] | None, _LENIENT]
_Time = Annotated[ResponseTime, _LENIENT]
_Value = Annotated[FiniteFloat | None, _LENIENT]
_Values = Annotated[dict[NameText, _Value] | None, _LENIENT]
_Uris = Annotated[dict[NameText, _Uri] | None, _LENIENT]


def _first_of(member: str, *names: str) -> AliasChoices:
    """Return the first of several members of an object in the response."""
    return AliasChoices(*(AliasPath(*member.split("."), name) for name in names))  # pragma: no mutate


class JobDescription(FrozenModel):
    """A response that describes a job. Its fields are those of the XCom ``outputs``."""

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

    instance_type: _Name = Field(None, validation_alias="InstanceType")
    instance_count: _Count = Field(None, validation_alias="InstanceCount")


class TrainingJob(JobDescription):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html"""

    metrics: Annotated[_Values, _by_name("MetricName", "Value")] = Field(
        None, validation_alias="FinalMetricDataList"
    )
    model_artifact: _Uri = Field(None, validation_alias=AliasPath("ModelArtifacts", "S3ModelArtifacts"))
    billable_seconds: _Seconds = Field(None, validation_alias="BillableTimeInSeconds")
    # AWS selects the instances if the job names several types.
    instance_type: _Name = Field(
        None, validation_alias=_first_of("ResourceConfig", "SelectedInstanceType", "InstanceType")
    )
    instance_count: _Count = Field(
        None, validation_alias=_first_of("ResourceConfig", "SelectedInstanceCount", "InstanceCount")
    )
    training_seconds: _Seconds = Field(None, validation_alias="TrainingTimeInSeconds", exclude=True)
    is_spot: Annotated[bool | None, _LENIENT] = Field(
        None, validation_alias="EnableManagedSpotTraining", exclude=True
    )
    instance_groups: Annotated[list[InstanceGroup] | None, _LENIENT] = Field(
        None, validation_alias=AliasPath("ResourceConfig", "InstanceGroups"), exclude=True
    )

    @property
    def outputs(self) -> dict[str, Any]:
        """What the XCom ``outputs`` has of it; of managed spot training also the share that was saved."""
        made = super().outputs
        if self.is_spot and self.training_seconds and self.billable_seconds is not None:
            saved = 1 - self.billable_seconds / self.training_seconds
            made["spot_savings_percent"] = round(100 * saved, 1)
        return made

    @property
    def instance_seconds(self) -> dict[str, float]:
        """AWS bills the billable time of each instance."""
        groups = self.instance_groups or [
            InstanceGroup(InstanceType=self.instance_type, InstanceCount=self.instance_count)
        ]
        return _instance_seconds(self.billable_seconds, groups)


class _TimedJob(JobDescription):
    """A job of which AWS names the begin and the end, but no billable time."""

    instance_type: _Name
    instance_count: _Count
    started_at: _Time
    ended_at: _Time

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

    output_uris: Annotated[_Uris, _by_name("OutputName", "S3Output", "S3Uri")] = Field(
        None, validation_alias=AliasPath("ProcessingOutputConfig", "Outputs")
    )
    instance_type: _Name = Field(
        None,
        validation_alias=_first_of(
            "ProcessingResources.ClusterConfig", "SelectedInstanceType", "InstanceType"
        ),
    )
    instance_count: _Count = Field(
        None,
        validation_alias=_first_of(
            "ProcessingResources.ClusterConfig", "SelectedInstanceCount", "InstanceCount"
        ),
    )
    started_at: _Time = Field(None, validation_alias="ProcessingStartTime", exclude=True)
    ended_at: _Time = Field(None, validation_alias="ProcessingEndTime", exclude=True)


class TransformJob(_TimedJob):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTransformJob.html"""

    output_uri: _Uri = Field(None, validation_alias=AliasPath("TransformOutput", "S3OutputPath"))
    instance_type: _Name = Field(None, validation_alias=AliasPath("TransformResources", "InstanceType"))
    instance_count: _Count = Field(None, validation_alias=AliasPath("TransformResources", "InstanceCount"))
    started_at: _Time = Field(None, validation_alias="TransformStartTime", exclude=True)
    ended_at: _Time = Field(None, validation_alias="TransformEndTime", exclude=True)


class TuningJob(JobDescription):
    """
    The training job with the best objective is described by a call of its own.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeHyperParameterTuningJob.html
    """

    best_training_job: _Name = Field(None, validation_alias=AliasPath("BestTrainingJob", "TrainingJobName"))
    training_jobs: Annotated[_Count, BeforeValidator(_sum)] = Field(
        None, validation_alias="TrainingJobStatusCounters"
    )


class AutoMLJob(JobDescription):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeAutoMLJobV2.html"""

    best_candidate: _Name = Field(None, validation_alias=AliasPath("BestCandidate", "CandidateName"))
    objective: Annotated[_Values, _by_name("MetricName", "Value")] = Field(
        None, validation_alias=AliasPath("BestCandidate", "FinalAutoMLJobObjectiveMetric")
    )


class ModelPackage(JobDescription):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html"""

    model_package_group: _Name = Field(None, validation_alias="ModelPackageGroupName")
    model_package_version: _Count = Field(None, validation_alias="ModelPackageVersion")
    approval_status: _Name = Field(None, validation_alias="ModelApprovalStatus")


class Endpoint(JobDescription):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html"""

    endpoint_status: _Name = Field(None, validation_alias="EndpointStatus")


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
