"""Owns the shapes that cross a border: requests to AWS, its answers, the trigger's event, XCom records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from numbers import Number
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

# Limits: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html and
# API_Parameter.html. botocore checks types, required members and minimum lengths only. A field's
# ``description`` says what is legal; ``parameters.build_start_request`` quotes it as the cure.
MAX_PARAMETERS = 200
PIPELINE_NAME_PATTERN = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,255}"
DISPLAY_NAME_PATTERN = r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,81}$"
DISPLAY_NAME_MAX = 82
PIPELINE_ARN_PATTERN = r"arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:([0-9]{12}|aws):pipeline/"
EXECUTION_ARN_PATTERN = (
    r"^arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]+:[0-9]{12}:pipeline/[a-zA-Z0-9\-]+/execution/[a-zA-Z0-9]+$"
)
ROLE_ARN_PATTERN = r"^arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$"


def region_from_arn(execution_arn: str) -> str:
    """
    Return the AWS region that an execution runs in.

    :param execution_arn: the execution.
    """
    return execution_arn.split(":")[3]


# defer_build: operators import this room, and a DAG file is parsed every 30 seconds. Validators are built on
# first use, which is on a worker.
_STRICT = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


def _parameter_text(value: Any) -> Any:
    # The API takes strings only; str() is what AWS's own Python SDK sends (True, not true).
    if isinstance(value, Number):
        return str(value)
    return value


PipelineName = Annotated[str, StringConstraints(max_length=256, pattern=f"^{PIPELINE_NAME_PATTERN}$")]
ParameterName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9\-_]+$")]
ParameterValue = Annotated[
    str, StringConstraints(min_length=1, max_length=1024), BeforeValidator(_parameter_text)
]
RoleArn = Annotated[str, StringConstraints(min_length=20, max_length=2048, pattern=ROLE_ARN_PATTERN)]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ValueError("is beyond the calendar") from None


# botocore gives times in the host's zone; what we pass on is UTC.
UtcTime = Annotated[datetime, AfterValidator(_in_utc)]
ExecutionArn = Annotated[str, StringConstraints(max_length=2048, pattern=EXECUTION_ARN_PATTERN)]
RequestToken = Annotated[str, StringConstraints(min_length=32, max_length=128)]


class StartRequest(BaseModel):
    """
    One StartPipelineExecution call, named as the operator's arguments are.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
    """

    model_config = _STRICT

    pipeline_name: Annotated[
        str,
        StringConstraints(max_length=2048, pattern=rf"^({PIPELINE_ARN_PATTERN}.*)?{PIPELINE_NAME_PATTERN}$"),
        Field(
            description="Give the pipeline's name (letters, digits and hyphens, beginning and ending with a "
            "letter or digit, at most 256) or its ARN."
        ),
    ]
    pipeline_parameters: Annotated[
        Mapping[ParameterName, ParameterValue],
        Field(
            default_factory=dict,
            max_length=MAX_PARAMETERS,
            description=f"Give a mapping of at most {MAX_PARAMETERS} names (letters, digits, '-', '_', at "
            "most 256) to strings, numbers or booleans whose text has 1 to 1,024 characters; leave a "
            "parameter out to use its default, and pass larger data by its S3 URI.",
        ),
    ]
    execution_display_name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=DISPLAY_NAME_MAX, pattern=DISPLAY_NAME_PATTERN),
        Field(
            description=f"Use 1 to {DISPLAY_NAME_MAX} letters, digits and hyphens, beginning and ending with "
            "a letter or digit, or leave it out to have one made."
        ),
    ]
    execution_description: Annotated[
        str | None, Field(max_length=3072, description="Use at most 3,072 characters, or leave it out.")
    ] = None
    max_parallel_steps: Annotated[
        int | None, Field(ge=1, description="Give a whole number from 1, or leave it out for no limit.")
    ] = None
    execution_role_arn: Annotated[
        RoleArn | None,
        Field(description="Give a role's ARN, arn:aws:iam::<12-digit account>:role/<name>, or leave it out."),
    ] = None
    pipeline_version_id: Annotated[
        int | None, Field(ge=1, description="Give a version's number from 1, or leave it out for the latest.")
    ] = None
    client_request_token: RequestToken

    def to_aws(self) -> dict[str, Any]:
        """Return the keyword arguments of botocore's ``start_pipeline_execution``."""
        request: dict[str, Any] = {
            "PipelineName": self.pipeline_name,
            "PipelineExecutionDisplayName": self.execution_display_name,
            "ClientRequestToken": self.client_request_token,
            "PipelineParameters": [{"Name": n, "Value": v} for n, v in self.pipeline_parameters.items()],
            "PipelineExecutionDescription": self.execution_description,
            "ParallelismConfiguration": (
                {"MaxParallelExecutionSteps": self.max_parallel_steps} if self.max_parallel_steps else None
            ),
            "PipelineVersionId": self.pipeline_version_id,
            "RoleArn": self.execution_role_arn,
        }
        return {member: value for member, value in request.items() if value}


class StoredExecution(BaseModel):
    """
    What a task's tries leave to each other in Airflow's task state store, where people can edit it.

    :param epoch: ``max_tries`` of the tries that it belongs to; a user's clear makes a new one.
    :param region_name: AWS region in which the start was asked for.
    :param request: the start, with its token.
    :param execution_arn: the execution, once AWS has answered.
    :param resumes: how often a resume was asked for.
    :param resume_token: the latest resume's token; None before the first.
    :param resumed_at: when AWS granted it; None as long as it has not answered.
    """

    model_config = _STRICT

    version: Literal[1] = 1
    epoch: Annotated[int, Field(ge=0)]
    region_name: Annotated[str, StringConstraints(min_length=1)]
    request: StartRequest
    execution_arn: ExecutionArn | None = None
    resumes: Annotated[int, Field(ge=0)] = 0
    resume_token: RequestToken | None = None
    resumed_at: UtcTime | None = None

    @model_validator(mode="after")
    def _resumes_have_a_token(self) -> StoredExecution:
        # The count names the attempt in a stop's token: with a wrong one, AWS would take the stop for done.
        if (self.resumes == 0) != (self.resume_token is None):
            raise ValueError("resumes and resume_token do not go together")
        return self

    @property
    def arn(self) -> str:
        """The execution's ARN, where it is known."""
        if self.execution_arn is None:
            raise LookupError("the execution's ARN is not known yet")
        return self.execution_arn

    @property
    def resume_is_pending(self) -> bool:
        """Whether a resume was asked for that AWS has not answered."""
        return self.resume_token is not None and self.resumed_at is None


class ExecutionDescription(_Frozen):
    """
    What DescribePipelineExecution said; or a row of ListPipelineExecutions, which gives no reason.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html and
    API_PipelineExecutionSummary.html
    """

    execution_arn: str = Field(validation_alias="PipelineExecutionArn")
    status: str = Field(validation_alias="PipelineExecutionStatus")
    failure_reason: str | None = Field(None, validation_alias="FailureReason")
    created_at: UtcTime | None = Field(None, validation_alias=AliasChoices("CreationTime", "StartTime"))
    modified_at: UtcTime | None = Field(None, validation_alias="LastModifiedTime")


class StepDescription(_Frozen):
    """
    One step of an execution.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStep.html
    """

    name: str = Field(validation_alias="StepName")
    status: str | None = Field(None, validation_alias="StepStatus")
    failure_reason: str | None = Field(None, validation_alias="FailureReason")
    attempt_count: int | None = Field(None, validation_alias="AttemptCount")
    started_at: UtcTime | None = Field(None, validation_alias="StartTime")
    ended_at: UtcTime | None = Field(None, validation_alias="EndTime")


class PipelineSummary(_Frozen):
    """One row of ListPipelines."""

    name: str = Field(validation_alias="PipelineName")


class PipelineDescription(_Frozen):
    """
    What DescribePipeline said.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipeline.html
    """

    name: str = Field(validation_alias="PipelineName")
    arn: str = Field(validation_alias="PipelineArn")
    role_arn: str | None = Field(None, validation_alias="RoleArn")
    display_name: str | None = Field(None, validation_alias="PipelineDisplayName")
    description: str | None = Field(None, validation_alias="PipelineDescription")
    created_at: UtcTime | None = Field(None, validation_alias="CreationTime")
    modified_at: UtcTime | None = Field(None, validation_alias="LastModifiedTime")
    last_run_at: UtcTime | None = Field(None, validation_alias="LastRunTime")
    max_parallel_steps: int | None = None
    definition: str | None = Field(None, validation_alias="PipelineDefinition")

    @model_validator(mode="before")
    @classmethod
    def _flatten_parallelism(cls, data: dict[str, Any]) -> dict[str, Any]:
        parallelism = data.get("ParallelismConfiguration") or {}
        return {"max_parallel_steps": parallelism.get("MaxParallelExecutionSteps"), **data}


class DeclaredParameter(_Frozen):
    """
    A parameter that a pipeline's definition declares.

    https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-parameters.html
    """

    name: str = Field(validation_alias="Name")
    type: Literal["String", "Integer", "Float", "Boolean"] = Field(validation_alias="Type")
    default: str | int | float | bool | None = Field(None, validation_alias="DefaultValue")
    enum_values: list[str] | None = Field(None, validation_alias="EnumValues")


class Job(_Frozen):
    """An imported pipeline, as ListImport returns it: times in ISO 8601 UTC once dumped to JSON."""

    name: str
    arn: str
    role_arn: str | None
    display_name: str | None
    description: str | None
    created_at: UtcTime | None
    modified_at: UtcTime | None
    last_run_at: UtcTime | None
    max_parallel_steps: int | None
    parameters: list[DeclaredParameter]
    parameters_error: str | None


class ExecutionEvent(BaseModel):
    """
    How a wait ended: the one shape in which both modes hand it to ``execute_complete``.

    :param outcome: ``ended`` (AWS says so), ``timed_out`` (our deadline), ``refused`` (AWS will not tell).
    :param message: AWS's FailureReason, or why we could not look.
    :param started_at: AWS's creation time.
    :param ended_at: AWS's last change, once ended.
    :param attempt: which attempt of the execution was awaited: 0 for its start, n for its n-th resume.
    """

    model_config = _STRICT

    outcome: Literal["ended", "timed_out", "refused"]
    execution_arn: ExecutionArn
    pipeline_name: str | None
    status: str | None
    message: str | None
    error_code: str | None = None
    operation: str | None = None
    started_at: UtcTime | None
    ended_at: UtcTime | None
    attempt: int = 0

    @model_validator(mode="after")
    def _ended_has_a_status(self) -> ExecutionEvent:
        if self.outcome == "ended" and not self.status:
            raise ValueError("an execution that has ended has a status")
        return self


class FailedStep(_Frozen):
    """A step that failed, as the ``run`` record lists it."""

    name: str
    reason: str | None


class ExecutionRecord(_Frozen):
    """The XCom ``run``: what happened, JSON-able, times in ISO 8601 UTC."""

    execution_arn: str
    pipeline_name: str
    state: str
    status: str | None = None
    message: str | None = None
    started_at: UtcTime | None = None
    ended_at: UtcTime | None = None
    seconds: float | None = None
    parameters: Mapping[str, str]
    resumes: int = 0
    failed_steps: list[FailedStep] = []
