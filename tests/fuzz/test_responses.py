"""Random responses of AWS: a value, or an error of this provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import strategies as st

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.conftest import ARN, connection
from tests.fakes.fake_sagemaker import Body, responding
from tests.strategies import fuzz, json_values, variations
from tests.unit.aws.test_invalid_responses import CALLS

TIME = 1.75e9
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/g/1"
QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/q"
MEMBERS = {
    "PipelineExecutionArn": ARN,
    "PipelineExecutionStatus": "Failed",
    "FailureReason": "r",
    "CreationTime": TIME,
    "LastModifiedTime": TIME,
    "LastRunTime": TIME,
    "PipelineName": "fanout",
    "PipelineArn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout",
    "PipelineDescription": "d",
    "PipelineDefinition": "{}",
    "RoleArn": "arn:aws:iam::123456789012:role/x",
    "ParallelismConfiguration": {"MaxParallelExecutionSteps": 1},
    "PipelineExecutionSummaries": [
        {
            "PipelineExecutionArn": ARN,
            "PipelineExecutionStatus": "Failed",
            "StartTime": TIME,
        }
    ],
    "PipelineExecutionSteps": [
        {
            "StepName": "x",
            "StepStatus": "Failed",
            "FailureReason": "r",
            "AttemptCount": 1,
            "StartTime": TIME,
        }
    ],
    "PipelineSummaries": [{"PipelineName": "fanout"}],
    "PipelineParameters": [{"Name": "A", "Value": "1"}],
    "ModelPackageArn": PACKAGE,
    "ModelPackageStatus": "Failed",
    "ModelApprovalStatus": "Rejected",
    "LastModifiedBy": {"UserProfileName": "ada"},
    "ModelPackageStatusDetails": {"ValidationStatuses": [{"FailureReason": "r"}]},
    "ModelPackageSummaryList": [
        {"ModelPackageArn": PACKAGE, "ModelPackageStatus": "Completed"}
    ],
    "Messages": [
        {
            "MessageId": "m",
            "ReceiptHandle": "r",
            "Body": "{}",
            "Attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1700000000000",
            },
            "MessageAttributes": {"a": {"DataType": "Number", "StringValue": "1"}},
        }
    ],
    "Attributes": {
        "RedrivePolicy": '{"deadLetterTargetArn": "arn:aws:sqs:r:1:dead", "maxReceiveCount": 5}'
    },
}
# Calls of sensors, and of tasks that answer callback steps.
MORE_CALLS: dict[str, Callable[[PolysyncSageMakerHook], Any]] = {
    "ListPipelineExecutions, oldest first": lambda hook: list(
        hook.find_pipeline_executions(
            "fanout", created_after=datetime(2026, 1, 1, tzinfo=UTC)
        )
    ),
    "DescribeModelPackage": lambda hook: hook.describe_model_package(PACKAGE),
    "ListModelPackages": lambda hook: hook.newest_model_package("g"),
    "GetQueueAttributes": lambda hook: hook.describe_redrive(QUEUE),
    "ReceiveMessage": lambda hook: hook.receive_messages(QUEUE, hidden=1, wait=0),
}
bodies = (variations(MEMBERS, json_values) | json_values).map(
    lambda value: json.dumps(value).encode()
) | st.binary(max_size=200)


@pytest.fixture
def endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Body, PolysyncSageMakerHook]]:
    """A server whose response can be changed, and a hook that calls it."""
    body = Body(b"{}")
    with responding(body) as (url, _):
        monkeypatch.setenv(
            "AIRFLOW_CONN_POLYSYNC_DEFAULT", connection(endpoint_url=url)
        )
        yield body, PolysyncSageMakerHook()


@pytest.mark.parametrize("operation", [*CALLS, *MORE_CALLS])
@fuzz(content=bodies, status=st.sampled_from([200, 200, 200, 400, 403, 429, 500, 503]))
def test_responses(
    operation: str,
    endpoint: tuple[Body, PolysyncSageMakerHook],
    content: bytes,
    status: int,
) -> None:
    """
    Each operation returns clean values, or raises an error of this provider with a
    short message.
    """
    body, hook = endpoint
    body.content, body.status = content, status
    try:
        result: Any = {**CALLS, **MORE_CALLS}[operation](hook)
    except PolysyncError as error:
        message = str(error)
        assert len(message) < 5000
        message.encode()
        assert "\x00" not in message
    else:
        repr(result).encode()
