"""Tests of fault injection and of the call log, through boto3."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from sagemaker_emulator import EmulatorServer
from tests.builders import chain
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "throttle"}, ("ThrottlingException", "Rate exceeded")),
        (
            {
                "kind": "error",
                "code": "ConflictException",
                "message": "Between two steps",
            },
            ("ConflictException", "Between two steps"),
        ),
        (
            {
                "kind": "error",
                "code": "ExpiredTokenException",
                "message": "Expired",
                "status": 403,
            },
            ("ExpiredTokenException", "Expired"),
        ),
        (
            {"kind": "quota", "message": "20 are enough"},
            ("ResourceLimitExceeded", "20 are enough"),
        ),
    ],
)
def test_fault_returns_an_aws_error(
    server: EmulatorServer,
    sagemaker: Any,
    fault: dict[str, Any],
    expected: tuple[str, str],
) -> None:
    """
    A throttle or error fault returns the AWS error for the given operation and number
    of requests only.
    """
    server.control.add_fault(operation="ListPipelines", count=1, **fault)
    assert (
        error_of(sagemaker.describe_pipeline, PipelineName="x")[0] == "ResourceNotFound"
    )
    assert error_of(sagemaker.list_pipelines) == expected
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    logged = [
        (c["status"], c["error_code"], c["fault"])
        for c in server.control.calls("ListPipelines")
    ]
    assert logged == [
        (fault.get("status", 400), expected[0], fault["kind"]),
        (200, None, None),
    ]


@pytest.mark.parametrize("status", [500, 503])
def test_http_fault_returns_a_bare_status(
    server: EmulatorServer, sagemaker: Any, status: int
) -> None:
    """An http fault returns an HTTP status without an AWS error."""
    server.control.add_fault("http", count=1, status=status)
    with pytest.raises(ClientError) as error:
        sagemaker.list_pipelines()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_latency_fault_delays_the_response(
    server: EmulatorServer, sagemaker: Any
) -> None:
    """A latency fault delays the response and does not change it."""
    server.control.add_fault("latency", "ListPipelines", delay=0.3, count=1)
    begin = time.monotonic()
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    assert time.monotonic() - begin >= 0.3


def test_request_with_a_lost_response_is_processed(
    server: EmulatorServer, create: Callable[..., str], sagemaker: Any
) -> None:
    """
    After a lost response the execution exists, and a request with the same token
    returns it.
    """
    create(chain("A"))
    server.control.add_fault("lost_response", "StartPipelineExecution", count=1)
    request = {"PipelineName": "Demo", "ClientRequestToken": "t" * 32}
    with pytest.raises(ConnectionClosedError):
        sagemaker.start_pipeline_execution(**request)
    (summary,) = sagemaker.list_pipeline_executions(PipelineName="Demo")[
        "PipelineExecutionSummaries"
    ]
    again = sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"]
    assert again == summary["PipelineExecutionArn"]
    first = server.control.calls("StartPipelineExecution")[0]
    assert (first["fault"], first["status"]) == ("lost_response", 0)


def test_dropped_request_is_not_processed(
    server: EmulatorServer, create: Callable[..., str], sagemaker: Any
) -> None:
    """A dropped request starts no execution."""
    create(chain("A"))
    server.control.add_fault("dropped", "StartPipelineExecution", count=1)
    with pytest.raises(ConnectionClosedError):
        sagemaker.start_pipeline_execution(PipelineName="Demo")
    assert (
        sagemaker.list_pipeline_executions(PipelineName="Demo")[
            "PipelineExecutionSummaries"
        ]
        == []
    )


def test_retries_of_botocore_start_one_execution(
    server: EmulatorServer,
    create: Callable[..., str],
    client_of: ClientOf,
    sagemaker: Any,
) -> None:
    """botocore repeats a request with the same token, so only one execution starts."""
    create(chain("A"))
    server.control.add_fault("lost_response", "StartPipelineExecution", count=1)
    client_of("sagemaker", retries=2).start_pipeline_execution(PipelineName="Demo")
    assert len(server.control.calls("StartPipelineExecution")) == 2
    assert (
        len(
            sagemaker.list_pipeline_executions(PipelineName="Demo")[
                "PipelineExecutionSummaries"
            ]
        )
        == 1
    )


def test_fault_limits(server: EmulatorServer, sagemaker: Any) -> None:
    """
    A fault skips the first requests, affects the given number of requests, and ends
    after its emulated seconds.
    """
    server.control.add_fault("throttle", "ListPipelines", skip=1, count=2)
    outcomes = []
    for _ in range(4):
        try:
            sagemaker.list_pipelines()
            outcomes.append("ok")
        except ClientError:
            outcomes.append("throttled")
    assert outcomes == ["ok", "throttled", "throttled", "ok"]
    server.control.add_fault("throttle", seconds=60)
    assert error_of(sagemaker.list_pipelines)[0] == "ThrottlingException"
    server.control.advance(60)
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []


@pytest.mark.parametrize("by_arn", [False, True])
def test_fault_for_one_pipeline_does_not_affect_others(
    server: EmulatorServer,
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
    by_arn: bool,
) -> None:
    """
    A fault for a pipeline affects only requests that name the pipeline or its
    executions, by name or ARN.
    """
    for name in ("Demo", "Other"):
        create(chain("A"), name)
    affected, unaffected = start("Demo"), start("Other")
    server.control.add_fault("throttle", pipeline="Demo")
    assert (
        error_of(sagemaker.describe_pipeline_execution, PipelineExecutionArn=affected)[
            1
        ]
        == "Rate exceeded"
    )
    name_or_arn = affected.rpartition("/execution/")[0] if by_arn else "DEMO"
    assert (
        error_of(sagemaker.start_pipeline_execution, PipelineName=name_or_arn)[1]
        == "Rate exceeded"
    )
    assert sagemaker.describe_pipeline_execution(PipelineExecutionArn=unaffected)
    assert sagemaker.start_pipeline_execution(PipelineName="Other")
    assert sagemaker.list_pipelines()


def test_faults_are_listed_and_removed(server: EmulatorServer, sagemaker: Any) -> None:
    """A fault without a limit is active until it is removed."""
    first = server.control.add_fault("throttle", count=5)
    second = server.control.add_fault("http", "GetCallerIdentity")
    with pytest.raises(ClientError):
        sagemaker.list_pipelines()
    assert [(f["id"], f["count"]) for f in server.control.faults()] == [
        (first, 4),
        (second, None),
    ]
    server.control.remove_faults(first)
    assert sagemaker.list_pipelines()
    server.control.remove_faults()
    assert server.control.faults() == []


def test_fault_for_another_service(server: EmulatorServer, client_of: ClientOf) -> None:
    """
    A fault for an operation of another service is returned in the protocol of that
    service.
    """
    error = {"code": "AccessDenied", "message": "No <entry>", "status": 403}
    server.control.add_fault("error", "GetCallerIdentity", count=1, **error)
    server.control.add_fault("error", "GET /bucket/key", count=1, **error)
    assert error_of(client_of("sts").get_caller_identity) == (
        "AccessDenied",
        "No <entry>",
    )
    assert error_of(client_of("s3").get_object, Bucket="bucket", Key="key") == (
        "AccessDenied",
        "No <entry>",
    )


def test_moto_request_with_a_lost_response_is_processed(
    server: EmulatorServer, client_of: ClientOf
) -> None:
    """moto processes a request before its response is lost."""
    server.control.add_fault("lost_response", "PUT /bucket", count=1)
    s3 = client_of("s3")
    with pytest.raises(ConnectionClosedError):
        s3.create_bucket(Bucket="bucket")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["bucket"]


def test_call_log_entry(
    server: EmulatorServer, create: Callable[..., str], client_of: ClientOf
) -> None:
    """An entry contains the request, its caller and its result."""
    create(chain("A"))
    client = client_of(
        "sagemaker",
        "eu-west-1",
        aws_access_key_id="AKIAOTHER",
        aws_secret_access_key="hush",
    )
    error_of(client.describe_pipeline, PipelineName="Demo")
    (entry,) = server.control.calls("DescribePipeline")
    assert entry["request"] == {"PipelineName": "Demo"}
    assert (entry["service"], entry["region"], entry["access_key_id"]) == (
        "sagemaker",
        "eu-west-1",
        "AKIAOTHER",
    )
    assert entry["user_agent"].startswith("Boto3/")
    assert (entry["status"], entry["error_code"]) == (400, "ResourceNotFound")
    assert entry["time"] == server.clock.now()
    assert server.control.calls(after=entry["id"]) == []
    server.control.clear_calls()
    assert server.control.calls() == []


def test_call_log_contains_no_secrets(
    server: EmulatorServer, client_of: ClientOf
) -> None:
    """The call log contains no keys, tokens and passwords."""
    keys = {
        "aws_secret_access_key": "s3cret-key",
        "aws_session_token": "s3cret-session",
    }
    sts = client_of("sts", aws_access_key_id="AKIATEST", **keys)
    sts.get_caller_identity()
    role = "arn:aws:iam::123456789012:role/R"
    token = {
        "RoleArn": role,
        "RoleSessionName": "me",
        "WebIdentityToken": "s3cret-token",
    }
    error_of(sts.assume_role_with_web_identity, **token)
    error_of(
        sts.assume_role,
        RoleArn=role,
        RoleSessionName="me",
        ExternalId="s3cret-external",
    )
    client_of("iam").create_user(UserName="bob")
    client_of("iam").create_login_profile(UserName="bob", Password="s3cret-password")
    calls = server.control.calls()
    assert len(calls) == 5
    assert "s3cret" not in str(calls)
    assert calls[1]["request"] == {"RoleArn": role, "RoleSessionName": "me"}
