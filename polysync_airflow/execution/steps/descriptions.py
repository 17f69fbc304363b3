"""
AWS's description of a step: what ListPipelineExecutionSteps returns, validated and bounded.

Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from math import isfinite
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator

from polysync_airflow.execution.models import (
    STATUS_PATTERN,
    ExecutionArn,
    FrozenModel,
    ResponseTime,
    is_execution_arn,
)
from polysync_airflow.execution.steps.kinds import STEP_KINDS
from polysync_airflow.execution.storable import Count
from polysync_airflow.execution.texts import MAX_VALUE_LENGTH, NameText, ReasonText, clean_value

# Of the metadata of a step: AWS allows 50 output parameters, and the other kinds have fewer members.
_MAX_ENTRIES: Final = 100
_MAX_VALUES: Final = 250
_MAX_DEPTH: Final = 6


def _bounded(value: Any, depth: int = 0, left: Iterator[int] | None = None) -> Any:
    """Return a part of AWS's metadata as JSON of limited size, with clean texts."""
    left = left or iter(range(_MAX_VALUES))
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        entries = list(islice(value.items(), _MAX_ENTRIES))
        return {
            clean_value(str(name), 256): _bounded(each, depth + 1, left)
            for (name, each), _ in zip(entries, left, strict=False)
        }
    if isinstance(value, (list, tuple)) and depth < _MAX_DEPTH:
        pairs = zip(value[:_MAX_ENTRIES], left, strict=False)
        return [_bounded(each, depth + 1, left) for each, _ in pairs]
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and isfinite(value)):
        return value
    return clean_value(value.isoformat() if isinstance(value, datetime) else str(value), MAX_VALUE_LENGTH)


class StepDescription(FrozenModel):
    """
    One step of an execution.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStep.html
    """

    name: NameText = Field(validation_alias="StepName")
    status: str | None = Field(None, validation_alias="StepStatus", pattern=STATUS_PATTERN)
    failure_reason: ReasonText | None = Field(None, validation_alias="FailureReason")
    attempt_count: Count = Field(None, validation_alias="AttemptCount")
    started_at: ResponseTime = Field(None, validation_alias="StartTime")
    ended_at: ResponseTime = Field(None, validation_alias="EndTime")
    cache_hit: bool = False
    is_reused: bool = False
    reused_from: ExecutionArn | None = None
    metadata: Annotated[dict[str, Any] | None, BeforeValidator(_bounded)] = Field(
        None, validation_alias="Metadata"
    )

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        cache_hit = data.get("CacheHitResult")
        # A selective execution takes the steps that are not selected from another execution.
        reused = cache_hit or data.get("SelectiveExecutionResult")
        source = reused.get("SourcePipelineExecutionArn") if isinstance(reused, Mapping) else None
        flat: dict[str, Any] = {
            **data,
            "cache_hit": bool(cache_hit),
            "is_reused": bool(reused),
            # A damaged ARN must not hide the step.
            "reused_from": source if is_execution_arn(source) else None,
        }
        iteration = data.get("IterationContext")
        if isinstance(iteration, Mapping) and isinstance(iteration.get("Index"), int):
            # The iterations of a ForEach step repeat the names of its steps.
            flat["StepName"] = f"{data.get('StepName')}[{iteration['Index']}]"
        return flat

    @property
    def kind(self) -> str | None:
        """The member of the metadata that is set, which tells the kind of the step."""
        return next((kind for kind, value in (self.metadata or {}).items() if isinstance(value, dict)), None)

    @property
    def outcome(self) -> str | None:
        """The outcome of a condition: ``True`` or ``False``; None if there is none yet."""
        condition = (self.metadata or {}).get("Condition")
        outcome = condition.get("Outcome") if isinstance(condition, dict) else None
        return outcome if isinstance(outcome, str) else None

    @property
    def job_arn(self) -> str | None:
        """The ARN of what the step runs or makes; None if it has none."""
        kind = self.kind
        if kind is None or self.metadata is None:
            return None
        arn = self.metadata[kind].get(STEP_KINDS[kind].job_member if kind in STEP_KINDS else "Arn")
        return arn if isinstance(arn, str) else None

    @property
    def seconds(self) -> float | None:
        """How long the step took; None if it has not ended."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


def log_source(step: StepDescription) -> tuple[str, str] | None:
    """
    Return the CloudWatch log group of a step's job, and the beginning of the names of its log streams.

    :return: None if the kind of the step writes no log, or if it has no job yet.
    """
    kind, name = STEP_KINDS.get(step.kind or ""), job_name_of(step)
    if kind is None or name is None or kind.log_group is None:
        return None
    return kind.log_group.format(name=name), kind.stream_prefix.format(name=name)


def job_name_of(step: StepDescription) -> str | None:
    """Return the name of a step's job, which is the end of its ARN; None if it has no job yet."""
    arn = step.job_arn
    if arn is None or not arn.startswith("arn:"):
        return None
    name = arn.split(":", 5)[-1]
    # arn:aws:sagemaker:<region>:<account>:training-job/<name>
    # arn:aws:lambda:<region>:<account>:function:<name>
    return name.partition(":")[2] if name.startswith("function:") else name.partition("/")[2] or None
