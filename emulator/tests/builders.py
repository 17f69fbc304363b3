"""Builders of pipeline definitions and executions for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine import scenarios
from sagemaker_emulator.engine.definition import parse
from sagemaker_emulator.engine.execution import Execution
from sagemaker_emulator.engine.expressions import Scope
from sagemaker_emulator.sagemaker.calls import LogStream, ServiceEvent

#: A time in seconds that is longer than each step that ends by itself.
FOREVER = 20 * 24 * 3600.0


@dataclass
class Services:
    """The other services of AWS, for tests of the SageMaker API without a server."""

    read: Callable[[str], bytes] = lambda key: b""
    streams: dict[str, LogStream] = field(default_factory=dict)
    packages: list[str] = field(default_factory=list)

    def read_object(self, bucket: str, key: str, version: str | None) -> bytes:
        """Return what ``read`` returns for the key."""
        return self.read(key)

    def create_model_package(
        self, region: str, request: Mapping[str, Any], created_at: float
    ) -> str:
        """Return an ARN with the number of packages as the version."""
        group = request["ModelPackageGroupName"].lower()
        arn = f"arn:aws:sagemaker:{region}:123456789012:model-package/{group}/{len(self.packages) + 1}"
        self.packages.append(arn)
        return arn

    def models(self, region: str) -> list[str]:
        """Have no models."""
        return []

    def model_packages(self, region: str) -> list[dict[str, Any]]:
        """Return no descriptions."""
        return []

    def has_model_package_group(self, region: str, name: str) -> bool:
        """Have no groups."""
        return False

    def update_model_package(
        self, region: str, arn: str, members: Mapping[str, Any], at: float
    ) -> None:
        """Keep no changes."""

    def delete_model_package(self, region: str, arn: str) -> None:
        """Delete nothing."""

    def create_bucket(self, region: str, bucket: str) -> None:
        """Keep no buckets."""

    def put_object(self, region: str, bucket: str, key: str, content: bytes) -> None:
        """Keep no objects."""

    def send_message(self, region: str, queue: str, body: str) -> None:
        """Keep no messages."""

    def put_log_events(self, region: str, stream: LogStream) -> None:
        """Keep the stream by its name."""
        self.streams[stream.name] = stream

    def has_event_rules(self, region: str) -> bool:
        """Have no rules."""
        return False

    def model_package_events(self, region: str, now: float) -> list[ServiceEvent]:
        """Return no events, since there is no registry."""
        return []

    def send_event(self, region: str, event: ServiceEvent) -> None:
        """Keep no events."""


def chain(*names: str) -> str:
    """Return the definition of steps that run one after the other."""
    before: list[tuple[str, ...]] = [(), *((name,) for name in names)]
    return definition(
        *(
            step(name, "Processing", *after)
            for name, after in zip(names, before, strict=False)
        )
    )


def condition(
    name: str, conditions: list[Any], if_steps: list[Any], else_steps: list[Any]
) -> dict[str, Any]:
    """Return a condition step."""
    arguments = {"Conditions": conditions, "IfSteps": if_steps, "ElseSteps": else_steps}
    return {"Name": name, "Type": "Condition", "Arguments": arguments}


def fail(name: str, message: Any) -> dict[str, Any]:
    """Return a fail step."""
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}}


def execution(
    text: str, scenario: dict[str, Any] | None = None, limit: float = inf, **values: Any
) -> Execution:
    """Return an execution that was created at time 0."""
    scope = Scope(parameters=values)
    return Execution(
        "seed", parse(text), scope, scenarios.parse(scenario or {}), 0.0, limit
    )


def timeline(engine: Execution) -> dict[str, tuple[float, float | None, str]]:
    """Return the start, the end and the status of each step."""
    return {
        name: (run.started_at, run.ended_at, run.status)
        for name, run in engine.runs.items()
    }
