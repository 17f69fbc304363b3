"""
The environment of the test cases: the emulator, an emulated clock, and a connection for
each provider.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from polysync_airflow.execution.clock import replaced_by
from sagemaker_emulator import EXAMPLE_DEFINITIONS, EmulatorServer, VirtualClock
from tests.fakes import airflow_service
from tests.fakes.simulated_airflow import AIRFLOW
from tests.tasks import EmulatedTime

INTERVAL = 60
MAX_POLLS = 200
CONNECTION_KEY_ID, HOST_KEY_ID = "AKIAIOSFODNN7EXAMPLE", "AKIAHOSTHOSTHOSTHOST"
SECRET = "emulated-secret-key"

# Names of the modules time and asyncio with which the amazon provider and the AWS
# clients sleep.
TIME_MODULES = (
    "airflow.providers.amazon.aws.hooks.sagemaker.time",
    "botocore.endpoint.time",
)
ASYNCIO_MODULES = (
    "airflow.providers.amazon.aws.triggers.sagemaker.asyncio",
    "aiobotocore.endpoint.asyncio",
)


class EndlessWaitError(BaseException):
    """
    Raised after so many polls that the wait counts as endless. Operators cannot catch
    it as ``Exception``.
    """


class KilledError(BaseException):
    """
    Raised to simulate a kill of the task. Operators cannot catch it as ``Exception``.
    """


class Clock(EmulatedTime):
    """
    Emulated time that counts polls, and that raises Airflow's ``execution_timeout``.
    """

    # Number of sleeps of at least a poll interval.
    polls = 0
    # The emulated time at which the execution_timeout passes; None if there is no
    # timeout.
    timeout_at: float | None = None

    def __init__(self, emulator: EmulatorServer) -> None:
        super().__init__(emulator)
        self.asyncio = SimpleNamespace(sleep=self._async_sleep)

    def reset(self) -> None:
        """Reset the count of polls, the timeout and the planned actions."""
        self.at.clear()
        self.polls, self.timeout_at = 0, None

    def sleep(self, seconds: float) -> None:
        """
        Advance the emulated clock. A sleep shorter than the poll interval is a retry of
        a call, not a poll.
        """
        self.polls += seconds >= INTERVAL
        super().sleep(seconds)
        if self.timeout_at is not None and self.time() >= self.timeout_at:
            self.timeout_at = None
            raise AirflowTaskTimeout("Timeout")
        if self.polls >= MAX_POLLS:
            raise EndlessWaitError

    async def _async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)


@dataclass
class Environment:
    """The environment of a test case."""

    emulator: EmulatorServer
    clock: Clock

    @property
    def client(self) -> Any:
        """A SageMaker client for calls that are not made by the task."""
        return boto3.client(
            "sagemaker",
            endpoint_url=self.emulator.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=CONNECTION_KEY_ID,
            aws_secret_access_key=SECRET,
        )

    def execution(self, pipeline: str) -> dict[str, Any] | None:
        """Return the summary of a pipeline's only execution; None if there is none."""
        summaries: list[dict[str, Any]] = self.client.list_pipeline_executions(
            PipelineName=pipeline
        )["PipelineExecutionSummaries"]
        assert len(summaries) <= 1
        return summaries[0] if summaries else None


@contextmanager
def emulated() -> Iterator[Environment]:
    """
    Run the emulator with emulated time, and set a connection to it for each provider.
    """
    with (
        EmulatorServer(
            clock=VirtualClock(), definitions=EXAMPLE_DEFINITIONS
        ) as emulator,
        ExitStack() as patches,
    ):
        clock = Clock(emulator)
        patches.enter_context(replaced_by(clock))
        airflow_service.install(
            patches.enter_context(pytest.MonkeyPatch.context()), AIRFLOW
        )
        for target in TIME_MODULES:
            patches.enter_context(patch(target, clock))
        for target in ASYNCIO_MODULES:
            patches.enter_context(patch(target, clock.asyncio))
        location = {"region_name": "us-east-1", "endpoint_url": emulator.endpoint_url}
        key = {"login": CONNECTION_KEY_ID, "password": SECRET}
        connections = {
            "AIRFLOW_CONN_AWS_DEFAULT": {"conn_type": "aws", **key, "extra": location},
            "AIRFLOW_CONN_POLYSYNC_DEFAULT": {
                "conn_type": "polysync_sagemaker",
                **key,
                "extra": {"auth_method": "access_key", **location},
            },
        }
        variables = {
            name: json.dumps(connection) for name, connection in connections.items()
        }
        # Used by clients that have no connection, so that no test case can call the
        # real AWS.
        variables["AWS_ENDPOINT_URL"] = emulator.endpoint_url
        patches.enter_context(patch.dict(os.environ, variables))
        yield Environment(emulator, clock)
