"""
The job of one attempt of a step, with what all its Describe operations have in common.

A job is described from the arguments of its step, which are those of the operation that
creates it. Members that AWS would not accept are left out, and required ones that are
missing have a default, so that each response has the shape of the service model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.model import StructureShape

from sagemaker_emulator.sagemaker.calls import omit_none
from sagemaker_emulator.sagemaker.jobs.names import RESOURCES
from sagemaker_emulator.sagemaker.store import ACCOUNT, Region
from sagemaker_emulator.sagemaker.validation import (
    conforming,
    matching_members,
    service_model,
)

INSTANCE_TYPE = "ml.m5.xlarge"
VOLUME_SIZE = 30


@dataclass(frozen=True)
class Job:
    """
    A job. Times are Unix times.

    :param kind: the type of its step.
    :param arguments: the arguments of the step, evaluated, and not validated.
    :param status: ``InProgress``, ``Stopping``, ``Completed``, ``Failed`` or
        ``Stopped``.
    :param started_at: when its container started; None if it has not.
    :param described_at: the time at which it is described.
    :param metrics: the metrics that the scenario gives it.
    :param role_arn: the role of the pipeline.
    """

    region: Region
    kind: str
    name: str
    arguments: Mapping[str, Any]
    status: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    described_at: float
    failure_reason: str | None
    metrics: Mapping[str, float]
    role_arn: str

    @property
    def arn(self) -> str:
        """The ARN of the job."""
        return self.region.arn(RESOURCES[self.kind], self.name)

    @property
    def succeeded(self) -> bool:
        """Whether the job has succeeded."""
        return self.status == "Completed"

    @property
    def modified_at(self) -> float:
        """The time of the last change."""
        return self.ended_at or self.started_at or self.created_at

    @property
    def seconds(self) -> int | None:
        """The seconds that the container has run; None if it has not started."""
        if self.started_at is None:
            return None
        until = self.described_at
        if self.ended_at is not None:
            until = self.ended_at
        return max(1, round(until - self.started_at))

    @property
    def default_bucket(self) -> str:
        """The bucket that the SageMaker Python SDK uses by default, as an S3 URI."""
        return f"s3://sagemaker-{self.region.name}-{ACCOUNT}"

    def described(
        self, operation: str, defaults: Mapping[str, Any], **members: Any
    ) -> dict[str, Any]:
        """
        Return the response of a Describe operation.

        :param operation: the name of the operation.
        :param defaults: the values of required members that the arguments may lack.
        :param members: the members that the arguments do not have. None is left out.
        """
        shape = service_model().operation_model(operation).output_shape
        if not isinstance(shape, StructureShape):
            raise TypeError(f"{operation} has no response")
        described: dict[str, Any] = {}
        if "RoleArn" in shape.members:
            described["RoleArn"] = self.role_arn
        described |= defaults
        described |= matching_members(shape, self.arguments)
        described |= omit_none(**members)
        return described

    def argument(self, name: str, shape_name: str) -> Any:
        """
        Return the part of an argument that matches a shape; None if nothing of it does.
        """
        return conforming(
            service_model().shape_for(shape_name), self.arguments.get(name)
        )
