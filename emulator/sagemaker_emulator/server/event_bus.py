"""
Sends the events of SageMaker to the rules in moto, and notices changes of model
packages in moto's registry.

It looks for the changes in the registry, because both steps and clients of moto
register and approve model packages.

Reference:
https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
and
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from moto.backends import get_backend
from moto.core.exceptions import ServiceException

from sagemaker_emulator.sagemaker.calls import ServiceEvent
from sagemaker_emulator.sagemaker.status_events import time_text
from sagemaker_emulator.sagemaker.store import ACCOUNT

MODEL_PACKAGE_CHANGE = "SageMaker Model Package State Change"
_SOURCE = "aws.sagemaker"
_PENDING = "PendingManualApproval"
# The members of a description that are not in an event.
_NOT_IN_EVENTS = ("CreatedBy", "LastModifiedBy")
_UPDATED = {
    "approval": "ModelApprovalStatus",
    "description": "ApprovalDescription",
    "properties": "CustomerMetadataProperties",
}


class _PackageState(NamedTuple):
    """The members of a model package whose changes are events."""

    approval: str
    description: str | None
    properties: str


class ModelPackageEvents:
    """The changes of the model packages of all regions since the last look at them."""

    def __init__(self) -> None:
        # By region and ARN: the state that the last event was about.
        self._states: dict[tuple[str, str], _PackageState] = {}

    def reset(self) -> None:
        """Forget all model packages."""
        self._states.clear()

    def unsent(self, region: str, now: float) -> list[ServiceEvent]:
        """
        Return the events of the model packages that are new or changed.

        :param region: the AWS region.
        :param now: the time of changes, as Unix time. The event of a new
            model package has its creation time.
        """
        packages = get_backend("sagemaker")[ACCOUNT][region].model_packages.values()
        events = [self._event(region, package, now) for package in list(packages)]
        return [event for event in events if event is not None]

    def _event(self, region: str, package: Any, now: float) -> ServiceEvent | None:
        """Return the event of a model package; None if it has not changed."""
        state = _PackageState(
            package.model_approval_status or _PENDING,
            package.approval_description,
            repr(package.customer_metadata_properties),
        )
        before = self._states.get((region, package.arn))
        if state == before:
            return None
        self._states[region, package.arn] = state

        if before is None:
            time = timestamp_of(package.creation_time)
        else:
            time = now
        detail = {
            name: _as_json(value)
            for name, value in package.gen_response_object().items()
            if name not in _NOT_IN_EVENTS
        }
        detail["ModelApprovalStatus"] = state.approval
        detail["LastModifiedTime"] = time_text(time)
        if before is not None:
            detail["UpdatedModelPackageFields"] = [
                _UPDATED[name]
                for name in _PackageState._fields
                if getattr(state, name) != getattr(before, name)
            ]
        return ServiceEvent(MODEL_PACKAGE_CHANGE, [package.arn], detail, time)


def deliver(region: str, event: ServiceEvent) -> None:
    """
    Send an event of SageMaker to the targets of all rules of the default bus that match
    it.

    Like AWS, it drops an event for a queue that does not exist or does not accept it.
    """
    backend = get_backend("events")[ACCOUNT][region]
    for rule in list(backend.event_buses["default"].rules.values()):
        if rule.state != "ENABLED" or not rule.event_pattern.get_pattern():
            continue
        message: Any = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": event.detail_type,
            "source": _SOURCE,
            "account": ACCOUNT,
            "time": event.time,
            "region": region,
            "resources": event.resources,
            "detail": event.detail,
        }
        # moto's own template leaves the account out.
        transformed = any("InputTransformer" in target for target in rule.targets)
        if transformed:
            message["ingestion-time"] = event.time
        try:
            rule.send_to_targets(message, transform_input=transformed)
        except (NotImplementedError, ServiceException):
            # A target that moto lacks, or that is gone. AWS sends to the other rules
            # all the same.
            continue


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return time_text(timestamp_of(value))
    return value


def timestamp_of(time: datetime) -> float:
    """
    Return a time of moto's as Unix time. A time without zone is in UTC.
    """
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return time.timestamp()
