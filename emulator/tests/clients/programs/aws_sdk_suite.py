"""
A plugin of pytest that runs the integration tests of AWS's SageMaker Python SDK on an emulator.

In a checkout of the branch master-v2 of https://github.com/aws/sagemaker-python-sdk, with an environment that has
the SDK and what its tests import, and an emulator with ``--speed 1000``::

    PYTHONPATH=<the folder emulator/ of this project>:<the folder of this file> EMULATOR=http://127.0.0.1:4599 \
        python -m pytest -p aws_sdk_suite tests/integ/sagemaker/workflow
"""

# It runs in the environment of the SDK.
from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from sagemaker_emulator import ControlClient
from sagemaker_emulator.clients import RedirectedBoto3

EMULATOR = os.environ["EMULATOR"]
CHECKS = (
    "DataQualityCheckStep",
    "ModelQualityCheckStep",
    "DataBiasCheckStep",
    "MonitorBatchTransformStep-monitoring",
)
# In AWS, the data of the tests with such names violate the constraints.
WITH_VIOLATIONS = ("constraint_violation", "failure_case", "bad_case")
VIOLATION = {
    "feature_name": "age",
    "constraint_check_type": "completeness_check",
    "description": "Less complete",
}

_sleep = time.sleep


def sleep(seconds: float) -> None:
    """Wait for a hundredth of the time: the tests look every 20 or 30 seconds, for up to an hour."""
    _sleep(min(seconds / 100, 0.3))


RedirectedBoto3(EMULATOR, region_name="us-west-2").start()
time.sleep = sleep  # type: ignore[assignment]


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Any:
    """Give the tests the session that is redirected instead of one of their own."""
    if fixturedef.argname != "boto_session":
        return None
    fixturedef.cached_result = (boto3.DEFAULT_SESSION, fixturedef.cache_key(request), None)
    return boto3.DEFAULT_SESSION


@pytest.fixture(autouse=True)
def violations(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the check steps of some tests find violations."""
    if not any(text in request.node.name for text in WITH_VIOLATIONS):
        yield
        return
    control = ControlClient(EMULATOR)
    control.put_scenario({"steps": {name: {"violations": [VIOLATION]} for name in CHECKS}})
    yield
    control.delete_scenario()
