"""
What the steps of an execution have made and used: from the descriptions of their jobs,
and from the files that these jobs wrote.

A member of a response that is missing, or is not as AWS documents it, is None, so that
it does not hide the other members.

A pipeline's definition names the JSON files that processing steps write to S3, and says
in which output of the job each file is. Any user whose code runs in the job writes
them.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-propertyfile.html

Everything here is pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, NamedTuple

from pydantic import Field

from polysync_airflow.execution.json_input import read_json
from polysync_airflow.execution.models import AwsModel, ResponseTime
from polysync_airflow.execution.pipelines import DeclaredStep, PropertyFile, all_steps
from polysync_airflow.execution.response_members import (
    CHANNELS,
    CHANNELS_OF_ALL,
    ENTRIES,
    CountsTogether,
    IsGiven,
    Name,
    Seconds,
    Uri,
    UriList,
    Uris,
    Values,
    by_name,
    each_of,
    member,
)
from polysync_airflow.execution.steps.descriptions import StepDescription, job_name_of
from polysync_airflow.execution.texts import LENIENT, Count, clean_value

# A type of instance, and the seconds for which AWS bills instances of this type.
TypeAndSeconds = tuple[str, float]


class JobDescription(AwsModel):
    """
    A response that describes a job. Its fields are those of the XCom ``outputs``.

    :param read_uris: where in S3 its inputs are; not in ``outputs``.
    :param image: its container image; not in ``outputs``.
    :param started_at: since when AWS bills it. From then on, only its end is missing in
        the response. Not in ``outputs``.
    """

    read_uris: UriList = Field(None, exclude=True)
    image: Name = Field(None, exclude=True)
    started_at: ResponseTime = Field(None, exclude=True)

    # The field with the URIs of what it writes; None if it writes nothing.
    written: ClassVar[str | None] = None
    # Whether AWS bills its instances by the second, and says for how long.
    is_counted: ClassVar[bool] = False

    @property
    def written_uris(self) -> Sequence[str | None]:
        """Where in S3 the job writes what it makes."""
        if self.written is None:
            return ()
        value = getattr(self, self.written)
        if isinstance(value, dict):
            return list(value.values())
        return [value]

    @property
    def outputs(self) -> dict[str, Any]:
        """What the XCom ``outputs`` has of the job."""
        return _without_missing(self.model_dump(mode="json"))

    @property
    def keeps_instances(self) -> bool:
        """Whether AWS may go on billing its instances after its end."""
        return False

    def instance_seconds(
        self, now: datetime | None, step_ended_at: datetime | None = None
    ) -> Iterable[TypeAndSeconds]:
        """
        Return types of instances, each with the seconds for which AWS bills all
        instances of this type together. A type may come more than once.

        :param now: until when what is still billed counts; None to leave that out.
        :param step_ended_at: until when the job itself counts at most.
        """
        return ()

    @property
    def uncounted(self) -> Iterable[str]:
        """What ``instance_seconds`` lacks, as nouns."""
        return ()


def _without_missing(members: dict[str, Any]) -> dict[str, Any]:
    present = {}
    for name, value in members.items():
        kept = _without_missing(value) if isinstance(value, dict) else value
        if kept not in (None, {}):
            present[name] = kept
    return present


SPOT_SAVINGS: Final = "what spot instances save"
_PREPAID: Final = "jobs under a training plan, which is paid in advance"
# A volume of 100 GB costs less than a tenth of an ml.m5.xlarge, and each job has one.
# The largest one that AWS makes has 16 TB.
_LARGE_GIGABYTES: Final = (10_000, 1_000, 100)


def _large_volumes(gigabytes: int | None) -> Iterator[str]:
    for at_least in _LARGE_GIGABYTES:
        if (gigabytes or 0) >= at_least:
            yield f"storage volumes of {at_least:,} GB and more"
            return


class Instances(AwsModel):
    """
    Instances of one type.

    :param has_plan: whether a training plan has reserved the instances.
    """

    instance_type: Name = member("InstanceType")
    instance_count: Count = member("InstanceCount")
    gigabytes: Count = member("VolumeSizeInGB")
    has_plan: IsGiven = member("TrainingPlanArn", "TrainingPlanArns")


class _Billed(AwsModel):
    """What AWS bills from one time to another."""

    started_at: ResponseTime
    ended_at: ResponseTime

    def seconds_until(self, now: datetime | None) -> float | None:
        """
        Return for how many seconds AWS bills each instance; None if the job has not
        begun.

        :param now: until when a job counts that still runs; None to count only jobs
            that have ended.
        """
        end = self.ended_at or now
        if self.started_at is None or end is None:
            return None
        return round(max(0.0, (end - self.started_at).total_seconds()), 1)


class _InstanceJob(_Billed, JobDescription):
    """A job whose instances AWS bills from one time to another."""

    is_counted = True
    instance_type: Name
    instance_count: Count

    def instance_seconds(
        self, now: datetime | None, step_ended_at: datetime | None = None
    ) -> Iterable[TypeAndSeconds]:
        """Return the time of all instances."""
        return _instance_seconds(self.seconds_until(step_ended_at or now), [self])


class WarmPool(AwsModel):
    """
    The instances that AWS keeps, and bills, after the end of a training job.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_WarmPoolStatus.html

    :param kept_seconds: for how long they were kept. This is final when they have gone
        to another job, whose own time then begins, or were released.
    """

    status: Name = member("Status")
    kept_seconds: Seconds = member("ResourceRetainedBillableTimeInSeconds")


class TrainingJob(_InstanceJob):
    """
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html

    :param billable_seconds: the billable time of each instance; None before the end.
    """

    written = "model_artifact"
    read_uris: Annotated[UriList, CHANNELS] = member("InputDataConfig", exclude=True)
    image: Name = member("AlgorithmSpecification.TrainingImage", exclude=True)
    metrics: Annotated[Values, by_name("MetricName", "Value")] = member(
        "FinalMetricDataList"
    )
    model_artifact: Uri = member("ModelArtifacts.S3ModelArtifacts")
    billable_seconds: Seconds = member("BillableTimeInSeconds")
    # AWS selects the instances if the job names several types.
    instance_type: Name = member(
        "ResourceConfig.SelectedInstanceType", "ResourceConfig.InstanceType"
    )
    instance_count: Count = member(
        "ResourceConfig.SelectedInstanceCount", "ResourceConfig.InstanceCount"
    )
    started_at: ResponseTime = member("TrainingStartTime", exclude=True)
    ended_at: ResponseTime = member("TrainingEndTime", exclude=True)
    training_seconds: Seconds = member("TrainingTimeInSeconds", exclude=True)
    is_spot: Annotated[bool | None, LENIENT] = member(
        "EnableManagedSpotTraining", exclude=True
    )
    instance_groups: Annotated[list[Instances] | None, LENIENT] = member(
        "ResourceConfig.InstanceGroups", exclude=True
    )
    keep_alive_seconds: Count = member(
        "ResourceConfig.KeepAlivePeriodInSeconds", exclude=True
    )
    warm_pool: Annotated[WarmPool | None, LENIENT] = member(
        "WarmPoolStatus", exclude=True
    )
    serverless_type: Name = member("ServerlessJobConfig.JobType", exclude=True)
    gigabytes: Count = member("ResourceConfig.VolumeSizeInGB", exclude=True)
    has_plan: IsGiven = member("ResourceConfig.TrainingPlanArn", exclude=True)
    preferences: Annotated[list[Instances] | None, LENIENT] = member(
        "ResourceConfig.InstancePreferences", exclude=True
    )
    # AWS's own rules cost nothing, and name no type.
    debug_rules: Annotated[list[Name] | None, each_of("InstanceType")] = member(
        "DebugRuleConfigurations", exclude=True
    )
    profiler_rules: Annotated[list[Name] | None, each_of("InstanceType")] = member(
        "ProfilerRuleConfigurations", exclude=True
    )

    @classmethod
    def _flatten(cls, answer: dict[str, Any]) -> dict[str, Any]:
        # AWS does not rule out that it says it of a job that runs: then it grows.
        if answer.get("TrainingEndTime") is None:
            answer.pop("BillableTimeInSeconds", None)
        return answer

    @property
    def is_prepaid(self) -> bool:
        """Whether the instances are those of a training plan."""
        return bool(self.has_plan) or any(
            each.has_plan and each.instance_type == self.instance_type
            for each in self.preferences or ()
        )

    @property
    def keeps_instances(self) -> bool:
        """Whether AWS keeps them in a warm pool, or may when the job has ended."""
        if self.is_prepaid or not self.keep_alive_seconds:
            return False
        if self.warm_pool is None:
            return self.ended_at is None
        return self.warm_pool.status in {"InUse", "Available"}

    @property
    def outputs(self) -> dict[str, Any]:
        """
        What the XCom ``outputs`` has of the job.

        For managed spot training, the share that was saved is added. For groups of
        instances, their number is added, and their type if all have the same.
        """
        outputs = super().outputs
        groups = self.instance_groups
        if groups:
            outputs["instance_count"] = sum(
                group.instance_count or 0 for group in groups
            )
            types = {group.instance_type for group in groups}
            outputs["instance_type"] = types.pop() if len(types) == 1 else None
        if self.is_spot and self.training_seconds and self.billable_seconds is not None:
            saved = 1 - self.billable_seconds / self.training_seconds
            outputs["spot_savings_percent"] = round(100 * saved, 1)
        return _without_missing(outputs)

    def seconds_until(self, now: datetime | None) -> float | None:
        """Return the billable time of an instance; before the end, since the start."""
        if self.billable_seconds is not None:
            return self.billable_seconds
        return super().seconds_until(now)

    def instance_seconds(
        self, now: datetime | None, step_ended_at: datetime | None = None
    ) -> Iterable[TypeAndSeconds]:
        """Return the billable time of all instances, and of their warm pool."""
        if self.is_prepaid:
            return
        groups: Sequence[Instances | TrainingJob] = self.instance_groups or [self]
        seconds = self.seconds_until(step_ended_at or now)
        yield from _instance_seconds(seconds, groups)
        yield from _instance_seconds(self._kept_seconds(now), groups)

    def _kept_seconds(self, now: datetime | None) -> float | None:
        """Return how long the warm pool was kept, until now if it still is."""
        if not self.keeps_instances:
            return self.warm_pool.kept_seconds if self.warm_pool else None
        if self.ended_at is None or now is None:
            return None
        seconds = max(0.0, (now - self.ended_at).total_seconds())
        return min(seconds, self.keep_alive_seconds or seconds)

    @property
    def uncounted(self) -> Iterable[str]:
        """What AWS bills, or has saved, without saying how much."""
        if self.is_prepaid:
            yield _PREPAID
        elif self.is_spot and self.started_at and self.billable_seconds is None:
            yield SPOT_SAVINGS
        if self.keeps_instances:
            yield "warm pools from now on"
        if self.serverless_type:
            yield "serverless training, billed by tokens"
        if any([*(self.debug_rules or ()), *(self.profiler_rules or ())]):
            yield "instances of Debugger rules"
        yield from _large_volumes(self.gigabytes)


class _TimedJob(_InstanceJob):
    """A job whose begin and end AWS names, but no billable time."""

    @property
    def outputs(self) -> dict[str, Any]:
        """What the XCom ``outputs`` has of the job, with its seconds."""
        return _without_missing(
            {**super().outputs, "seconds": self.seconds_until(None)}
        )


_CLUSTER: Final = "ProcessingResources.ClusterConfig"
# https://sagemaker.readthedocs.io/en/stable/api/training/processing.html#sagemaker.clarify.ModelConfig
_CLARIFY_ENDPOINTS: Final = "endpoints that Clarify may make"


class ProcessingJob(_TimedJob):
    """
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeProcessingJob.html
    """

    written = "output_uris"
    read_uris: Annotated[UriList, each_of("S3Input.S3Uri")] = member(
        "ProcessingInputs", exclude=True
    )
    image: Name = member("AppSpecification.ImageUri", exclude=True)
    output_uris: Annotated[Uris, by_name("OutputName", "S3Output.S3Uri")] = member(
        "ProcessingOutputConfig.Outputs"
    )
    instance_type: Name = member(
        f"{_CLUSTER}.SelectedInstanceType", f"{_CLUSTER}.InstanceType"
    )
    instance_count: Count = member(
        f"{_CLUSTER}.SelectedInstanceCount", f"{_CLUSTER}.InstanceCount"
    )
    gigabytes: Count = member(f"{_CLUSTER}.VolumeSizeInGB", exclude=True)
    started_at: ResponseTime = member("ProcessingStartTime", exclude=True)
    ended_at: ResponseTime = member("ProcessingEndTime", exclude=True)

    @property
    def uncounted(self) -> Iterable[str]:
        """What AWS bills beside its instances."""
        # The repository of Clarify's images, in each region. Whether the job makes an
        # endpoint of a model to ask it, only a file in S3 says.
        if "/sagemaker-clarify-processing" in (self.image or ""):
            yield _CLARIFY_ENDPOINTS
        yield from _large_volumes(self.gigabytes)


class TransformJob(_TimedJob):
    """
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTransformJob.html
    """

    written = "output_uri"
    read_uris: Annotated[UriList, CHANNELS] = member("TransformInput", exclude=True)
    output_uri: Uri = member("TransformOutput.S3OutputPath")
    instance_type: Name = member("TransformResources.InstanceType")
    instance_count: Count = member("TransformResources.InstanceCount")
    started_at: ResponseTime = member("TransformStartTime", exclude=True)
    ended_at: ResponseTime = member("TransformEndTime", exclude=True)


# The definition of the training jobs of a tuning job, or several.
_DEFINITIONS: Final = ("TrainingJobDefinition", "TrainingJobDefinitions")


class TuningResources(Instances):
    """The instances of each training job of a tuning job."""

    groups: Annotated[list[Instances] | None, LENIENT] = member("InstanceGroups")
    # In the order of preference: AWS takes one of them for each training job.
    choices: Annotated[list[Instances] | None, LENIENT] = member(
        "InstanceConfigs", "InstancePreferences"
    )

    keep_alive_seconds: Count = member("KeepAlivePeriodInSeconds")

    @property
    def instances(self) -> Sequence[Instances]:
        """The instances that count."""
        if self.choices:
            return self.choices[:1]
        return self.groups or [self]

    @property
    def is_prepaid(self) -> bool:
        """Whether they are those of a training plan."""
        return any(each.has_plan for each in (self, *self.instances))

    @property
    def uncounted(self) -> Iterator[str]:
        """What AWS bills beside the time of the training jobs, or has billed before."""
        if len(self.choices or ()) > 1:
            yield "other types of instances than the first one of several"
        if self.is_prepaid:
            yield _PREPAID
        elif self.keep_alive_seconds:
            yield "warm pools of training jobs"
        for each in (self, *self.instances):
            yield from _large_volumes(each.gigabytes)


class TrainingJobDefinition(AwsModel):
    """
    What training jobs of a tuning job have in common.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_HyperParameterTrainingJobDefinition.html
    """

    name: Name = member("DefinitionName")
    resources: Annotated[TuningResources | None, LENIENT] = member(
        "HyperParameterTuningResourceConfig", "ResourceConfig"
    )
    is_spot: Annotated[bool | None, LENIENT] = member("EnableManagedSpotTraining")


class TrainingJobSummary(_Billed):
    """
    A training job of a tuning job. Its definition says which instances it has.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_HyperParameterTrainingJobSummary.html
    """

    definition_name: Name = member("TrainingJobDefinitionName")
    started_at: ResponseTime = member("TrainingStartTime")
    ended_at: ResponseTime = member("TrainingEndTime")


class TuningJob(JobDescription):
    """
    A tuning job. Calls of their own find its training jobs.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeHyperParameterTuningJob.html

    :param summaries: the training jobs; None if they were not listed.
    """

    written = "model_artifact"
    is_counted = True
    read_uris: Annotated[UriList, CHANNELS_OF_ALL] = member(*_DEFINITIONS, exclude=True)
    started_at: ResponseTime = member("CreationTime", exclude=True)
    best_training_job: Name = member("BestTrainingJob.TrainingJobName")
    training_jobs: CountsTogether = member("TrainingJobStatusCounters")
    definitions: Annotated[list[TrainingJobDefinition] | None, ENTRIES, LENIENT] = (
        member(*_DEFINITIONS, exclude=True)
    )
    metrics: Values = None
    model_artifact: Uri = None
    summaries: Annotated[Sequence[TrainingJobSummary] | None, LENIENT] = Field(
        None, exclude=True
    )

    def with_best(self, best: JobDescription | None) -> TuningJob:
        """Return the job with what its best training job has measured and made."""
        if not isinstance(best, TrainingJob):
            return self
        changes = {"metrics": best.metrics, "model_artifact": best.model_artifact}
        return self.model_copy(update=changes)

    @property
    def outputs(self) -> dict[str, Any]:
        """
        What the XCom ``outputs`` has of the job: the seconds of all instances of all
        training jobs that have ended, and their type if all have the same.
        """
        outputs = super().outputs
        if self.summaries is not None:
            used = list(self.instance_seconds(None))
            outputs["billable_seconds"] = round(sum(seconds for _, seconds in used), 1)
            types = {instance_type for instance_type, _ in used}
            if len(types) == 1:
                outputs["instance_type"] = types.pop()
        return outputs

    def instance_seconds(
        self, now: datetime | None, step_ended_at: datetime | None = None
    ) -> Iterable[TypeAndSeconds]:
        """Return the time of all instances of all training jobs."""
        for summary in self.summaries or ():
            resources = self._resources_of(summary)
            if resources and not resources.is_prepaid:
                seconds = summary.seconds_until(step_ended_at or now)
                yield from _instance_seconds(seconds, resources.instances)

    def _resources_of(self, summary: TrainingJobSummary) -> TuningResources | None:
        definitions = self.definitions or []
        for definition in definitions:
            is_its = definition.name == summary.definition_name
            if definition.resources and (is_its or len(definitions) == 1):
                return definition.resources
        return None

    @property
    def uncounted(self) -> Iterable[str]:
        """What the list of training jobs, or their definitions, do not say."""
        summaries = self.summaries or ()
        if self.summaries is None or len(summaries) < (self.training_jobs or 0):
            yield "training jobs that are not in AWS's list"
        if any(self._resources_of(summary) is None for summary in summaries):
            yield "training jobs whose instances are not known"
        definitions = self.definitions or ()
        nouns = [
            noun
            for definition in definitions
            if definition.resources
            for noun in definition.resources.uncounted
        ]
        # Each of them once, in their order.
        yield from dict.fromkeys(nouns)
        if any(definition.is_spot for definition in definitions):
            yield SPOT_SAVINGS


class AutoMLJob(JobDescription):
    """
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeAutoMLJobV2.html
    """

    written = "output_path"
    read_uris: Annotated[UriList, CHANNELS] = member(
        "AutoMLJobInputDataConfig", exclude=True
    )
    output_path: Uri = member("OutputDataConfig.S3OutputPath", exclude=True)
    best_candidate: Name = member("BestCandidate.CandidateName")
    objective: Annotated[Values, by_name("MetricName", "Value")] = member(
        "BestCandidate.FinalAutoMLJobObjectiveMetric"
    )


class ModelPackage(JobDescription):
    """
    What the XCom ``outputs`` has of a model package; ``approval.py`` has what a wait
    needs.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html
    """

    read_uris: Annotated[
        UriList, each_of("ModelDataUrl", "ModelDataSource.S3DataSource.S3Uri")
    ] = member("InferenceSpecification.Containers", exclude=True)
    model_package_group: Name = member("ModelPackageGroupName")
    model_package_version: Count = member("ModelPackageVersion")
    approval_status: Name = member("ModelApprovalStatus")


class Endpoint(JobDescription):
    """
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html
    """

    endpoint_status: Name = member("EndpointStatus")


class JobKind(NamedTuple):
    """
    A kind of job.

    :param operation: the operation that describes it, which is also its IAM action.
    :param resource: the type of the resource in its ARN.
    :param description: what is read from the response.
    """

    operation: str
    resource: str
    description: type[JobDescription]

    @property
    def member(self) -> str:
        """The member of the request that names the job."""
        return f"{self.operation.removeprefix('Describe').removesuffix('V2')}Name"


TRAINING: Final = JobKind("DescribeTrainingJob", "training-job", TrainingJob)
_PROCESSING: Final = JobKind("DescribeProcessingJob", "processing-job", ProcessingJob)
# By the member of the step's metadata. Jobs of other kinds of steps have no metrics,
# times or files.
JOB_KINDS: Final[dict[str, JobKind]] = {
    "TrainingJob": TRAINING,
    "ProcessingJob": _PROCESSING,
    "QualityCheck": _PROCESSING,
    "ClarifyCheck": _PROCESSING,
    "TransformJob": JobKind("DescribeTransformJob", "transform-job", TransformJob),
    "TuningJob": JobKind(
        "DescribeHyperParameterTuningJob", "hyper-parameter-tuning-job", TuningJob
    ),
    "AutoMLJob": JobKind("DescribeAutoMLJobV2", "automl-job", AutoMLJob),
    "RegisterModel": JobKind("DescribeModelPackage", "model-package", ModelPackage),
    "Endpoint": JobKind("DescribeEndpoint", "endpoint", Endpoint),
}


# What lists the training jobs of a tuning job.
LIST_TRAINING_JOBS: Final = "ListTrainingJobsForHyperParameterTuningJob"


def job_of(step: StepDescription) -> tuple[JobKind, str] | None:
    """
    Return the kind and the name of a step's job; None if there is nothing that can be
    described.
    """
    kind = JOB_KINDS.get(step.kind or "")
    if kind is None:
        return None
    name = job_name_of(step)
    if kind.description is ModelPackage:
        # A version of a model package has no name, only an ARN.
        name = step.job_arn
    if not name:
        return None
    return kind, name


# A step of this execution, and its job as far as it is known.
JobOfStep = tuple[StepDescription, JobDescription | None]
# How many steps a sentence names for each thing that is not counted.
MAX_NAMED_STEPS: Final = 3


def seconds_by_instance_type(
    jobs: Iterable[JobOfStep], now: datetime
) -> dict[str, float]:
    """
    Return the seconds for which AWS bills, of all instances of the jobs, by the type of
    instance.

    :param now: until when a job counts whose step still runs, and a warm pool that AWS
        still keeps.
    """
    total: defaultdict[str, float] = defaultdict(float)
    for step, job in jobs:
        if job:
            for instance_type, seconds in job.instance_seconds(now, step.ended_at):
                total[instance_type] += seconds
    return {
        instance_type: round(seconds, 1)
        for instance_type, seconds in sorted(total.items())
    }


def uncounted(
    jobs: Iterable[JobOfStep], with_all_attempts: Container[str] = ()
) -> str | None:
    """
    Return a sentence that names what ``seconds_by_instance_type`` lacks; None if it has
    everything that the steps cost.

    :param with_all_attempts: the names of the steps whose earlier attempts are counted.
    """
    step_names: dict[str, list[str]] = {}
    for step, job in jobs:
        for noun in _uncounted_of(step, job, with_all_attempts):
            step_names.setdefault(noun, []).append(step.name)
    if not step_names:
        return None
    parts = []
    for noun, names in step_names.items():
        named = ", ".join(names[:MAX_NAMED_STEPS])
        if len(names) > MAX_NAMED_STEPS:
            named += f" and {len(names) - MAX_NAMED_STEPS} more"
        parts.append(f"{noun} ({named})")
    return f"Not counted: {'; '.join(parts)}."


def _uncounted_of(
    step: StepDescription, job: JobDescription | None, with_all_attempts: Container[str]
) -> Iterator[str]:
    if step.kind is None:
        return
    kind = JOB_KINDS.get(step.kind)
    if job:
        # The only check of Clarify that asks no model.
        is_of_data = step.text("CheckType") == "DATA_BIAS"
        for noun in job.uncounted:
            if not (is_of_data and noun == _CLARIFY_ENDPOINTS):
                yield noun
    elif kind and kind.description.is_counted:
        yield "jobs that could not be described"
    if step.facts.uncounted:
        yield step.facts.uncounted
    is_repeated = step.attempt_count is not None and step.attempt_count > 1
    if is_repeated and step.name not in with_all_attempts:
        yield "earlier attempts"


def _instance_seconds(
    seconds: float | None, groups: Iterable[Instances | _InstanceJob]
) -> Iterator[TypeAndSeconds]:
    for group in groups:
        if seconds and group.instance_type and group.instance_count:
            yield group.instance_type, seconds * group.instance_count


MAX_BYTES: Final = 256 * 1024
# Databases limit how deeply JSON may be nested: MySQL to 100.
MAX_DEPTH: Final = 32

PropertyFiles = bool | Sequence[str]


def files_to_read(
    step: DeclaredStep | None, wanted: PropertyFiles
) -> list[PropertyFile]:
    """
    Return the property files to read of a step.

    :param step: the step as the definition declares it; None if it does not.
    :param wanted: True for all that the definition declares, or the names of some.
    """
    declared = step.property_files if step else ()
    return [file for file in declared if wanted is True or file.name in _names(wanted)]


def missing_names(declared: Iterable[DeclaredStep], wanted: PropertyFiles) -> list[str]:
    """Return the wanted names that the definition does not declare."""
    names = {file.name for step in all_steps(declared) for file in step.property_files}
    return [name for name in _names(wanted) if name not in names]


def _names(wanted: PropertyFiles) -> Sequence[str]:
    return () if isinstance(wanted, bool) else wanted


def uri_of(file: PropertyFile, output_uris: Mapping[str, str | None]) -> str | None:
    """
    Return the S3 URI of a property file; None if the job has no such output.

    :param output_uris: the outputs of the job by name.
    """
    folder = output_uris.get(file.output)
    if not folder:
        return None
    return f"{folder.rstrip('/')}/{file.path.lstrip('/')}"


def parse(content: bytes) -> Any:
    """
    Return the value of a property file, with clean texts.

    :param content: the file, or what was read of a longer one.
    :raises UnreadableJsonError: it has more than ``MAX_BYTES``, or is not JSON that
        every database stores.
    """
    value = read_json(content, "it", max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)
    return _clean(value)


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            clean_value(name, MAX_BYTES): _clean(item) for name, item in value.items()
        }
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, str):
        return clean_value(value, MAX_BYTES)
    return value
