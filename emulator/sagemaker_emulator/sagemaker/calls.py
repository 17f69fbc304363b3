"""An API call: the validated request, and what an operation needs to perform it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sagemaker_emulator.engine.scenarios import Scenario
from sagemaker_emulator.limits import DEFAULT_LIMITS, Limits
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region


class NotEmulatedError(Exception):
    """
    Raised for a request that moto handles, such as one about a job that no step has
    started.
    """


@dataclass(frozen=True)
class LogStream:
    """
    The events of a log stream in CloudWatch Logs.

    :param group: the name of the log group.
    :param name: the name of the stream.
    :param events: the times, as Unix time, and the messages, oldest
        first.
    """

    group: str
    name: str
    events: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class ServiceEvent:
    """
    An event that SageMaker sends to the default event bus of EventBridge.

    :param detail_type: what has happened, such as ``SageMaker Model Package State
        Change``.
    :param resources: the ARNs of what it concerns.
    :param detail: the detail, as JSON.
    :param time: the time, as Unix time.
    """

    detail_type: str
    resources: list[str]
    detail: dict[str, Any]
    time: float


class AwsServices(Protocol):
    """The other services of AWS that pipelines use."""

    def read_object(self, bucket: str, key: str, version: str | None) -> bytes:
        """Read an S3 object; ``version`` is None for the latest version."""
        ...

    def create_bucket(self, region: str, bucket: str) -> None:
        """Create an S3 bucket, if it does not exist."""
        ...

    def put_object(self, region: str, bucket: str, key: str, content: bytes) -> None:
        """Write an S3 object."""
        ...

    def create_model_package(
        self, region: str, request: Mapping[str, Any], created_at: float
    ) -> str | None:
        """
        Create a model package as CreateModelPackage does, and its group if necessary.
        Return the ARN; None if it cannot be created.
        """
        ...

    def models(self, region: str) -> list[str]:
        """Return the names of the models that clients have created."""
        ...

    def model_packages(self, region: str) -> list[dict[str, Any]]:
        """
        Return the descriptions of all model packages, with times as Unix time.
        """
        ...

    def has_model_package_group(self, region: str, name: str) -> bool:
        """Return whether there is a model package group."""
        ...

    def update_model_package(
        self, region: str, arn: str, members: Mapping[str, Any], at: float
    ) -> None:
        """
        Set members of the description of a model package at a time, as Unix time.
        """
        ...

    def delete_model_package(self, region: str, arn: str) -> None:
        """Delete a model package."""
        ...

    def send_message(self, region: str, queue: str, body: str) -> None:
        """Send a message to a queue of SQS, which is created if it does not exist."""
        ...

    def put_log_events(self, region: str, stream: LogStream) -> None:
        """Write the events of a stream that it does not have yet."""
        ...

    def model_package_events(self, region: str, now: float) -> list[ServiceEvent]:
        """
        Return the events of model packages that are new or changed since the last call.
        """
        ...

    def has_event_rules(self, region: str) -> bool:
        """Return whether the default event bus has a rule."""
        ...

    def send_event(self, region: str, event: ServiceEvent) -> None:
        """Send an event to the default event bus."""
        ...


@dataclass(frozen=True)
class Call:
    """
    A validated request.

    :param request: the request members.
    :param region: the region of the request.
    :param now: the time of the request, as Unix time.
    :param scenario_of: returns the scenario of a pipeline, by its name.
    :param services: the other services of AWS.
    :param identity: ``Arn`` and ``PrincipalId`` of the caller.
    :param limits: what the emulator refuses.
    """

    request: Mapping[str, Any]
    region: Region
    now: float
    scenario_of: Callable[[str], Scenario]
    services: AwsServices
    identity: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = DEFAULT_LIMITS

    @property
    def max_parallel(self) -> int | None:
        """``MaxParallelExecutionSteps`` of the request, or None."""
        configuration = self.request.get("ParallelismConfiguration", {})
        limit: int | None = configuration.get("MaxParallelExecutionSteps")
        return limit

    def execution(self, arn: str) -> ExecutionRecord:
        """
        Return an execution in its state at the time of the request.

        :param arn: the ARN of the execution.
        :raises ApiError: ResourceNotFound if it does not exist.
        """
        record = self.region.execution(arn)
        record.engine.advance(self.now)
        return record


Operation = Callable[[Call], dict[str, Any]]


def omit_none(**members: Any) -> dict[str, Any]:
    """Return the members that are not None. AWS omits members without a value."""
    return {name: value for name, value in members.items() if value is not None}


def parallelism_configuration(limit: float | None) -> dict[str, Any] | None:
    """Return a ``ParallelismConfiguration``, or None if there is no limit."""
    if limit is None or limit == float("inf"):
        return None
    return {"MaxParallelExecutionSteps": int(limit)}
