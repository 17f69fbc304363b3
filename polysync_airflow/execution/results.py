"""
What the steps of an execution have made and used: from the descriptions of their jobs,
and from the files that these jobs wrote.

A member of a response that is missing, or is not as AWS documents it, is None, so that
it does not hide the other members.

Datasets have the names that OpenLineage gives them
(https://openlineage.io/docs/spec/naming): an object or a folder in S3 has the namespace
``s3://<bucket>`` and its key as the name. The specification has no names for SageMaker.
So a model package is named as the specification names tables of AWS Glue, by the parts
of its ARN.

A pipeline's definition names the JSON files that processing steps write to S3, and says
in which output of the job each file is. Any user whose code runs in the job writes
them.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-propertyfile.html

Everything here is pure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, ClassVar, Final, NamedTuple

from pydantic import (
    AliasChoices,
    AliasPath,
    BeforeValidator,
    Field,
    FiniteFloat,
    StringConstraints,
)

from polysync_airflow.execution import models
from polysync_airflow.execution.json_input import read_json
from polysync_airflow.execution.models import MAX_INTEGER, FrozenModel, ResponseTime
from polysync_airflow.execution.pipelines import DeclaredStep, PropertyFile, all_steps
from polysync_airflow.execution.steps.descriptions import StepDescription, job_name_of
from polysync_airflow.execution.texts import (
    LENIENT,
    ArnText,
    Count,
    NameText,
    clean_value,
)

# AWS allows 40 metrics of a training job, and 10 outputs of a processing job.
_MAX_ENTRIES: Final = 100
S3_URI_PATTERN: Final = r"^s3://[^/\s]+"


def _entries(value: Any) -> list[Any]:
    # A single object stands in place of a list in some responses.
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value[:_MAX_ENTRIES]
    return []


def _value_at(entry: Any, path: str) -> Any:
    for member in path.split("."):
        if not isinstance(entry, Mapping):
            return None
        entry = entry.get(member)
    return entry


def _values_by_name(value: Any, name_member: str, path: str) -> dict[str, Any]:
    values = {}
    for entry in _entries(value):
        name = _value_at(entry, name_member)
        named = _value_at(entry, path)
        if isinstance(name, str) and named is not None:
            values[name] = named
    return values


# Validators and fields are made at import, where mutmut changes nothing.
def by_name(name_member: str, path: str) -> BeforeValidator:  # pragma: no mutate block
    """
    Return a validator that makes a dict of a list of objects.

    :param name_member: the member whose value becomes the key.
    :param path: the members that lead to the value, with dots between them.
    """
    return BeforeValidator(lambda value: _values_by_name(value, name_member, path))


def _values(value: Any, paths: Iterable[str]) -> list[Any]:
    values = [_value_at(entry, path) for entry in _entries(value) for path in paths]
    return [value for value in values if value is not None]


def each_of(*paths: str) -> BeforeValidator:  # pragma: no mutate block
    """
    Return a validator that makes a list of the values in a list of objects.

    :param paths: the members that lead to a value, with dots between them. An object
        has the value at one of these paths.
    """
    return BeforeValidator(lambda value: _values(value, paths))


def _sum(counts: Any) -> Any:
    if not isinstance(counts, dict):
        return None
    return sum(count for count in counts.values() if isinstance(count, int)) or None


Name = Annotated[NameText | None, LENIENT]
Uri = Annotated[
    Annotated[ArnText, StringConstraints(pattern=S3_URI_PATTERN)] | None, LENIENT
]
CountsTogether = Annotated[Count, BeforeValidator(_sum)]
Seconds = Annotated[Annotated[float, Field(ge=0, le=MAX_INTEGER)] | None, LENIENT]
Value = Annotated[FiniteFloat | None, LENIENT]
Values = Annotated[dict[NameText, Value] | None, LENIENT]
Uris = Annotated[dict[NameText, Uri] | None, LENIENT]
UriList = Annotated[list[Uri] | None, LENIENT]
_CHANNEL: Final = "DataSource.S3DataSource.S3Uri"
CHANNELS: Final = each_of(_CHANNEL)


def _channels_of_all(definitions: Any) -> list[Any]:
    channels = [_value_at(entry, "InputDataConfig") for entry in _entries(definitions)]
    return [uri for channel in channels for uri in _values(channel, [_CHANNEL])]


# The channels of one definition of a training job, or of a list of them.
CHANNELS_OF_ALL: Final = BeforeValidator(_channels_of_all)


def first_of(member: str, *names: str) -> Any:  # pragma: no mutate block
    """
    Return a field with the first value that the response has.

    :param member: the members that lead to an object, with dots between them.
    :param names: the members of this object to try.
    """
    aliases = (AliasPath(*member.split("."), name) for name in names)
    return Field(None, validation_alias=AliasChoices(*aliases))


def member(*path: str, exclude: bool | None = None) -> Any:  # pragma: no mutate block
    """
    Return a field with a member of a response; None if the response has not got it.

    :param path: the members that lead to it.
    :param exclude: whether the XCom ``outputs`` leaves it out.
    """
    return Field(None, validation_alias=AliasPath(*path), exclude=exclude)


class JobDescription(FrozenModel):
    """
    A response that describes a job. Its fields are those of the XCom ``outputs``.

    :param read_uris: where in S3 its inputs are; not in ``outputs``.
    """

    read_uris: UriList = Field(None, exclude=True)

    # The field with the URIs of what it writes; None if it writes nothing.
    written: ClassVar[str | None] = None

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
    def instance_seconds(self) -> dict[str, float]:
        """
        The seconds for which AWS bills, of all instances together, by the type of
        instance.
        """
        return {}


def _without_missing(members: dict[str, Any]) -> dict[str, Any]:
    present = {}
    for name, value in members.items():
        kept = _without_missing(value) if isinstance(value, dict) else value
        if kept not in (None, {}):
            present[name] = kept
    return present


class InstanceGroup(FrozenModel):
    """Instances of one type in a cluster that has several."""

    instance_type: Name = member("InstanceType")
    instance_count: Count = member("InstanceCount")


class TrainingJob(JobDescription):
    """
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html
    """

    written = "model_artifact"
    read_uris: Annotated[UriList, CHANNELS] = member("InputDataConfig", exclude=True)
    metrics: Annotated[Values, by_name("MetricName", "Value")] = member(
        "FinalMetricDataList"
    )
    model_artifact: Uri = member("ModelArtifacts", "S3ModelArtifacts")
    billable_seconds: Seconds = member("BillableTimeInSeconds")
    # AWS selects the instances if the job names several types.
    instance_type: Name = first_of(
        "ResourceConfig", "SelectedInstanceType", "InstanceType"
    )
    instance_count: Count = first_of(
        "ResourceConfig", "SelectedInstanceCount", "InstanceCount"
    )
    training_seconds: Seconds = member("TrainingTimeInSeconds", exclude=True)
    is_spot: Annotated[bool | None, LENIENT] = member(
        "EnableManagedSpotTraining", exclude=True
    )
    instance_groups: Annotated[list[InstanceGroup] | None, LENIENT] = member(
        "ResourceConfig", "InstanceGroups", exclude=True
    )

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

    @property
    def instance_seconds(self) -> dict[str, float]:
        """The billable time of each instance."""
        return _instance_seconds(self.billable_seconds, self.instance_groups or [self])


class _TimedJob(JobDescription):
    """A job whose begin and end AWS names, but no billable time."""

    instance_type: Name
    instance_count: Count
    started_at: ResponseTime
    ended_at: ResponseTime

    @property
    def outputs(self) -> dict[str, Any]:
        """What the XCom ``outputs`` has of the job, with its seconds."""
        outputs = super().outputs
        if self.seconds is not None:
            outputs["seconds"] = self.seconds
        return outputs

    @property
    def seconds(self) -> float | None:
        """How long its instances ran; None if the job has not begun or not ended."""
        if self.started_at is None or self.ended_at is None:
            return None
        return round(max(0.0, (self.ended_at - self.started_at).total_seconds()), 1)

    @property
    def instance_seconds(self) -> dict[str, float]:
        """The time of each instance."""
        return _instance_seconds(self.seconds, [self])


class ProcessingJob(_TimedJob):
    """
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeProcessingJob.html
    """

    written = "output_uris"
    read_uris: Annotated[UriList, each_of("S3Input.S3Uri")] = member(
        "ProcessingInputs", exclude=True
    )
    output_uris: Annotated[Uris, by_name("OutputName", "S3Output.S3Uri")] = member(
        "ProcessingOutputConfig", "Outputs"
    )
    instance_type: Name = first_of(
        "ProcessingResources.ClusterConfig", "SelectedInstanceType", "InstanceType"
    )
    instance_count: Count = first_of(
        "ProcessingResources.ClusterConfig", "SelectedInstanceCount", "InstanceCount"
    )
    started_at: ResponseTime = member("ProcessingStartTime", exclude=True)
    ended_at: ResponseTime = member("ProcessingEndTime", exclude=True)


class TransformJob(_TimedJob):
    """
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTransformJob.html
    """

    written = "output_uri"
    read_uris: Annotated[UriList, CHANNELS] = member("TransformInput", exclude=True)
    output_uri: Uri = member("TransformOutput", "S3OutputPath")
    instance_type: Name = member("TransformResources", "InstanceType")
    instance_count: Count = member("TransformResources", "InstanceCount")
    started_at: ResponseTime = member("TransformStartTime", exclude=True)
    ended_at: ResponseTime = member("TransformEndTime", exclude=True)


class TuningJob(JobDescription):
    """
    The response without the best training job, which a call of its own describes.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeHyperParameterTuningJob.html
    """

    read_uris: Annotated[UriList, CHANNELS_OF_ALL] = Field(
        None,
        validation_alias=AliasChoices(
            "TrainingJobDefinition", "TrainingJobDefinitions"
        ),
        exclude=True,
    )
    best_training_job: Name = member("BestTrainingJob", "TrainingJobName")
    training_jobs: CountsTogether = member("TrainingJobStatusCounters")


class AutoMLJob(JobDescription):
    """
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeAutoMLJobV2.html
    """

    written = "output_path"
    read_uris: Annotated[UriList, CHANNELS] = member(
        "AutoMLJobInputDataConfig", exclude=True
    )
    output_path: Uri = member("OutputDataConfig", "S3OutputPath", exclude=True)
    best_candidate: Name = member("BestCandidate", "CandidateName")
    objective: Annotated[Values, by_name("MetricName", "Value")] = member(
        "BestCandidate", "FinalAutoMLJobObjectiveMetric"
    )


class ModelPackage(JobDescription):
    """
    What the XCom ``outputs`` has of a model package; ``approval.py`` has what a wait
    needs.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html
    """

    read_uris: Annotated[
        UriList, each_of("ModelDataUrl", "ModelDataSource.S3DataSource.S3Uri")
    ] = member("InferenceSpecification", "Containers", exclude=True)
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


def sum_by_instance_type(jobs: Iterable[JobDescription]) -> dict[str, float]:
    """
    Return the seconds for which AWS bills, of all instances of the jobs, by the type of
    instance.
    """
    total: defaultdict[str, float] = defaultdict(float)
    for job in jobs:
        for instance_type, seconds in job.instance_seconds.items():
            total[instance_type] += seconds
    return {
        instance_type: round(seconds, 1)
        for instance_type, seconds in sorted(total.items())
    }


def _instance_seconds(
    seconds: float | None, groups: Iterable[InstanceGroup | TrainingJob | _TimedJob]
) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for group in groups:
        if seconds and group.instance_type and group.instance_count:
            total[group.instance_type] += seconds * group.instance_count
    return dict(total)


# Inputs, and as many outputs. A receiver of events may refuse an event that is too
# long.
MAX_DATASETS: Final = 250
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
# and object-keys.html there
_S3_URI: Final = re.compile(
    r"(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^\x00-\x1f\x7f\ufffd]{0,1024}))?"
)
_MODEL_PACKAGE: Final = re.compile(models.MODEL_PACKAGE_ARN_PATTERN)


class Dataset(NamedTuple):
    """A dataset; namespace and name together are unique."""

    namespace: str
    name: str


class Datasets(NamedTuple):
    """
    What an execution has read and written.

    :param left_out: how many more there are.
    """

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    left_out: int = 0


def datasets_of(
    read: Iterable[str | None],
    written: Iterable[str | None],
    model_packages: Iterable[str] = (),
    reused_packages: Iterable[str] = (),
) -> Datasets:
    """
    Return the datasets of an execution. Those without a valid name are left out.

    What one step has written and another has read is an output, not an input too: a
    graph with both would have a cycle.

    :param read: the S3 URIs that the steps have read.
    :param written: the S3 URIs that the steps have written.
    :param model_packages: the ARNs of the model packages that the steps have
        registered.
    :param reused_packages: the ARNs of the model packages that an earlier execution has
        registered for reused steps.
    """
    # Without duplicates, in the order of the steps.
    outputs = dict.fromkeys([*_packages(model_packages), *_in_s3(written)])
    used = dict.fromkeys([*_packages(reused_packages), *_in_s3(read)])
    inputs = [dataset for dataset in used if dataset not in outputs]
    return Datasets(
        inputs=tuple(inputs[:MAX_DATASETS]),
        outputs=tuple(islice(outputs, MAX_DATASETS)),
        left_out=_excess(inputs) + _excess(outputs),
    )


def _excess(datasets: Collection[Dataset]) -> int:
    return max(0, len(datasets) - MAX_DATASETS)


def _packages(arns: Iterable[str]) -> Iterator[Dataset]:
    for arn in arns:
        if _MODEL_PACKAGE.fullmatch(arn):
            owner, _, name = arn.rpartition(":")
            yield Dataset(owner, name)


def _in_s3(uris: Iterable[str | None]) -> Iterator[Dataset]:
    for uri in filter(None, uris):
        match = _S3_URI.fullmatch(uri)
        if match:
            # A folder is the same with and without a slash at its end. A bucket as a
            # whole is "/".
            key = (match[2] or "").strip("/")
            yield Dataset(match[1], key or "/")


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
