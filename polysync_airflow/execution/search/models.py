"""The data models of a search: what AWS lists, what is looked for, and the trigger's event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from polysync_airflow.execution.models import (
    MAX_PARAMETERS,
    MIN_TIMESTAMP,
    PIPELINE_PATTERN,
    STRICT,
    ConnectionId,
    ExecutionArn,
    ExecutionDescription,
    FrozenModel,
    ParameterName,
    ParameterValue,
    RegionName,
    Timestamp,
    UtcTime,
    pipeline_name_from_arn,
)
from polysync_airflow.execution.texts import NameText, ReasonText, ValueText

Which = Literal["first", "latest"]
MAX_PATTERN_LENGTH = 256


def _as_time(value: Any) -> Any:
    """Return a text as a datetime. A time without an offset is UTC, as in Airflow."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        raise ValueError("is not a time")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


Time = Annotated[UtcTime, BeforeValidator(_as_time)]
_TIME_CURE = (
    'Give a datetime, or a text such as "2026-01-31T06:00:00+00:00" (without an offset: UTC), or leave it '
    "out."
)


class ListedExecution(ExecutionDescription):
    """
    An entry of ListPipelineExecutions.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionSummary.html
    """

    created_at: UtcTime = Field(validation_alias="StartTime")


class ParameterOfExecution(FrozenModel):
    """
    A parameter of an execution.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html
    """

    name: NameText = Field(validation_alias="Name")
    value: ValueText = Field(validation_alias="Value")


class Search(BaseModel):
    """
    What a search looks for. Its fields have the names of the sensor's arguments.

    :param began_at: when the search began: ``latest`` is the latest execution of this moment.
    """

    model_config = STRICT

    pipeline_name: Annotated[
        str,
        StringConstraints(max_length=2048, pattern=PIPELINE_PATTERN),
        Field(description="Give the pipeline's name, or its ARN."),
    ]
    created_after: Annotated[Time, Field(description=_TIME_CURE)]
    created_before: Annotated[Time | None, Field(description=_TIME_CURE)] = None
    which: Which = "first"
    display_name_pattern: Annotated[
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=MAX_PATTERN_LENGTH, pattern=r"^[^\x00-\x1f\x7f]*$"),
        ]
        | None,
        Field(
            description='Give a pattern such as "nightly-*" (*, ?, [seq]), of 1 to '
            f"{MAX_PATTERN_LENGTH} characters, or leave it out."
        ),
    ] = None
    parameters: Annotated[
        Annotated[Mapping[ParameterName, ParameterValue], Field(max_length=MAX_PARAMETERS)] | None,
        Field(
            description=f"Give a mapping of at most {MAX_PARAMETERS} names to strings, numbers or booleans "
            "whose text has 1 to 1,024 characters, or leave it out.",
        ),
    ] = None
    began_at: Time

    @field_validator("created_before")
    @classmethod
    def _check_window(cls, end: datetime | None, info: ValidationInfo) -> datetime | None:
        start = info.data.get("created_after")
        if start and end and end <= start:
            raise ValueError(f"is not later than created_after = {start.isoformat()}")
        return end

    def matches(self, execution: ListedExecution) -> bool:
        """Return whether an execution is looked for, as far as a list says."""
        if pipeline_name_from_arn(execution.execution_arn).lower() != self.name.lower():
            return False
        if execution.created_at < self.created_after:
            return False
        if self.created_before and execution.created_at >= self.created_before:
            return False
        pattern = self.display_name_pattern
        return pattern is None or fnmatchcase(execution.display_name or "", pattern)

    def has_parameters(self, values: Mapping[str, str]) -> bool:
        """Return whether an execution has the parameters that are looked for; others do not count."""
        wanted = self.parameters or {}
        return all(values.get(name) == value for name, value in wanted.items())

    @property
    def name(self) -> str:
        """The name of the pipeline."""
        return self.pipeline_name.rsplit("/", 1)[-1]


class SearchArguments(BaseModel):
    """The arguments of a stored search trigger, which others can edit in Airflow's database."""

    model_config = STRICT

    search: Search
    polysync_conn_id: ConnectionId
    region_name: RegionName | None
    poll_interval: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
    listed_until: Timestamp | None
    deadline: Annotated[float, Field(strict=True, ge=MIN_TIMESTAMP, allow_inf_nan=False)]


class SearchEvent(BaseModel):
    """
    How a search ended.

    :param outcome: ``found``; ``no_match`` (the window has closed without an execution that matches);
        ``timed_out`` (the deadline was reached); ``refused`` (AWS or the connection refuses to list);
        ``too_many`` (more executions match by their names than parameters are compared of).
    :param began_at: when the search began.
    :param execution_arn: the execution that was found.
    :param message: why the search ended without one.
    :param error_code: error code of the last list, if it failed.
    """

    model_config = STRICT

    outcome: Literal["found", "no_match", "timed_out", "refused", "too_many"]
    began_at: UtcTime
    execution_arn: ExecutionArn | None = None
    message: ReasonText | None = None
    error_code: NameText | None = None
    operation: NameText | None = None

    @model_validator(mode="after")
    def _found_has_an_arn(self) -> SearchEvent:
        if (self.outcome == "found") != (self.execution_arn is not None):
            raise ValueError("execution_arn is given if the outcome is 'found', and only then")
        return self
