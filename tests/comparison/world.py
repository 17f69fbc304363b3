"""Owns the world a row happens in: an emulator, time that passes only in waits, two connections."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import boto3
from airflow.sdk.exceptions import AirflowTaskTimeout

from polysync_airflow.emulator import EmulatorServer, VirtualClock
from tests.tasks import EmulatedTime

DEFINITIONS = Path(__file__).parents[2] / "example_dags" / "definitions"
INTERVAL = 60
MOST_LOOKS = 200
KEY_OF_CONNECTION, KEY_OF_HOST = "AKIAIOSFODNN7EXAMPLE", "AKIAHOSTHOSTHOSTHOST"
SECRET = "emulated-secret-key"

# Where either provider, or the AWS client under it, would really wait.
SLEEPS = (
    "polysync_airflow.operators.base.time",
    "polysync_airflow.operators.starter.time",
    "polysync_airflow.operators.start.time",
    "polysync_airflow.aws.retry.time",
    "polysync_airflow.triggers.shared_client.time",
    "polysync_airflow.triggers.poller.time",
    "polysync_airflow.hooks.time",
    "airflow.providers.amazon.aws.hooks.sagemaker.time",
    "botocore.endpoint.time",
)
ASYNC_SLEEPS = (
    "airflow.providers.amazon.aws.triggers.sagemaker.asyncio",
    "aiobotocore.endpoint.asyncio",
)


class StillWaitingError(BaseException):
    """A wait has looked so often that it counts as one without end; no operator may catch this."""


class KilledError(BaseException):
    """The task was killed; no operator may catch this."""


class Clock(EmulatedTime):
    """Emulated time that counts looks, and rings for Airflow's own ``execution_timeout``."""

    looks = 0
    alarm: float | None = None

    def __init__(self, emulator: EmulatorServer) -> None:
        super().__init__(emulator)
        self.asyncio = SimpleNamespace(sleep=self._asleep)

    def begin(self) -> None:
        """Forget what was counted and planned."""
        self.at.clear()
        self.looks, self.alarm = 0, None

    def sleep(self, seconds: float) -> None:
        """Move the emulated clock; shorter sleeps than an interval are retries, not waits between looks."""
        self.looks += seconds >= INTERVAL
        super().sleep(seconds)
        if self.alarm is not None and self.time() >= self.alarm:
            self.alarm = None
            raise AirflowTaskTimeout("Timeout")
        if self.looks >= MOST_LOOKS:
            raise StillWaitingError

    async def _asleep(self, seconds: float) -> None:
        self.sleep(seconds)


@dataclass
class World:
    """What a row happens in."""

    emulator: EmulatorServer
    clock: Clock

    @property
    def client(self) -> Any:
        """SageMaker, by other hands than a task's."""
        return boto3.client(
            "sagemaker",
            endpoint_url=self.emulator.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=KEY_OF_CONNECTION,
            aws_secret_access_key=SECRET,
        )

    def execution(self, pipeline: str) -> dict[str, Any] | None:
        """Return the summary of the only execution, if there is one."""
        found: list[dict[str, Any]] = self.client.list_pipeline_executions(PipelineName=pipeline)[
            "PipelineExecutionSummaries"
        ]
        assert len(found) <= 1
        return found[0] if found else None


@contextmanager
def emulated() -> Iterator[World]:
    """Run an emulator with emulated time, and a connection to it for each provider."""
    with EmulatorServer(clock=VirtualClock(), definitions=DEFINITIONS) as emulator, ExitStack() as patches:
        clock = Clock(emulator)
        for target in SLEEPS:
            patches.enter_context(patch(target, clock))
        patches.enter_context(patch("polysync_airflow.triggers.poller.receive", clock.receive))
        for target in ASYNC_SLEEPS:
            patches.enter_context(patch(target, clock.asyncio))
        place = {"region_name": "us-east-1", "endpoint_url": emulator.endpoint_url}
        key = {"login": KEY_OF_CONNECTION, "password": SECRET}
        connections = {
            "AIRFLOW_CONN_AWS_DEFAULT": {"conn_type": "aws", **key, "extra": place},
            "AIRFLOW_CONN_POLYSYNC_DEFAULT": {
                "conn_type": "polysync_sagemaker",
                **key,
                "extra": {"auth_method": "access_key", **place},
            },
        }
        variables = {name: json.dumps(connection) for name, connection in connections.items()}
        # Only reached by a client without a connection's endpoint: no row may call AWS itself.
        variables["AWS_ENDPOINT_URL"] = emulator.endpoint_url
        patches.enter_context(patch.dict(os.environ, variables))
        yield World(emulator, clock)
