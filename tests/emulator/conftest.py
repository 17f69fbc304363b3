"""Fixtures of the emulator's tests: one server for all, brought back to the beginning before each test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from polysync_airflow.emulator import EmulatorServer, VirtualClock

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
ClientOf = Callable[..., Any]


@pytest.fixture(scope="session")
def _server() -> Iterator[EmulatorServer]:
    with EmulatorServer(clock=VirtualClock()) as server:
        yield server


@pytest.fixture
def server(_server: EmulatorServer) -> EmulatorServer:
    """An empty emulator with a virtual clock."""
    _server.control.reset()
    return _server


@pytest.fixture
def client_of(server: EmulatorServer) -> ClientOf:
    """Make boto3 clients of the emulator, without retries of their own."""

    def make(service: str, region: str = "us-east-1", retries: int = 0, **credentials: str) -> Any:
        credentials = credentials or {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "secret"}
        config = Config(retries={"total_max_attempts": retries + 1}, read_timeout=10)
        return boto3.client(
            service, endpoint_url=server.endpoint_url, region_name=region, config=config, **credentials
        )

    return make


@pytest.fixture
def sagemaker(client_of: ClientOf) -> Any:
    """A SageMaker client in us-east-1."""
    return client_of("sagemaker")


def definition(*steps: dict[str, Any], parameters: tuple[dict[str, Any], ...] = ()) -> str:
    """Return the text of a pipeline definition."""
    return json.dumps({"Version": "2020-12-01", "Parameters": parameters, "Steps": steps})


def step(name: str, kind: str = "Processing", *after: str, **more: Any) -> dict[str, Any]:
    """Return a step that waits for the steps ``after``."""
    return {"Name": name, "Type": kind, "Arguments": {}, "DependsOn": list(after), **more}


def chain(*names: str) -> str:
    """Return the definition of steps that run one after the other."""
    before: list[tuple[str, ...]] = [(), *((name,) for name in names)]
    return definition(*(step(name, "Processing", *after) for name, after in zip(names, before, strict=False)))


@pytest.fixture
def shared_definitions() -> Path:
    """The example definitions that come with the tests."""
    return Path(__file__).parent / "definitions"
