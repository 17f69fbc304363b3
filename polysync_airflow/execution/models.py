"""
The data models of an execution: requests to AWS, and AWS's responses.

Pydantic validates everything that comes from outside of the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from numbers import Number
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from polysync_airflow.execution import texts
from polysync_airflow.states import STATUS_STOPPING

# Limits:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
# and API_Parameter.html. botocore checks types, required members and minimum lengths
# only. A field's ``description`` says which values are valid;
# ``parameters.build_start_request`` quotes it in error messages.
MAX_PARAMETERS = 200
# Steps of a definition: more than AWS allows.
MAX_STEPS = 500
# Steps of an execution, whose loops run steps several times.
MAX_STEP_ROWS = 2000
MAX_SELECTED_STEPS = 50
# In place of the ARN of a source execution: the newest one that can be a source.
LATEST = "latest"
MAX_INTEGER = 2**31 - 1
PIPELINE_NAME_PATTERN = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,255}"
DISPLAY_NAME_PATTERN = r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,81}$"
DISPLAY_NAME_MAX = 82
_ARN_PATTERN = r"arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]+"
PIPELINE_ARN_PATTERN = (
    rf"{_ARN_PATTERN}:([0-9]{{12}}|aws):pipeline/{PIPELINE_NAME_PATTERN}"
)
PIPELINE_PATTERN = rf"^({PIPELINE_ARN_PATTERN}|{PIPELINE_NAME_PATTERN})$"
# Who manages a pipeline, as ListPipelines calls it.
ManagedBy = Literal["AWS", "CUSTOMER"]
EXECUTION_ARN_PATTERN = (
    rf"^{_ARN_PATTERN}:[0-9]{{12}}:pipeline/[a-zA-Z0-9\-]+/execution/[a-zA-Z0-9]+$"
)
ROLE_ARN_PATTERN = r"^arn:aws[a-z\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$"
MLFLOW_ARN_PATTERN = (
    r"^arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}"
    r":mlflow-[a-zA-Z-]*/[A-Za-z0-9\-]+$"
)
MODEL_GROUP_NAME_PATTERN = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
MODEL_GROUP_PATTERN = (
    rf"^({_ARN_PATTERN}:[0-9]{{12}}:model-package-group/)?{MODEL_GROUP_NAME_PATTERN}$"
)
_MODEL_PATTERN = rf"{_ARN_PATTERN}:[0-9]{{12}}:model-package/{MODEL_GROUP_NAME_PATTERN}"
MODEL_VERSION_ARN_PATTERN = rf"{_MODEL_PATTERN}/[0-9]{{1,10}}"
# Also a model package that is in no group, and has no version.
MODEL_PACKAGE_ARN_PATTERN = rf"{_MODEL_PATTERN}(/[0-9]{{1,10}})?"
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html
ApprovalStatus = Literal["Approved", "Rejected", "PendingManualApproval"]
# Which of the executions in a window a search means.
Which = Literal["first", "latest"]
REGION_PATTERN = r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$"
# A shorter poll interval takes calls from others in the account; a longer one is a
# mistake.
MIN_POLL_INTERVAL = 1.0
MAX_POLL_INTERVAL = 24 * 3600.0
# A list of steps costs a call for each execution.
MIN_PROGRESS_INTERVAL = 10.0
# Unix times from 2001 to 2286: numbers that can be added up and converted to dates.
MIN_TIMESTAMP = 1e9
MAX_TIMESTAMP = 1e10
# AWS's statuses are names such as CompletedWithFailures. A response with another text
# is not one of AWS's.
STATUS_PATTERN = r"^[A-Za-z]{1,64}$"
# In place of an error code of AWS's: the connection was deleted, and may be added
# again.
CONNECTION_NOT_FOUND = "ConnectionNotFound"


def region_from_arn(execution_arn: str) -> str:
    """Return the AWS region in which an execution runs."""
    return execution_arn.split(":")[3]


def pipeline_name_of(name_or_arn: str) -> str:
    """
    Return the name of a pipeline.

    :param name_or_arn: its name, its ARN, or that of an execution; ARNs of older
        pipelines are in lower case.
    """
    return name_or_arn.rpartition(":pipeline/")[2].partition("/")[0]


def is_managed(pipeline: str) -> bool:
    """
    Return whether AWS manages a pipeline. Its executions are those of the account that
    starts them.

    https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-managed.html

    :param pipeline: its ARN, which has ``aws`` in place of an account. A name is that
        of an own pipeline.
    """
    return ":aws:pipeline/" in pipeline


def name_or_arn(name: str, arn: str) -> str:
    """
    Return what names a pipeline in a request: its name, or the ARN of one that AWS
    manages.
    """
    if is_managed(arn):
        return arn
    return name


def pipeline_arns(prefix: str, pipeline: str) -> list[str]:
    """
    Return the ARNs that a pipeline may have.

    AWS keeps the case of the name in the ARNs of newer pipelines. ARNs of older ones
    have it in lower case.

    :param prefix: the ARN up to the name, such as
        ``arn:aws:sagemaker:<region>:<account>:pipeline/``.
    :param pipeline: the name of the pipeline, or an ARN, whose prefix counts in place
        of the other.
    """
    own_prefix, slash, name = pipeline.rpartition("/")
    if slash:
        prefix = own_prefix + slash
    return [prefix + spelling for spelling in sorted({name, name.lower()})]


# defer_build: Pydantic builds the validators on first use, which is on a worker, so the
# parse of a DAG file does not pay for them.
class FrozenModel(BaseModel):
    """Base class of models whose unknown members are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    @classmethod
    def or_none(cls, value: object) -> Self | None:
        """Return the model of a value that others can edit; None if it is not valid."""
        try:
            return cls.model_validate(value)
        except pydantic.ValidationError:
            return None


# What the models read of responses has at most eight levels.
_MAX_ANSWER_DEPTH = 10
# The member of an output parameter that AWS requires, and that may be empty.
_MAY_BE_EMPTY = "Value"


def _without_empty_texts(value: Any, depth: int = _MAX_ANSWER_DEPTH) -> Any:
    if depth and isinstance(value, Mapping):
        return {
            name: _without_empty_texts(member, depth - 1)
            for name, member in value.items()
            if member != "" or name == _MAY_BE_EMPTY
        }
    if depth and isinstance(value, list):
        return [_without_empty_texts(item, depth - 1) for item in value]
    return value


class AwsModel(FrozenModel):
    """
    Base class of models of what AWS says in responses and events. An optional member
    with an empty text counts as absent: AWS has no value for it.

    AWS's own example of a list of steps has ``CacheHitResult`` with an empty ARN at
    each step, all of which ran:
    https://docs.aws.amazon.com/sagemaker/latest/dg/run-pipeline.html
    """

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return cls._flatten(_without_empty_texts(data))

    @classmethod
    def _flatten(cls, answer: dict[str, Any]) -> dict[str, Any]:
        """Return what AWS says with the members that the fields are made of."""
        return answer


class StrictModel(FrozenModel):
    """Base class of models whose unknown members are errors."""

    model_config = ConfigDict(extra="forbid")


def _number_to_text(value: Any) -> Any:
    if not isinstance(value, Number):
        return value
    # The API accepts strings only. AWS's own Python SDK sends str(value) too: True, not
    # true.
    return str(value)


PipelineName = Annotated[
    str, StringConstraints(max_length=256, pattern=f"^{PIPELINE_NAME_PATTERN}$")
]
Pipeline = Annotated[
    str, StringConstraints(max_length=texts.MAX_ARN_LENGTH, pattern=PIPELINE_PATTERN)
]
ParameterName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9\-_]+$"),
    texts.NotReserved,
]
ParameterValue = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=texts.MAX_VALUE_LENGTH, pattern=r"^[^\x00]*$"
    ),
    BeforeValidator(_number_to_text),
]
ExecutionDisplayName = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=DISPLAY_NAME_MAX, pattern=DISPLAY_NAME_PATTERN
    ),
]
StepName = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")
]
MaxParallelSteps = Annotated[
    int | None,
    Field(
        ge=1,
        le=MAX_INTEGER,
        description="Give a whole number from 1, or leave it out for no limit.",
    ),
]
RoleArn = Annotated[
    str,
    StringConstraints(
        min_length=20, max_length=texts.MAX_ARN_LENGTH, pattern=ROLE_ARN_PATTERN
    ),
]
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeDomain.html
StudioDomainId = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^d-(-*[a-z0-9]){1,61}$")
]


def _to_utc(time: datetime) -> datetime:
    if not time.tzinfo:
        # A time without an offset is UTC, as in Airflow.
        time = time.replace(tzinfo=UTC)
    with suppress(OverflowError, ValueError, OSError):
        if MIN_TIMESTAMP <= time.timestamp() <= MAX_TIMESTAMP:
            return time.astimezone(UTC)
    raise ValueError("is out of range for a time in UTC")


def sent_at(response: Mapping[str, Any]) -> datetime | None:
    """
    Return when AWS has sent a response, by its own clock; None if the header ``Date``
    does not say so.
    """
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    with suppress(ValueError, OverflowError):
        return _to_utc(parsedate_to_datetime(headers.get("date", "")))
    return None


def _user_of(value: Any) -> Any:
    """Return who a UserContext names, the clearest name first."""
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UserContext.html
    if not isinstance(value, Mapping):
        return None
    names = [value.get("UserProfileName")]
    identity = value.get("IamIdentity")
    if isinstance(identity, Mapping):
        names += [identity.get("SourceIdentity"), identity.get("Arn")]
    for name in names:
        if name and isinstance(name, str):
            return texts.clean_line(name, texts.MAX_ARN_LENGTH)
    return None


# Who has started or changed something: a user profile of Studio, or an IAM identity.
User = Annotated[str | None, BeforeValidator(_user_of)]
# botocore returns times in the host's time zone; the provider passes them on in UTC.
UtcTime = Annotated[datetime, AfterValidator(_to_utc)]
# A time in a response of AWS. Nothing can be computed with the year 1, and the status
# beside it still counts.
ResponseTime = Annotated[UtcTime | None, texts.LENIENT]
Status = Annotated[str, StringConstraints(pattern=STATUS_PATTERN)]
ExecutionArn = Annotated[
    str,
    StringConstraints(max_length=texts.MAX_ARN_LENGTH, pattern=EXECUTION_ARN_PATTERN),
]
MlflowArn = Annotated[
    str, StringConstraints(max_length=texts.MAX_ARN_LENGTH, pattern=MLFLOW_ARN_PATTERN)
]
RequestToken = Annotated[str, StringConstraints(min_length=32, max_length=128)]


class StartRequest(StrictModel):
    """
    The request of StartPipelineExecution. Its fields have the names of the operator's
    arguments.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
    """

    pipeline_name: Pipeline = Field(
        description=(
            "Give the pipeline's name (letters, digits and hyphens, beginning and"
            " ending with a letter or digit, at most 256) or its ARN."
        )
    )
    pipeline_parameters: Mapping[ParameterName, ParameterValue] = Field(
        default_factory=dict,
        max_length=MAX_PARAMETERS,
        description=(
            f"Give a mapping of at most {MAX_PARAMETERS} names (letters, digits, '-',"
            " '_', at most 256) to strings, numbers or booleans whose text has 1 to"
            " 1,024 characters; leave a parameter out to use its default, and pass"
            " larger data by its S3 URI."
        ),
    )
    execution_display_name: ExecutionDisplayName = Field(
        description=(
            f"Use 1 to {DISPLAY_NAME_MAX} letters, digits and hyphens, beginning and"
            " ending with a letter or digit, or leave it out: the operator makes a"
            " unique name."
        )
    )
    execution_description: Annotated[
        Annotated[
            str,
            StringConstraints(
                max_length=texts.MAX_EXECUTION_DESCRIPTION, pattern=r"^[^\x00\r\n]*$"
            ),
        ]
        | None,
        Field(
            description=(
                f"Use at most {texts.MAX_EXECUTION_DESCRIPTION:,} characters without"
                " line breaks, or leave it out."
            )
        ),
    ] = None
    max_parallel_steps: MaxParallelSteps = None
    execution_role_arn: RoleArn | None = Field(
        None,
        description=(
            "Give a role ARN, arn:aws:iam::<12-digit account>:role/<name>, or leave it"
            " out."
        ),
    )
    pipeline_version_id: int | None = Field(
        None,
        ge=1,
        le=MAX_INTEGER,
        description=(
            "Give a version number from 1, or leave it out for the latest version."
        ),
    )
    pipeline_version_alias: str | None = Field(
        None,
        max_length=128,
        pattern=r"^[0-9]*[a-zA-Z._\-][a-zA-Z0-9._\-]*$",
        description=(
            "Give 1 to 128 letters, digits, '.', '_' and '-', not digits only, and no "
            "pipeline_version_id beside it; or leave it out for the latest version."
        ),
    )
    selected_steps: tuple[StepName, ...] | None = Field(
        # The shortest is checked below: here, a name that is not valid would not count.
        None,
        max_length=MAX_SELECTED_STEPS,
        description=(
            f"Give a list of 1 to {MAX_SELECTED_STEPS} different names of steps, of 1"
            " to 256 characters without control characters, or leave it out to run all"
            " steps."
        ),
    )
    source_execution: str | None = Field(
        None,
        max_length=texts.MAX_ARN_LENGTH,
        pattern=f"^{LATEST}$|{EXECUTION_ARN_PATTERN}",
        description=(
            f"Give the ARN of an execution of the same pipeline, or {LATEST!r},"
            " together with selected_steps; or leave it out."
        ),
    )
    mlflow_experiment_name: Annotated[
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00\r\n]*$"),
        ]
        | None,
        Field(
            description="Use 1 to 256 characters without line breaks, or leave it out."
        ),
    ] = None
    client_request_token: RequestToken

    @pydantic.field_validator("pipeline_version_alias")
    @classmethod
    def _check_version(
        cls, alias: str | None, info: pydantic.ValidationInfo
    ) -> str | None:
        if alias and info.data.get("pipeline_version_id"):
            raise ValueError("is given together with pipeline_version_id")
        return alias

    @pydantic.field_validator("selected_steps")
    @classmethod
    def _check_selected_steps(
        cls, steps: tuple[str, ...] | None
    ) -> tuple[str, ...] | None:
        if steps is None:
            return None
        if not steps:
            raise ValueError("has no step")
        for name in steps:
            if steps.count(name) > 1:
                raise ValueError(f"has {texts.clean_line(name)} twice")
        return steps

    @pydantic.field_validator("source_execution")
    @classmethod
    def _check_source(
        cls, source: str | None, info: pydantic.ValidationInfo
    ) -> str | None:
        if not source:
            return source
        # A field that is not valid itself is not in the data.
        if "selected_steps" in info.data and not info.data["selected_steps"]:
            raise ValueError("is given without selected_steps")
        name = pipeline_name_of(info.data.get("pipeline_name", ""))
        if source == LATEST or not name:
            return source
        if pipeline_name_of(source).lower() != name.lower():
            raise ValueError(f"is an execution of another pipeline than {name}")
        return source

    def to_aws(self) -> dict[str, Any]:
        """Return the keyword arguments of botocore's ``start_pipeline_execution``."""
        request: dict[str, Any] = {
            "PipelineName": self.pipeline_name,
            "PipelineExecutionDisplayName": self.execution_display_name,
            "ClientRequestToken": self.client_request_token,
            "PipelineParameters": [
                {"Name": name, "Value": value}
                for name, value in self.pipeline_parameters.items()
            ],
            "PipelineExecutionDescription": self.execution_description,
            "ParallelismConfiguration": self._parallelism_to_aws(),
            "PipelineVersionId": self.pipeline_version_id,
            "PipelineVersionAlias": self.pipeline_version_alias,
            "MlflowExperimentName": self.mlflow_experiment_name,
            "SelectiveExecutionConfig": self._selection_to_aws(),
            "RoleArn": self.execution_role_arn,
        }
        return {member: value for member, value in request.items() if value}

    def _parallelism_to_aws(self) -> dict[str, Any] | None:
        if not self.max_parallel_steps:
            return None
        return {"MaxParallelExecutionSteps": self.max_parallel_steps}

    def _selection_to_aws(self) -> dict[str, Any] | None:
        if not self.selected_steps:
            return None
        selection: dict[str, Any] = {
            "SelectedSteps": [{"StepName": name} for name in self.selected_steps]
        }
        if self.source_execution:
            selection["SourcePipelineExecutionArn"] = self.source_execution
        return selection


ConnectionId = Annotated[str, StringConstraints(min_length=1, max_length=250)]
RegionName = Annotated[str, StringConstraints(max_length=64, pattern=REGION_PATTERN)]
Timestamp = Annotated[
    float, Field(strict=True, ge=MIN_TIMESTAMP, le=MAX_TIMESTAMP, allow_inf_nan=False)
]


class ExecutionDescription(AwsModel):
    """
    The response of DescribePipelineExecution, or an entry of ListPipelineExecutions,
    which has no reason.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html
    and
    API_PipelineExecutionSummary.html
    """

    execution_arn: ExecutionArn = Field(validation_alias="PipelineExecutionArn")
    status: str = Field(
        validation_alias="PipelineExecutionStatus", pattern=STATUS_PATTERN
    )
    failure_reason: texts.ReasonText | None = Field(
        None, validation_alias="FailureReason"
    )
    created_at: ResponseTime = Field(
        None, validation_alias=pydantic.AliasChoices("CreationTime", "StartTime")
    )
    modified_at: ResponseTime = Field(None, validation_alias="LastModifiedTime")
    display_name: texts.NameText | None = Field(
        None, validation_alias="PipelineExecutionDisplayName"
    )
    description: texts.ExecutionDescriptionText | None = Field(
        None, validation_alias="PipelineExecutionDescription"
    )
    created_by: User = Field(None, validation_alias="CreatedBy")
    # AWS's answer in full stays valid without it.
    mlflow_resource_arn: Annotated[MlflowArn | None, texts.LENIENT] = Field(
        None, validation_alias=pydantic.AliasPath("MLflowConfig", "MlflowResourceArn")
    )


# How a wait ends before its execution.
UnendedOutcome = Literal["timed_out", "refused", "too_expensive"]


class StopBeforeEvent(StrictModel):
    """
    The stop that a trigger has requested before it fired its event.

    :param requested_at: when, by the clock of its host.
    :param status: AWS's status of the execution after the request.
    """

    requested_at: UtcTime
    status: texts.NameText

    @property
    def text(self) -> str:
        """What became of the execution, as a sentence."""
        at = f"{self.requested_at:%Y-%m-%d %H:%M:%S} UTC"
        if self.status == STATUS_STOPPING:
            return f"The execution was asked to stop by the triggerer, at {at}."
        return (
            f"No stop was needed when the triggerer asked for it, at {at}: the"
            f" execution has ended or is stopping (AWS status {self.status})."
        )
