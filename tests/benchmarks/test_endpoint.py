"""The benchmarks' endpoint: it answers as the emulator does, and counts right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from polysync_airflow.emulator import EmulatorServer
from tests.benchmarks.endpoint.account import ROLE_ARN
from tests.benchmarks.endpoint.running import RunningEndpoint

# Members that differ between steps, or come with time.
OPTIONAL = {"Metadata", "EndTime"}


@pytest.fixture(scope="module")
def running() -> Iterator[RunningEndpoint]:
    """The endpoint, in a process of its own."""
    with RunningEndpoint() as endpoint:
        yield endpoint


def client(url: str, service: str = "sagemaker") -> Any:
    """Return a client that tries once."""
    make: Any = boto3.client
    return make(
        service,
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )


def members(answer: Any) -> Any:
    """Return an answer's members, each with what kind of value it has; of a list, its first entry's."""
    if isinstance(answer, dict):
        kept = {name: value for name, value in answer.items() if name not in {"ResponseMetadata", *OPTIONAL}}
        return {name: members(value) for name, value in kept.items()}
    if isinstance(answer, list):
        return [members(entry) for entry in answer[:1]]
    return type(answer).__name__


def asked(sagemaker: Any, pipeline: str, begun: Callable[[], object]) -> dict[str, Any]:
    """Return the members of each operation's answer, once an execution has begun."""
    started = sagemaker.start_pipeline_execution(PipelineName=pipeline, ClientRequestToken="x" * 32)
    begun()
    execution = {"PipelineExecutionArn": started["PipelineExecutionArn"]}
    found = {
        "start": started,
        "describe": sagemaker.describe_pipeline_execution(**execution),
        "steps": sagemaker.list_pipeline_execution_steps(**execution),
        "executions": sagemaker.list_pipeline_executions(PipelineName=pipeline, MaxResults=1),
        "pipelines": sagemaker.list_pipelines(SortBy="Name", SortOrder="Ascending", MaxResults=1),
        "pipeline": sagemaker.describe_pipeline(PipelineName=pipeline),
    }
    return {name: members(answer) for name, answer in found.items()}


def test_answers_as_the_emulator_does(running: RunningEndpoint, emulator: EmulatorServer) -> None:
    """Whatever the endpoint tells, the emulator tells under the same name as the same type."""
    running.reset()
    running.add_pipelines(1)
    emulated = client(emulator.endpoint_url)

    ours = asked(client(running.url), "Benchmark-00000", lambda: None)
    theirs = asked(emulated, "fanout", lambda: emulator.control.advance(120))

    for operation, told in ours.items():
        assert theirs[operation] | told == theirs[operation], operation


def test_lists_page_by_page_and_by_creation(running: RunningEndpoint) -> None:
    """A pipeline is found by name or ARN; what has not begun yet is not listed; pages do not overlap."""
    running.reset()
    now = time.time()
    started = running.start(10, 1, begin=now - 7.5, per_second=1, seconds=60)
    sagemaker = client(running.url)
    arn = sagemaker.describe_pipeline(PipelineName=started[0].pipeline)["PipelineArn"]

    def listed(**request: Any) -> list[str]:
        pages = sagemaker.get_paginator("list_pipeline_executions").paginate(
            PipelineName=arn, PaginationConfig={"PageSize": 3}, **request
        )
        return [row["PipelineExecutionArn"] for page in pages for row in page["PipelineExecutionSummaries"]]

    begun = [execution.arn for execution in started][:8]
    assert listed(SortOrder="Ascending") == begun
    assert listed() == begun[::-1]
    assert listed(CreatedAfter=now - 4) == begun[:3:-1]
    assert listed(CreatedBefore=now - 4) == begun[3::-1]


def test_counts_calls_looks_and_connections(running: RunningEndpoint) -> None:
    """Each call, each connection; for each execution the first look and the longest gap."""
    running.reset(quota=3)
    ended, never = running.start(2, 2, begin=time.time() - 5, per_second=0, seconds=1)
    sagemaker = client(running.url)

    for _ in range(3):
        sagemaker.describe_pipeline_execution(PipelineExecutionArn=ended.arn)
    with pytest.raises(ClientError, match="ThrottlingException"):
        sagemaker.describe_pipeline_execution(PipelineExecutionArn=never.arn)

    seen = running.seen()
    assert (seen.calls, seen.throttled) == (
        {"DescribePipelineExecution": 4},
        {"DescribePipelineExecution": 1},
    )
    assert (seen.connections, seen.peak_connections) == (1, 1)
    assert seen.executions[ended.arn].longest_gap == pytest.approx(5, abs=1)
    assert seen.executions[never.arn].first_poll is None


def test_lends_a_role(running: RunningEndpoint) -> None:
    """STS answers in its own protocol."""
    running.reset()

    answer = client(running.url, "sts").assume_role(RoleArn=ROLE_ARN, RoleSessionName="benchmark")

    assert answer["Credentials"]["Expiration"].timestamp() > time.time() + 3000
    assert running.seen().calls == {"AssumeRole": 1}
