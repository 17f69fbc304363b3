"""
The approval of model packages: what AWS says of one, what each status means, and how a
wait for the approval ends.

The first rule that applies counts:

1. A package whose *status* is Failed or Deleting will not be approved: the wait ends.
2. Rejected ends the wait.
3. Approved ends it once the package's status is Completed: AWS may still validate an
   approved package.
4. In every other case, and with every status that this version does not know, the wait
   goes on.

``waiter.py`` has the rules of all waits. Only versions of a model package group have an
approval status, so only their ARNs are accepted:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html
and
https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-approve.html

Everything here is pure.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, Field, StringConstraints, TypeAdapter

from polysync_airflow.exceptions import ParametersError, PolysyncError
from polysync_airflow.execution import models, texts, trigger_arguments, waiter
from polysync_airflow.execution.models import AwsModel, ResponseTime, Status, User
from polysync_airflow.execution.parameters import DEFER_BUILD, is_valid

ApprovalOutcome = Literal["approved", "rejected", "failed", "timed_out", "refused"]

COMPLETED: Final = "Completed"
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ModelPackageSummary.html
_WILL_NOT_COMPLETE: Final = ("Failed", "Deleting")
_STATUSES: Final = ("Pending", "InProgress", COMPLETED, *_WILL_NOT_COMPLETE)
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateModelPackage.html
MAX_DESCRIPTION_LENGTH: Final = 1024
_APPROVAL_STATUSES: Final = get_args(models.ApprovalStatus)
VersionArn = Annotated[
    str,
    StringConstraints(max_length=2048, pattern=f"^{models.MODEL_VERSION_ARN_PATTERN}$"),
]
GroupNameOrArn = Annotated[
    str, StringConstraints(max_length=2048, pattern=models.MODEL_GROUP_PATTERN)
]
Description = Annotated[
    str,
    StringConstraints(
        max_length=MAX_DESCRIPTION_LENGTH,
        pattern=r"^[^\x00-\x1f\x7f\u0085\u2028\u2029]*$",
    ),
]
VERSION_ARN: TypeAdapter[str] = TypeAdapter(VersionArn, config=DEFER_BUILD)
_GROUP_NAME: TypeAdapter[str] = TypeAdapter(GroupNameOrArn, config=DEFER_BUILD)
_DESCRIPTION: TypeAdapter[str | None] = TypeAdapter(
    Description | None, config=DEFER_BUILD
)


def group_of(arn_or_name: str) -> str:
    """
    Return the name of a model package group in lower case, as ARNs of versions may have
    it.

    :param arn_or_name: the ARN of a version, or the name or ARN of a group.
    """
    if "/" not in arn_or_name:
        return arn_or_name.lower()
    return arn_or_name.split("/")[1].lower()


def check_model_package_arn(arn: object) -> str:
    """
    Validate the ARN of a version of a model package group before AWS is called.

    :raises ParametersError: the value is not such an ARN.
    """
    if not is_valid(VERSION_ARN, arn):
        raise ParametersError(
            f"model_package_arn = {texts.shorten(arn)} is not the ARN of a version of a"
            " model package group, and nothing else has an approval status: give"
            " arn:aws:sagemaker:<region>:<account>:model-package/<group>/<version>,"
            " such as model_package_arn in the XCom 'outputs' of the task that"
            " trained it."
        )
    return str(arn)


def check_model_package_group(group: object) -> str:
    """
    Validate the name or ARN of a model package group before AWS is called.

    :raises ParametersError: the value is neither.
    """
    if not is_valid(_GROUP_NAME, group):
        raise ParametersError(
            f"model_package_group = {texts.shorten(group)} is not a model package"
            " group: give its name (1 to 63 letters, digits and hyphens, beginning and"
            " ending with a letter or digit) or its ARN,"
            " arn:aws:sagemaker:<region>:<account>:model-package-group/<name>."
        )
    return str(group)


def check_approval(status: object, description: object) -> None:
    """
    Validate an approval status and its description before AWS is called.

    :raises ParametersError: one of them is not valid.
    """
    if status not in _APPROVAL_STATUSES:
        raise texts.invalid_argument(
            "status", status, f"give one of {', '.join(_APPROVAL_STATUSES)}"
        )
    if not is_valid(_DESCRIPTION, description):
        raise ParametersError(
            f"description = {texts.shorten(description)} is not valid: use at most"
            f" {MAX_DESCRIPTION_LENGTH:,} characters without line breaks and control"
            " characters, or leave it out."
        )


def _first_reason(value: Any) -> Any:
    """Return the first reason of a failure in ModelPackageStatusDetails."""
    if not isinstance(value, Mapping):
        return None
    for member in ("ValidationStatuses", "ImageScanStatuses"):
        entries = value.get(member)
        if not isinstance(entries, list):
            continue
        for entry in entries:
            reason = entry.get("FailureReason") if isinstance(entry, Mapping) else None
            if isinstance(reason, str) and reason:
                return reason
    return None


class ModelPackageSummary(AwsModel):
    """
    An entry of ListModelPackages.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ModelPackageSummary.html
    """

    arn: VersionArn = Field(validation_alias="ModelPackageArn")
    status: Status = Field(validation_alias="ModelPackageStatus")
    approval_status: Status | None = Field(None, validation_alias="ModelApprovalStatus")
    created_at: ResponseTime = Field(None, validation_alias="CreationTime")


class ModelPackageDescription(ModelPackageSummary):
    """
    What DescribeModelPackage says of the approval.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html

    :param modified_by: who changed the model package last: a user profile of Studio, or
        an IAM identity.
    :param failure_reason: why AWS could not create the model package.
    """

    approval_description: texts.ValueText | None = Field(
        None, validation_alias="ApprovalDescription"
    )
    modified_by: User = Field(None, validation_alias="LastModifiedBy")
    modified_at: ResponseTime = Field(None, validation_alias="LastModifiedTime")
    failure_reason: Annotated[
        texts.ReasonText | None, BeforeValidator(_first_reason)
    ] = Field(None, validation_alias="ModelPackageStatusDetails")


class ApprovalEvent(waiter.EndOfWait):
    """
    How a wait for an approval ended.

    :param outcome: ``approved``; ``rejected``; ``failed`` (AWS could not create the
        package, or it is being deleted); ``timed_out``; ``refused`` (the polls fail
        with a permanent error).
    :param status: AWS's last known status of the package; None if no poll has
        succeeded.
    :param message: AWS's reason, or why the wait ended without one.
    :param approval_status: AWS's last known approval status; None if no poll has
        succeeded.
    """

    outcome: ApprovalOutcome
    model_package_arn: VersionArn
    status: texts.NameText | None = None
    message: str | None = None
    approval_status: texts.NameText | None = None
    approval_description: texts.ValueText | None = None
    modified_by: texts.ArnText | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalWaiter(waiter.Waiter[ModelPackageDescription, ApprovalEvent]):
    """
    The state of a wait for the approval of a model package.

    :param last: what AWS said last; None if no poll has succeeded.
    """

    model_package_arn: str
    last: ModelPackageDescription | None = None

    @property
    def name(self) -> str:
        """The ARN of the model package."""
        return self.model_package_arn

    @property
    def label(self) -> str:
        """Its kind, and its ARN."""
        return f"model package {self.model_package_arn}"

    def updated(self, response: ModelPackageDescription) -> ApprovalWaiter:
        """Return the state after a description."""
        return replace(self, last=response)

    def lines_about(
        self, response: ModelPackageDescription, now: float
    ) -> tuple[waiter.LogLine, ...]:
        """Return a line if one of the statuses has changed."""
        state = _state_of(response)
        change = state
        if self.last:
            state_before = _state_of(self.last)
            if state == state_before:
                return ()
            change = f"{state_before} -> {state}"
        if (
            response.status in _STATUSES
            and response.approval_status in _APPROVAL_STATUSES
        ):
            return (waiter.LogLine(logging.INFO, f"{change}: {self.label}"),)
        note = "unknown to this version; the wait goes on, until its timeout"
        return (waiter.LogLine(logging.WARNING, f"{change} ({note}): {self.label}"),)

    def end_of(
        self, response: ModelPackageDescription, now: float
    ) -> ApprovalEvent | None:
        """Return the event if a description ends the wait."""
        if response.status in _WILL_NOT_COMPLETE:
            return self.event("failed", response.failure_reason)
        if response.approval_status == "Rejected":
            return self.event("rejected", response.failure_reason)
        if response.status == COMPLETED and response.approval_status == "Approved":
            return self.event("approved", response.failure_reason)
        return None

    def event(
        self, outcome: Any, message: str | None, error: PolysyncError | None = None
    ) -> ApprovalEvent:
        """Return the event, with what AWS said last."""
        described: dict[str, Any] = {}
        if self.last:
            names = {"status", "approval_status", "approval_description", "modified_by"}
            described = self.last.model_dump(include=names)
        return ApprovalEvent(
            outcome=outcome,
            model_package_arn=self.model_package_arn,
            message=message,
            **described,
            **waiter.error_fields(error),
        )


def _state_of(response: ModelPackageDescription) -> str:
    """Return what the log of the task says of both statuses."""
    text = response.approval_status or "no approval status"
    if response.status != COMPLETED:
        text += f", package {response.status}"
    return text


@dataclass(kw_only=True, eq=False, repr=False)
class ApprovalTriggerArguments(trigger_arguments.WaitArguments):
    """
    The arguments of a trigger that waits for an approval.

    :param model_package_arn: the version of a model package group.
    :param since: when the wait began, as Unix time.
    """

    model_package_arn: VersionArn
    since: models.Timestamp


def approval_message(event: ApprovalEvent) -> str:
    """Return one line about how a wait has ended, for the log or an error."""
    package = f"Model package {event.model_package_arn}"
    message = texts.clean_text(event.message or "", 2048)
    if event.outcome in ("approved", "rejected"):
        line = f"{package} is {event.outcome}"
        if event.modified_by:
            line += f" (last changed by {texts.clean_line(event.modified_by)})"
        if event.approval_description:
            description = texts.clean_line(
                event.approval_description, MAX_DESCRIPTION_LENGTH
            )
            line += f": {description}"
        return line
    if event.outcome == "failed":
        reason = f": {message}" if message else ""
        return (
            f"{package} cannot be used: its status is {event.status}{reason}. -- What"
            " to do: register a new version of the model."
        )
    if event.outcome == "timed_out":
        status = event.approval_status or "unknown"
        return (
            f"{package} was not approved in time: {message}. Its last known approval"
            f" status is {status}."
        )
    return (
        f"The wait for the approval of {event.model_package_arn} has ended: {message}"
    )
