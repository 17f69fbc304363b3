"""
A plugin of pytest that runs the integration tests of AWS's SageMaker Python SDK on an
emulator.

In a checkout of the branch master-v2 of https://github.com/aws/sagemaker-python-sdk,
with an environment that has the SDK and what its tests import, and an emulator with
``--speed 1000 --max-steps 2000``, since two tests have 500 and 2,000 steps. No
container runs: the image of the tests of functions that are steps is not built, and
`RESULTS` has what these functions return::

    PYTHONPATH=<the folder emulator/ of this project>:<the folder of this file> EMULATOR=http://127.0.0.1:4599 \
        python -m pytest -p aws_sdk_suite tests/integ/sagemaker/workflow
"""

# It runs in the environment of the SDK.
from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import boto3
import pytest

from sagemaker_emulator import ControlClient
from sagemaker_emulator.clients import RedirectedBoto3

EMULATOR = os.environ["EMULATOR"]
# In AWS, the data of the tests with such names violate the constraints.
WITH_VIOLATIONS = ("constraint_violation", "failure_case", "bad_case")
CHECKS = (
    "DataQualityCheckStep",
    "ModelQualityCheckStep",
    "DataBiasCheckStep",
    "MonitorBatchTransformStep-monitoring",
)
VIOLATION = {
    "feature_name": "age",
    "constraint_check_type": "completeness_check",
    "description": "Less complete",
}
# What the functions in the tests with such names return, or that they fail.
RESULTS: dict[str, dict[str, Any]] = {
    "no_dependencies": {"sum": {"result": 11}},
    "execution_dependencies": {"sum": {"result": 11}},
    "with_data_dependencies": {"generator": {"result": [3, 4]}, "sum": {"result": 7}},
    "with_pipeline_parameters": {"sum": {"result": 5}},
    "include_local_workdir": {"train": {"result": 12}},
    "decorator_step_failed": {
        "divide": {"fail": {"reason": "ZeroDivisionError: division by zero"}}
    },
    "among_pure_function_steps": {
        "generator": {"result": [3, 4]},
        "sum": {"result": 7},
    },
    "regular_step_referenced_by_function_step": {"func_2": {"result": "Completed"}},
    "function_step_referenced_by_regular_step": {
        "func": {"result": [1, 2]},
        "step1": {"result": [1, 2]},
    },
    "with_json_get": {
        "step1": {"result": [0, 1]},
        "step2": {"result": 2},
        "step3": {"result": 3},
    },
    "data_referenced_by_other_steps": {"step1": {"result": [1, 2]}},
    "step_level_serialization": {
        "generator": {"result": "This generates a function arg."},
        "func_with_collision": {
            "result": "This pipeline is a function. This generates a function arg."
        },
    },
}

_sleep = time.sleep


def sleep(seconds: float) -> None:
    """
    Wait for a hundredth of the time: the tests look every 20 or 30 seconds, for up to
    an hour.
    """
    _sleep(min(seconds / 100, 0.3))


RedirectedBoto3(EMULATOR, region_name="us-west-2").start()
s3 = boto3.client("s3")
# As in an account where the SDK was used before.
with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
    s3.create_bucket(
        Bucket="sagemaker-us-west-2-123456789012",
        CreateBucketConfiguration={"LocationConstraint": "us-west-2"},
    )
time.sleep = sleep  # type: ignore[assignment]


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Any:
    """
    Give the tests the session that is redirected, and an image, instead of what they
    would make themselves.
    """
    if fixturedef.argname == "boto_session":
        value: Any = boto3.DEFAULT_SESSION
    elif fixturedef.argname.startswith("dummy_container_"):
        value = "123456789012.dkr.ecr.us-west-2.amazonaws.com/not-built:1"
    else:
        return None
    fixturedef.cached_result = (value, fixturedef.cache_key(request), None)
    return value


@pytest.fixture(autouse=True)
def scenario(request: pytest.FixtureRequest) -> None:
    """
    Let the check steps of some tests find violations, and the functions of others
    return something.
    """
    steps = next(
        (steps for name, steps in RESULTS.items() if name in request.node.name), {}
    )
    if any(text in request.node.name for text in WITH_VIOLATIONS):
        steps = {name: {"violations": [VIOLATION]} for name in CHECKS}
    if steps:
        ControlClient(EMULATOR).put_scenario(
            {"steps": steps}, request.getfixturevalue("pipeline_name")
        )
