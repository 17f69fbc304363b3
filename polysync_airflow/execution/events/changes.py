"""
The events of SageMaker, validated and cleaned: changes of executions, steps and model packages.

https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html

They come in messages of a queue. Whoever may send to the queue wrote them, so nothing in them is believed.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    AliasPath,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from polysync_airflow.execution import models
from polysync_airflow.execution.console import execution_url
from polysync_airflow.execution.texts import NameText, ReasonText, clean_line, describe_validation_error
from polysync_airflow.states import has_ended, state_of, state_of_step

SOURCE: Final = "aws.sagemaker"
EXECUTION_CHANGE: Final = "SageMaker Model Building Pipeline Execution Status Change"
STEP_CHANGE: Final = "SageMaker Model Building Pipeline Execution Step Status Change"
MODEL_PACKAGE_CHANGE: Final = "SageMaker Model Package State Change"
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html
PENDING_APPROVAL: Final = "PendingManualApproval"
APPROVAL_STATUSES: Final = ("Approved", "Rejected", PENDING_APPROVAL)
GROUP_PATTERN: Final = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
_PACKAGE_ARN: Final = (
    r"^arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]+:[0-9]{12}:model-package/[a-zA-Z0-9\-]+(/[0-9]{1,10})?$"
)

# What makes two events the same change: what, its step, its status, and when.
Key = tuple[str, str, str, str]


class Kind(StrEnum):
    """What has changed."""

    EXECUTION = "execution"
    STEP = "step"
    MODEL_PACKAGE = "model_package"


def _time_or_none(value: Any, handler: ValidatorFunctionWrapHandler) -> datetime | None:
    # One damaged time must not make the change unreadable.
    try:
        time = handler(value)
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        return (
            time.astimezone(UTC) if models.MIN_TIMESTAMP <= time.timestamp() <= models.MAX_TIMESTAMP else None
        )
    except (AttributeError, OverflowError, ValueError):
        return None


def _arn_or_none(value: Any) -> Any:
    return value if models.is_execution_arn(value) else None


EventTime = Annotated[datetime | None, WrapValidator(_time_or_none)]
Status = Annotated[str, StringConstraints(pattern=models.STATUS_PATTERN)]


class Change(models.FrozenModel, ABC):
    """
    A change that an event reports.

    :param event_time: when AWS has sent the event.
    """

    kind: ClassVar[Kind]
    event_time: datetime

    @property
    @abstractmethod
    def key(self) -> Key:
        """
        What makes this change the same as that of another event.

        An execution that is resumed keeps its ARN, so the ARN alone is not enough: the time counts, too. A
        change that is an end has the time of the end, which is the same in all its events. Others have no
        time of their own, only that of the event.
        """

    @property
    @abstractmethod
    def payload(self) -> dict[str, Any]:
        """What the asset event says of the change, as JSON."""


class _ChangeInExecution(Change):
    """A change of an execution, or of one of its steps."""

    execution_arn: models.ExecutionArn = Field(validation_alias="pipelineExecutionArn")

    @property
    def pipeline_name(self) -> str:
        """The name of the pipeline; in lower case for older pipelines, whose ARNs have it so."""
        return models.pipeline_name_from_arn(self.execution_arn)


class ExecutionChange(_ChangeInExecution):
    """A change of the status of an execution."""

    kind: ClassVar[Kind] = Kind.EXECUTION
    status: Status = Field(validation_alias="currentPipelineExecutionStatus")
    previous_status: Status | None = Field(None, validation_alias="previousPipelineExecutionStatus")
    display_name: NameText | None = Field(None, validation_alias="pipelineExecutionDisplayName")
    started_at: EventTime = Field(None, validation_alias="executionStartTime")
    ended_at: EventTime = Field(None, validation_alias="executionEndTime")

    @property
    def state(self) -> str:
        """The state: ``Success``, ``Failed``, ``Cancelled``, ``Running`` or ``Unknown``."""
        return state_of(self.status)

    @property
    def key(self) -> Key:
        """What makes this change the same as that of another event."""
        return (
            self.execution_arn,
            "",
            self.status,
            _time_of_change(self.status, self.ended_at, self.event_time),
        )

    @property
    def payload(self) -> dict[str, Any]:
        """What the asset event says of the change, as JSON."""
        return {
            "kind": self.kind.value,
            "execution_arn": self.execution_arn,
            "pipeline_name": self.pipeline_name,
            "state": str(self.state),
            "status": self.status,
            "previous_status": self.previous_status,
            "display_name": self.display_name,
            "started_at": _text(self.started_at),
            "ended_at": _text(self.ended_at),
            "changed_at": _text(self.event_time),
            "console_url": execution_url(self.execution_arn, self.pipeline_name),
        }


class StepChange(_ChangeInExecution):
    """A change of the status of a step."""

    kind: ClassVar[Kind] = Kind.STEP
    step_name: Annotated[NameText, Field(min_length=1)] = Field(validation_alias="stepName")
    step_type: NameText | None = Field(None, validation_alias="stepType")
    status: Status = Field(validation_alias="currentStepStatus")
    previous_status: Status | None = Field(None, validation_alias="previousStepStatus")
    reason: ReasonText | None = Field(None, validation_alias="failureReason")
    started_at: EventTime = Field(None, validation_alias="stepStartTime")
    ended_at: EventTime = Field(None, validation_alias="stepEndTime")

    @property
    def state(self) -> str:
        """The state: ``Success``, ``Failed``, ``Cancelled``, ``Running`` or ``Unknown``."""
        return state_of_step(self.status)

    @property
    def key(self) -> Key:
        """What makes this change the same as that of another event."""
        time = _time_of_change(self.status, self.ended_at, self.event_time)
        return self.execution_arn, self.step_name, self.status, time

    @property
    def payload(self) -> dict[str, Any]:
        """What the asset event says of the change, as JSON."""
        return {
            "kind": self.kind.value,
            "execution_arn": self.execution_arn,
            "pipeline_name": self.pipeline_name,
            "step_name": self.step_name,
            "step_type": self.step_type,
            "state": str(self.state),
            "status": self.status,
            "previous_status": self.previous_status,
            "reason": self.reason,
            "started_at": _text(self.started_at),
            "ended_at": _text(self.ended_at),
            "changed_at": _text(self.event_time),
            "console_url": execution_url(self.execution_arn, self.pipeline_name),
        }


class ModelPackageChange(Change):
    """The registration of a model package, or a change of its approval."""

    kind: ClassVar[Kind] = Kind.MODEL_PACKAGE
    model_package_arn: Annotated[str, StringConstraints(max_length=2048, pattern=_PACKAGE_ARN)] = Field(
        validation_alias="ModelPackageArn"
    )
    group: Annotated[str, StringConstraints(pattern=f"^{GROUP_PATTERN}$")] | None = Field(
        None, validation_alias="ModelPackageGroupName"
    )
    version: Annotated[int, Field(ge=1, le=models.MAX_INTEGER)] | None = Field(
        None, validation_alias="ModelPackageVersion"
    )
    status: Status | None = Field(None, validation_alias="ModelPackageStatus")
    approval_status: Status = Field(PENDING_APPROVAL, validation_alias="ModelApprovalStatus")
    # AWS's event in full stays valid without it.
    execution_arn: Annotated[str | None, BeforeValidator(_arn_or_none)] = Field(
        None, validation_alias=AliasPath("MetadataProperties", "GeneratedBy")
    )
    created_at: EventTime = Field(None, validation_alias="CreationTime")
    modified_at: EventTime = Field(None, validation_alias="LastModifiedTime")

    @property
    def key(self) -> Key:
        """What makes this change the same as that of another event."""
        time = self.modified_at or self.event_time
        return self.model_package_arn, self.status or "", self.approval_status, time.isoformat()

    @property
    def payload(self) -> dict[str, Any]:
        """What the asset event says of the change, as JSON."""
        arn = self.execution_arn
        return {
            "kind": self.kind.value,
            "model_package_arn": self.model_package_arn,
            "model_package_group": self.group,
            "model_package_version": self.version,
            "approval_status": self.approval_status,
            "status": self.status,
            "execution_arn": arn,
            "pipeline_name": models.pipeline_name_from_arn(arn) if arn else None,
            "created_at": _text(self.created_at),
            "changed_at": _text(self.modified_at or self.event_time),
            "console_url": execution_url(arn, models.pipeline_name_from_arn(arn)) if arn else None,
        }


AnyChange = ExecutionChange | StepChange | ModelPackageChange
CHANGES: Final[dict[str, type[ExecutionChange] | type[StepChange] | type[ModelPackageChange]]] = {
    EXECUTION_CHANGE: ExecutionChange,
    STEP_CHANGE: StepChange,
    MODEL_PACKAGE_CHANGE: ModelPackageChange,
}


def _time_of_change(status: str, ended_at: datetime | None, event_time: datetime) -> str:
    return (ended_at if ended_at and has_ended(status) else event_time).isoformat()


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


# The size of an event: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html. A message of a
# queue can have a MiB, and JSON of that size takes the event loop 0.1 s.
MAX_MESSAGE_BYTES: Final = 256 * 1024
_MAX_QUOTED: Final = 80


class UnreadableMessageError(ValueError):
    """Raised for a message that is no event for watchers. The text does not quote what may be secret."""


def _first_of_one(value: Any) -> Any:
    # An example of AWS has a list.
    return value[0] if isinstance(value, list) and len(value) == 1 else value


class _Envelope(models.FrozenModel):
    """https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html"""

    detail_type: str = Field(validation_alias="detail-type")
    source: Annotated[str, BeforeValidator(_first_of_one)]
    time: EventTime
    detail: dict[str, Any]


def read_message(body: object) -> AnyChange:
    """
    Return the change that a message reports.

    :param body: the body of the message.
    :raises UnreadableMessageError: it is too large, no JSON, or no event that a watcher can use.
    """
    envelope = _envelope(body)
    if envelope.source != SOURCE or envelope.detail_type not in CHANGES:
        source, kind = clean_line(envelope.source, _MAX_QUOTED), clean_line(envelope.detail_type, _MAX_QUOTED)
        raise UnreadableMessageError(
            f"it is an event {kind!r} of {source!r}, for which there are no watchers"
        )
    if envelope.time is None:
        raise UnreadableMessageError("it has no time")
    try:
        return CHANGES[envelope.detail_type].model_validate({**envelope.detail, "event_time": envelope.time})
    except ValidationError as error:
        raise UnreadableMessageError(
            f"it is not as AWS sends it: {describe_validation_error(error)}"
        ) from None


def _envelope(body: object) -> _Envelope:
    if not isinstance(body, str):
        raise UnreadableMessageError("it has no text")
    if len(body) > MAX_MESSAGE_BYTES or len(body.encode("utf-8", "replace")) > MAX_MESSAGE_BYTES:
        raise UnreadableMessageError(f"it has more than {MAX_MESSAGE_BYTES:,} bytes")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableMessageError("it is not JSON") from None
    try:
        return _Envelope.model_validate(content)
    except ValidationError as error:
        problems = describe_validation_error(error)
        raise UnreadableMessageError(f"it is no event of EventBridge: {problems}") from None
