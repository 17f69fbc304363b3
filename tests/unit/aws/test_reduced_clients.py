"""Clients with a reduced model of SageMaker, compared with full clients."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from polysync_airflow.aws.sessions import reduce_models
from polysync_airflow.triggers.poller import PollingHook
from sagemaker_emulator import EmulatorServer

OPERATIONS: tuple[str, ...] = PollingHook.client_operations
POLLING = {"sagemaker": OPERATIONS}
SIGNATURE = re.compile(rb"Credential=\w+/\d+/(\S+), SignedHeaders=(\S+),")
DESCRIBE = "describe_pipeline_execution"
LIST = "list_pipeline_executions"
STOP = "stop_pipeline_execution"
REGIONS = ["us-east-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1"]


def make_client(
    operations: dict[str, tuple[str, ...]] | None,
    region: str,
    service: str = "sagemaker",
    **settings: Any,
) -> Any:
    """
    Return a client of a session with these operations by service; with all operations
    for None.
    """
    session = Session()
    if operations:
        reduce_models(session, operations)
    return session.create_client(
        service,
        region,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="emulated-secret-key",
        **settings,
    )


class Recorder:
    """
    Calls operations of a client; records the requests that it sends.

    :param client: the client.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.requests: list[tuple[Any, ...]] = []
        client.meta.events.register("before-send", self._record)

    def _record(self, request: Any, **_: Any) -> None:
        names = ("X-Amz-Target", "Content-Type", "User-Agent")
        headers = {name: request.headers.get(name) for name in names}
        signature = SIGNATURE.search(request.headers["Authorization"])
        assert signature
        sent = (request.method, request.url, request.body, headers, signature.groups())
        self.requests.append(sent)

    def call(self, operation: str, **request: Any) -> Any:
        """
        Call an operation; return its response, or the type and content of its error.
        """
        try:
            response = getattr(self.client, operation)(**request)
        except ClientError as error:
            return type(error).__name__, error.response["Error"]
        del response["ResponseMetadata"]
        return response


def test_reduced_client_sends_and_parses_like_a_full_client(
    emulator: EmulatorServer,
) -> None:
    """
    The poller's operations have the same requests, responses, errors and pages with
    both models.
    """
    endpoint: Any = {"region": "us-east-1", "endpoint_url": emulator.endpoint_url}
    full = Recorder(make_client(None, **endpoint))
    reduced = Recorder(make_client(POLLING, **endpoint))
    start = full.client.start_pipeline_execution
    arns = [start(PipelineName="fanout")["PipelineExecutionArn"] for _ in range(3)]
    full.requests.clear()
    emulator.control.advance(60)
    earlier = datetime.fromtimestamp(0, UTC)
    missing = arns[0][:-12] + "aaaaaaaaaaaa"
    stop = {"ClientRequestToken": "polysync-stop-0123456789abcdef0123"}
    page = {"CreatedAfter": earlier, "SortBy": "CreationTime", "MaxResults": 2}
    first = {"PipelineExecutionArn": arns[0]}
    calls: list[tuple[str, dict[str, Any]]] = [
        (DESCRIBE, first),
        (DESCRIBE, {"PipelineExecutionArn": missing}),
        (LIST, {"PipelineName": "fanout", **page}),
        (LIST, {"PipelineName": "no-such-pipeline"}),
        ("list_pipeline_execution_steps", {**first, "SortOrder": "Ascending"}),
        (STOP, {"PipelineExecutionArn": arns[1], **stop}),
        (STOP, {"PipelineExecutionArn": missing, **stop}),
    ]

    for operation, request in calls:
        assert reduced.call(operation, **request) == full.call(operation, **request)
    for each in (full, reduced):
        paginator = each.client.get_paginator(LIST)
        pages = paginator.paginate(PipelineName="fanout", MaxResults=1)
        assert len(list(pages)) == 3

    assert reduced.requests == full.requests
    assert len(reduced.requests) == len(calls) + 3
    error, _ = reduced.call(DESCRIBE, PipelineExecutionArn=missing)
    assert error == "ResourceNotFound"
    assert isinstance(reduced.call(DESCRIBE, **first)["CreationTime"], datetime)


def test_reduced_client_has_only_these_operations() -> None:
    """
    A reduced client has a method for each of its operations, and no other methods of
    SageMaker.
    """
    client = make_client(POLLING, "us-east-1")

    assert set(client.meta.method_to_api_mapping.values()) == set(OPERATIONS)
    assert not hasattr(client, "start_pipeline_execution")


FIRST_REQUESTS: dict[str, tuple[str, dict[str, str]]] = {
    "sagemaker": ("describe_pipeline_execution", {"PipelineExecutionArn": "arn"}),
    "sts": (
        "assume_role",
        {"RoleArn": "arn:aws:iam::123456789012:role/R", "RoleSessionName": "test"},
    ),
}


def first_request(
    operations: dict[str, tuple[str, ...]] | None,
    service: str,
    region: str,
    **settings: Any,
) -> Any:
    """
    Return the request of a client, without sending it; or the error of an unusable
    setting.
    """

    def interrupt(**_: Any) -> None:
        raise InterruptedError

    operation, request = FIRST_REQUESTS[service]
    try:
        recorder = Recorder(make_client(operations, region, service, **settings))
        recorder.client.meta.events.register("before-send", interrupt)
        with pytest.raises(InterruptedError):
            recorder.call(operation, **request)
    except BotoCoreError as error:
        return repr(error)
    return recorder.client.meta.partition, recorder.requests


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(
    "config",
    [Config(), Config(use_fips_endpoint=True), Config(use_dualstack_endpoint=True)],
    ids=["plain", "fips", "dualstack"],
)
@pytest.mark.parametrize("service", ["sagemaker", "sts"])
def test_reduced_client_calls_the_endpoint_of_a_full_client(
    service: str, region: str, config: Config
) -> None:
    """
    In every partition, the reduced list of endpoints leads to the same endpoint and
    signature.
    """
    operations = {"sts": ("AssumeRole",), "sagemaker": OPERATIONS}[service]

    reduced = first_request({service: operations}, service, region, config=config)

    assert reduced == first_request(None, service, region, config=config)
