"""
Sends the events of SageMaker to the rules in moto, and notices changes of model
packages in moto's registry.

Whoever registers or approves a model package, a step or a client, moto's registry has
it afterwards.

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


class _Seen(NamedTuple):
    approval: str
    description: str | None
    properties: str


class ModelPackageEvents:
    """
    The changes of the model packages of all regions since they were asked for last.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], _Seen] = {}

    def reset(self) -> None:
        """Forget all model packages."""
        self._seen.clear()

    def unsent(self, region: str, now: float) -> list[ServiceEvent]:
        """
        Return the events of the model packages that are new or changed.

        :param region: the AWS region.
        :param now: the time of changes, in seconds since the epoch. A new one has a
            creation time of its own.
        """
        packages = get_backend("sagemaker")[ACCOUNT][region].model_packages.values()
        found = (self._event(region, package, now) for package in list(packages))
        return [event for event in found if event is not None]

    def _event(self, region: str, package: Any, now: float) -> ServiceEvent | None:
        approval = package.model_approval_status or _PENDING
        seen = _Seen(
            approval,
            package.approval_description,
            repr(package.customer_metadata_properties),
        )
        before = self._seen.get((region, package.arn))
        if seen == before:
            return None
        self._seen[region, package.arn] = seen
        time = timestamp_of(package.creation_time) if before is None else now
        detail = {
            name: _as_json(value)
            for name, value in package.gen_response_object().items()
        }
        detail = {
            name: value for name, value in detail.items() if name not in _NOT_IN_EVENTS
        }
        detail |= {"ModelApprovalStatus": approval, "LastModifiedTime": time_text(time)}
        if before is not None:
            changed = [
                _UPDATED[name]
                for name in _Seen._fields
                if getattr(seen, name) != getattr(before, name)
            ]
            detail["UpdatedModelPackageFields"] = changed
        return ServiceEvent(MODEL_PACKAGE_CHANGE, [package.arn], detail, time)


def deliver(region: str, event: ServiceEvent) -> None:
    """
    Send an event of SageMaker to the targets of all rules of the default bus that match
    it.

    AWS drops an event for a queue that does not exist, and for one that does not accept
    it. So does this.
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
    return time_text(timestamp_of(value)) if isinstance(value, datetime) else value


def timestamp_of(time: datetime) -> float:
    """
    Return a time of moto's, which may have no zone and is then in UTC, in seconds since
    the epoch.
    """
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
