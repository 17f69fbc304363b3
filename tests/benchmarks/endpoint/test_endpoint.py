"""
Tests of the AWS test server: its responses have the emulator's format, and its
statistics are correct.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sagemaker_emulator import EmulatorServer
from tests.benchmarks.endpoint.account import ROLE_ARN
from tests.benchmarks.endpoint.endpoint_process import EndpointProcess

# Members that depend on the kind of step or on the time.
OPTIONAL = {"Metadata", "EndTime"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[EndpointProcess]:
    """The AWS test server, in a process of its own."""
    with EndpointProcess() as running:
        yield running


def client(url: str, service: str = "sagemaker") -> Any:
    """Return a boto3 client that does not retry."""
    make: Any = boto3.client
    return make(
        service,
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )


def member_types(value: Any) -> Any:
    """
    Return the type name of each member of a response; of a list, only the first entry
    counts.
    """
    if isinstance(value, dict):
        members = {
            name: each
            for name, each in value.items()
            if name not in {"ResponseMetadata", *OPTIONAL}
        }
        return {name: member_types(each) for name, each in members.items()}
    if isinstance(value, list):
        return [member_types(entry) for entry in value[:1]]
    return type(value).__name__


def responses(
    sagemaker: Any, pipeline: str, after_start: Callable[[], object]
) -> dict[str, Any]:
    """
    Start an execution, call ``after_start``, and return the member types of each
    operation's response.
    """
    started = sagemaker.start_pipeline_execution(
        PipelineName=pipeline, ClientRequestToken="x" * 32
    )
    after_start()
    execution = {"PipelineExecutionArn": started["PipelineExecutionArn"]}
    by_operation = {
        "start": started,
        "describe": sagemaker.describe_pipeline_execution(**execution),
        "steps": sagemaker.list_pipeline_execution_steps(**execution),
        "executions": sagemaker.list_pipeline_executions(
            PipelineName=pipeline, MaxResults=1
        ),
        "pipelines": sagemaker.list_pipelines(
            SortBy="Name", SortOrder="Ascending", MaxResults=1
        ),
        "pipeline": sagemaker.describe_pipeline(PipelineName=pipeline),
    }
    return {name: member_types(response) for name, response in by_operation.items()}


def test_responses_have_the_members_of_the_emulator(
    endpoint: EndpointProcess, emulator: EmulatorServer
) -> None:
    """
    Every member in a response of the test server has the same name and type in the
    emulator's response.
    """
    endpoint.reset()
    endpoint.add_pipelines(1)
    emulated = client(emulator.endpoint_url)

    ours = responses(client(endpoint.url), "Benchmark-00000", lambda: None)
    expected = responses(emulated, "fanout", lambda: emulator.control.advance(120))

    for operation, members in ours.items():
        assert expected[operation] | members == expected[operation], operation


def test_list_pipeline_executions_paginates_by_creation_time(
    endpoint: EndpointProcess,
) -> None:
    """
    A pipeline is found by its ARN; executions that have not started are not listed;
    pages do not overlap.
    """
    endpoint.reset()
    now = time.time()
    started = endpoint.start(10, 1, start=now - 7.5, per_second=1, seconds=60)
    sagemaker = client(endpoint.url)
    arn = sagemaker.describe_pipeline(PipelineName=started[0].pipeline)["PipelineArn"]

    def listed(**request: Any) -> list[str]:
        pages = sagemaker.get_paginator("list_pipeline_executions").paginate(
            PipelineName=arn, PaginationConfig={"PageSize": 3}, **request
        )
        return [
            summary["PipelineExecutionArn"]
            for page in pages
            for summary in page["PipelineExecutionSummaries"]
        ]

    running = [execution.arn for execution in started][:8]
    assert listed(SortOrder="Ascending") == running
    assert listed() == running[::-1]
    assert listed(CreatedAfter=now - 4) == running[:3:-1]
    assert listed(CreatedBefore=now - 4) == running[3::-1]


def test_statistics_count_calls_polls_and_connections(
    endpoint: EndpointProcess,
) -> None:
    """
    The statistics have the calls, the throttled calls, the connections, and each
    execution's polls.
    """
    endpoint.reset(quota=3)
    polled, not_polled = endpoint.start(
        2, 2, start=time.time() - 5, per_second=0, seconds=1
    )
    sagemaker = client(endpoint.url)

    for _ in range(3):
        sagemaker.describe_pipeline_execution(PipelineExecutionArn=polled.arn)
    with pytest.raises(ClientError, match="ThrottlingException"):
        sagemaker.describe_pipeline_execution(PipelineExecutionArn=not_polled.arn)

    statistics = endpoint.statistics()
    assert (statistics.calls, statistics.throttled) == (
        {"DescribePipelineExecution": 4},
        {"DescribePipelineExecution": 1},
    )
    assert (statistics.connections, statistics.peak_connections) == (1, 1)
    assert statistics.executions[polled.arn].longest_gap == pytest.approx(5, abs=1)
    assert statistics.executions[not_polled.arn].first_poll is None


def test_assume_role_returns_credentials(endpoint: EndpointProcess) -> None:
    """
    AssumeRole of STS returns credentials that are valid for an hour, and the call is
    counted.
    """
    endpoint.reset()

    response = client(endpoint.url, "sts").assume_role(
        RoleArn=ROLE_ARN, RoleSessionName="benchmark"
    )

    assert response["Credentials"]["Expiration"].timestamp() > time.time() + 3000
    assert endpoint.statistics().calls == {"AssumeRole": 1}
