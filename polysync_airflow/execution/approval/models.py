"""
The data models of a model package's approval: AWS's responses, a stored trigger's arguments, and its event.

Only versions of a model package group have an approval status, so only their ARNs are accepted:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from polysync_airflow.exceptions import ParametersError, TriggerEventError
from polysync_airflow.execution.models import (
    MAX_POLL_INTERVAL,
    MIN_POLL_INTERVAL,
    STATUS_PATTERN,
    STRICT,
    ConnectionId,
    FrozenModel,
    RegionName,
    ResponseTime,
    Timestamp,
)
from polysync_airflow.execution.texts import (
    ArnText,
    NameText,
    ReasonText,
    ValueText,
    clean_line,
    describe_validation_error,
    shorten,
)

ApprovalStatus = Literal["Approved", "Rejected", "PendingManualApproval"]
ApprovalOutcome = Literal["approved", "rejected", "failed", "timed_out", "refused"]

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateModelPackage.html
MAX_DESCRIPTION_LENGTH: Final = 1024
_GROUP: Final = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
_PREFIX: Final = r"arn:aws[a-z\-]{0,20}:sagemaker:[a-z0-9\-]{1,32}:[0-9]{12}:"
VersionArn = Annotated[
    str, StringConstraints(max_length=2048, pattern=rf"^{_PREFIX}model-package/{_GROUP}/[0-9]{{1,9}}$")
]
GroupNameOrArn = Annotated[
    str, StringConstraints(max_length=2048, pattern=rf"^({_PREFIX}model-package-group/)?{_GROUP}$")
]
Description = Annotated[
    str,
    StringConstraints(max_length=MAX_DESCRIPTION_LENGTH, pattern=r"^[^\x00-\x1f\x7f\u0085\u2028\u2029]*$"),
]
Status = Annotated[str, StringConstraints(pattern=STATUS_PATTERN)]
# Pydantic builds the validators on first use: Airflow parses a DAG file every 30 seconds.
_DEFER_BUILD = ConfigDict(defer_build=True)
_VERSION_ARN: TypeAdapter[str] = TypeAdapter(VersionArn, config=_DEFER_BUILD)
_GROUP_NAME: TypeAdapter[str] = TypeAdapter(GroupNameOrArn, config=_DEFER_BUILD)
_DESCRIPTION: TypeAdapter[str] = TypeAdapter(Description, config=_DEFER_BUILD)


def group_of(arn_or_name: str) -> str:
    """
    Return the name of a model package group in lower case, in which ARNs of versions may have it.

    :param arn_or_name: the ARN of a version, or the name or ARN of a group.
    """
    parts = arn_or_name.split("/")
    return parts[1 if len(parts) > 1 else 0].lower()


def check_model_package_arn(arn: object) -> str:
    """
    Validate the ARN of a version of a model package group before AWS is called.

    :raises ParametersError: the value is not such an ARN.
    """
    try:
        return _VERSION_ARN.validate_python(arn)
    except ValidationError:
        raise ParametersError(
            f"model_package_arn = {shorten(arn)} is not the ARN of a version of a model package group, and "
            "nothing else has an approval status: give arn:aws:sagemaker:<region>:<account>:model-package/"
            "<group>/<version>, such as model_package_arn in the XCom 'outputs' of the task that trained it."
        ) from None


def check_model_package_group(group: object) -> str:
    """
    Validate the name or ARN of a model package group before AWS is called.

    :raises ParametersError: the value is neither.
    """
    try:
        return _GROUP_NAME.validate_python(group)
    except ValidationError:
        raise ParametersError(
            f"model_package_group = {shorten(group)} is not a model package group: give its name (1 to 63 "
            "letters, digits and hyphens, beginning and ending with a letter or digit) or its ARN, "
            "arn:aws:sagemaker:<region>:<account>:model-package-group/<name>."
        ) from None


def check_approval(status: object, description: object) -> None:
    """
    Validate an approval status and its description before AWS is called.

    :raises ParametersError: one of them is not valid.
    """
    if status not in get_args(ApprovalStatus):
        raise ParametersError(
            f"status = {shorten(status)} is not valid: give one of {', '.join(get_args(ApprovalStatus))}."
        )
    try:
        if description is not None:
            _DESCRIPTION.validate_python(description)
    except ValidationError:
        raise ParametersError(
            f"description = {shorten(description)} is not valid: use at most {MAX_DESCRIPTION_LENGTH:,} "
            "characters without line breaks and control characters, or leave it out."
        ) from None


def _user_of(value: Any) -> Any:
    """Return who a UserContext names, the clearest name first."""
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UserContext.html
    context = value if isinstance(value, Mapping) else {}
    identity = context.get("IamIdentity")
    identity = identity if isinstance(identity, Mapping) else {}
    names = (context.get("UserProfileName"), identity.get("SourceIdentity"), identity.get("Arn"))
    return next((clean_line(name, 2048) for name in names if isinstance(name, str) and name), None)


def _first_reason(value: Any) -> Any:
    """Return the first reason of a failure in ModelPackageStatusDetails."""
    return next(_reasons(value if isinstance(value, Mapping) else {}), None)


def _reasons(details: Mapping[str, Any]) -> Iterator[str]:
    for member in ("ValidationStatuses", "ImageScanStatuses"):
        items = details.get(member)
        for item in items if isinstance(items, list) else ():
            reason = item.get("FailureReason") if isinstance(item, Mapping) else None
            if isinstance(reason, str) and reason:
                yield reason


class ModelPackageSummary(FrozenModel):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ModelPackageSummary.html"""

    arn: VersionArn = Field(validation_alias="ModelPackageArn")
    status: Status = Field(validation_alias="ModelPackageStatus")
    approval_status: Status | None = Field(None, validation_alias="ModelApprovalStatus")
    created_at: ResponseTime = Field(None, validation_alias="CreationTime")


class ModelPackageDescription(ModelPackageSummary):
    """
    The part of the response of DescribeModelPackage that is about the approval.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html

    :param modified_by: who changed it last: a user profile of Studio, or an IAM identity.
    :param failure_reason: why AWS could not create it.
    """

    approval_description: ValueText | None = Field(None, validation_alias="ApprovalDescription")
    modified_by: Annotated[str | None, BeforeValidator(_user_of)] = Field(
        None, validation_alias="LastModifiedBy"
    )
    modified_at: ResponseTime = Field(None, validation_alias="LastModifiedTime")
    failure_reason: Annotated[ReasonText | None, BeforeValidator(_first_reason)] = Field(
        None, validation_alias="ModelPackageStatusDetails"
    )


class ApprovalTriggerArguments(BaseModel):
    """The arguments of a stored trigger, which others can edit in Airflow's database."""

    model_config = STRICT

    model_package_arn: VersionArn
    polysync_conn_id: ConnectionId
    region_name: RegionName
    poll_interval: Annotated[
        float, Field(strict=True, ge=MIN_POLL_INTERVAL, le=MAX_POLL_INTERVAL, allow_inf_nan=False)
    ]
    since: Timestamp
    deadline: Timestamp


class ApprovalEvent(BaseModel):
    """
    How a wait for an approval ended. All modes of the sensor end with it.

    :param outcome: ``approved``; ``rejected``; ``failed`` (AWS could not create the package, or it is being
        deleted); ``timed_out``; ``refused`` (the polls fail with a permanent error).
    :param approval_status: AWS's last known approval status; None if no poll has succeeded.
    :param status: AWS's last known status of the package.
    :param message: why the wait ended, if not by an approval status.
    :param error_code: error code of the last poll, if it failed.
    """

    model_config = STRICT

    outcome: ApprovalOutcome
    model_package_arn: VersionArn
    approval_status: NameText | None = None
    status: NameText | None = None
    approval_description: ValueText | None = None
    modified_by: ArnText | None = None
    message: str | None = None
    error_code: str | None = None
    operation: str | None = None


def parse_approval_event(event: object) -> ApprovalEvent:
    """
    Validate the event with which Airflow resumes a deferred task.

    :raises TriggerEventError: it is not an event of this provider's trigger.
    """
    try:
        return ApprovalEvent.model_validate(event)
    except ValidationError as error:
        raise TriggerEventError(
            "Airflow resumed the task with an event that is not one of PolysyncModelApprovalTrigger: "
            f"{describe_validation_error(error)}"
        ) from None
