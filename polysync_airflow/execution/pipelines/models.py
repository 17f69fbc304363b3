"""The data models of pipelines: AWS's responses about them, the parameters that they declare, and jobs."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from polysync_airflow.execution.models import FrozenModel, PipelineName, ResponseTime, UtcTime
from polysync_airflow.execution.storable import Count, NotReserved, storable_number
from polysync_airflow.execution.texts import (
    MAX_VALUE_LENGTH,
    ArnText,
    DescriptionText,
    NameText,
    ValueText,
    clean_value,
)


class PipelineSummary(FrozenModel):
    """One entry of ListPipelines."""

    name: PipelineName = Field(validation_alias="PipelineName")


class PipelineDescription(FrozenModel):
    """
    The response of DescribePipeline.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipeline.html
    """

    name: PipelineName = Field(validation_alias="PipelineName")
    arn: ArnText = Field(validation_alias="PipelineArn")
    role_arn: ArnText | None = Field(None, validation_alias="RoleArn")
    display_name: NameText | None = Field(None, validation_alias="PipelineDisplayName")
    description: DescriptionText | None = Field(None, validation_alias="PipelineDescription")
    created_at: ResponseTime = Field(None, validation_alias="CreationTime")
    modified_at: ResponseTime = Field(None, validation_alias="LastModifiedTime")
    last_run_at: ResponseTime = Field(None, validation_alias="LastRunTime")
    max_parallel_steps: Count = None
    definition: str | None = Field(None, validation_alias="PipelineDefinition")

    @model_validator(mode="before")
    @classmethod
    def _flatten_parallelism(cls, data: dict[str, Any]) -> dict[str, Any]:
        parallelism = data.get("ParallelismConfiguration") or {}
        return {"max_parallel_steps": parallelism.get("MaxParallelExecutionSteps"), **data}


def _clean_default(value: Any) -> Any:
    if isinstance(value, str):
        return clean_value(value, MAX_VALUE_LENGTH)
    # JSON in Python can have NaN and Infinity, which no database stores.
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("must be a finite number")
    default = storable_number(value)
    if isinstance(default, str) and len(default) > MAX_VALUE_LENGTH:
        raise ValueError(f"must have at most {MAX_VALUE_LENGTH:,} digits")
    return default


class DeclaredParameter(FrozenModel):
    """
    A parameter that a pipeline's definition declares.

    https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-parameters.html
    """

    name: Annotated[NameText, NotReserved] = Field(validation_alias="Name")
    # AWS's schema of definitions: a parameter without a type is a String.
    type: Literal["String", "Integer", "Float", "Boolean"] = Field("String", validation_alias="Type")
    default: Annotated[str | int | float | bool | None, BeforeValidator(_clean_default)] = Field(
        None, validation_alias="DefaultValue"
    )
    enum_values: list[ValueText] | None = Field(None, validation_alias="EnumValues", max_length=1000)


class Job(FrozenModel):
    """
    An imported pipeline, as PolysyncListImportOperator returns it. In JSON, times are ISO 8601 in UTC.

    :param definition_digest: ``sha256:<hex>`` of the definition; None if it is not JSON.
    """

    name: str
    arn: str
    region: str
    role_arn: str | None
    display_name: str | None
    description: str | None
    created_at: UtcTime | None
    modified_at: UtcTime | None
    last_run_at: UtcTime | None
    max_parallel_steps: Count
    definition_digest: str | None
    parameters: list[DeclaredParameter]
    parameters_error: str | None
