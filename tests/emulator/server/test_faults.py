"""Faults and the call log, as a client meets them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from polysync_airflow.emulator import EmulatorServer
from tests.emulator.builders import chain
from tests.emulator.conftest import ClientOf
from tests.emulator.sagemaker.test_pipelines import refusal


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "throttle"}, ("ThrottlingException", "Rate exceeded")),
        (
            {"kind": "error", "code": "ConflictException", "message": "Between two steps"},
            ("ConflictException", "Between two steps"),
        ),
        (
            {"kind": "error", "code": "ExpiredTokenException", "message": "Expired", "status": 403},
            ("ExpiredTokenException", "Expired"),
        ),
    ],
)
def test_an_aws_error_is_answered(
    server: EmulatorServer, sagemaker: Any, fault: dict[str, Any], expected: tuple[str, str]
) -> None:
    """A throttle or error fault is the AWS error it names, for that operation only, and then it is over."""
    server.control.add_fault(operation="ListPipelines", count=1, **fault)
    assert refusal(sagemaker.describe_pipeline, PipelineName="x")[0] == "ResourceNotFound"
    assert refusal(sagemaker.list_pipelines) == expected
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    logged = [(c["status"], c["error_code"], c["fault"]) for c in server.control.calls("ListPipelines")]
    assert logged == [(fault.get("status", 400), expected[0], fault["kind"]), (200, None, None)]


@pytest.mark.parametrize("status", [500, 503])
def test_a_http_error_has_no_aws_error(server: EmulatorServer, sagemaker: Any, status: int) -> None:
    """A http fault is a bare status."""
    server.control.add_fault("http", count=1, status=status)
    with pytest.raises(ClientError) as error:
        sagemaker.list_pipelines()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_latency_only_delays(server: EmulatorServer, sagemaker: Any) -> None:
    """A latency fault answers late, and other requests in the meantime."""
    server.control.add_fault("latency", "ListPipelines", delay=0.3, count=1)
    begin = time.monotonic()
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    assert time.monotonic() - begin >= 0.3


def test_a_lost_response_was_processed(
    server: EmulatorServer, create: Callable[..., str], sagemaker: Any
) -> None:
    """After a lost response the execution exists; the same token finds it again."""
    create(chain("A"))
    server.control.add_fault("lost_response", "StartPipelineExecution", count=1)
    request = {"PipelineName": "Demo", "ClientRequestToken": "t" * 32}
    with pytest.raises(ConnectionClosedError):
        sagemaker.start_pipeline_execution(**request)
    (summary,) = sagemaker.list_pipeline_executions(PipelineName="Demo")["PipelineExecutionSummaries"]
    again = sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"]
    assert again == summary["PipelineExecutionArn"]
    first = server.control.calls("StartPipelineExecution")[0]
    assert (first["fault"], first["status"]) == ("lost_response", 0)


def test_a_dropped_request_was_not_processed(
    server: EmulatorServer, create: Callable[..., str], sagemaker: Any
) -> None:
    """After a dropped request nothing has happened."""
    create(chain("A"))
    server.control.add_fault("dropped", "StartPipelineExecution", count=1)
    with pytest.raises(ConnectionClosedError):
        sagemaker.start_pipeline_execution(PipelineName="Demo")
    assert sagemaker.list_pipeline_executions(PipelineName="Demo")["PipelineExecutionSummaries"] == []


def test_botocores_own_retries_start_one_execution(
    server: EmulatorServer, create: Callable[..., str], client_of: ClientOf, sagemaker: Any
) -> None:
    """botocore repeats a lost request with the same token, so that there is one execution."""
    create(chain("A"))
    server.control.add_fault("lost_response", "StartPipelineExecution", count=1)
    client_of("sagemaker", retries=2).start_pipeline_execution(PipelineName="Demo")
    assert len(server.control.calls("StartPipelineExecution")) == 2
    assert len(sagemaker.list_pipeline_executions(PipelineName="Demo")["PipelineExecutionSummaries"]) == 1


def test_faults_skip_count_and_end(server: EmulatorServer, sagemaker: Any) -> None:
    """A fault lets the first requests pass, hits so many and ends after its emulated seconds."""
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
    assert refusal(sagemaker.list_pipelines)[0] == "ThrottlingException"
    server.control.advance(60)
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []


@pytest.mark.parametrize("by_arn", [False, True])
def test_a_fault_of_one_pipeline_spares_the_others(
    server: EmulatorServer,
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
    by_arn: bool,
) -> None:
    """A fault with a pipeline hits what names it or its executions, by name or ARN, and nothing else."""
    for name in ("Demo", "Other"):
        create(chain("A"), name)
    hit, spared = start("Demo"), start("Other")
    server.control.add_fault("throttle", pipeline="Demo")
    assert refusal(sagemaker.describe_pipeline_execution, PipelineExecutionArn=hit)[1] == "Rate exceeded"
    named = hit.rpartition("/execution/")[0] if by_arn else "DEMO"
    assert refusal(sagemaker.start_pipeline_execution, PipelineName=named)[1] == "Rate exceeded"
    assert sagemaker.describe_pipeline_execution(PipelineExecutionArn=spared)
    assert sagemaker.start_pipeline_execution(PipelineName="Other")
    assert sagemaker.list_pipelines()


def test_faults_are_listed_and_removed(server: EmulatorServer, sagemaker: Any) -> None:
    """A fault without limit holds until it is removed."""
    first = server.control.add_fault("throttle", count=5)
    second = server.control.add_fault("http", "GetCallerIdentity")
    with pytest.raises(ClientError):
        sagemaker.list_pipelines()
    assert [(f["id"], f["count"]) for f in server.control.faults()] == [(first, 4), (second, None)]
    server.control.remove_faults(first)
    assert sagemaker.list_pipelines()
    server.control.remove_faults()
    assert server.control.faults() == []


def test_other_services_have_faults_too(server: EmulatorServer, client_of: ClientOf) -> None:
    """A fault for an operation of moto's is answered in that service's protocol."""
    error = {"code": "AccessDenied", "message": "No <entry>", "status": 403}
    server.control.add_fault("error", "GetCallerIdentity", count=1, **error)
    server.control.add_fault("error", "GET /bucket/key", count=1, **error)
    assert refusal(client_of("sts").get_caller_identity) == ("AccessDenied", "No <entry>")
    assert refusal(client_of("s3").get_object, Bucket="bucket", Key="key") == ("AccessDenied", "No <entry>")


def test_a_lost_response_of_moto_was_processed(server: EmulatorServer, client_of: ClientOf) -> None:
    """moto has done its work before its answer is lost."""
    server.control.add_fault("lost_response", "PUT /bucket", count=1)
    s3 = client_of("s3")
    with pytest.raises(ConnectionClosedError):
        s3.create_bucket(Bucket="bucket")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["bucket"]


def test_the_call_log_tells_who_asked_what(
    server: EmulatorServer, create: Callable[..., str], client_of: ClientOf
) -> None:
    """An entry has the request, its caller and its outcome."""
    create(chain("A"))
    client = client_of("sagemaker", "eu-west-1", aws_access_key_id="AKIAOTHER", aws_secret_access_key="hush")
    refusal(client.describe_pipeline, PipelineName="Demo")
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


def test_the_call_log_has_no_secrets(server: EmulatorServer, client_of: ClientOf) -> None:
    """Neither keys nor tokens nor passwords are logged."""
    keys = {"aws_secret_access_key": "s3cret-key", "aws_session_token": "s3cret-session"}
    sts = client_of("sts", aws_access_key_id="AKIATEST", **keys)
    sts.get_caller_identity()
    role = "arn:aws:iam::123456789012:role/R"
    token = {"RoleArn": role, "RoleSessionName": "me", "WebIdentityToken": "s3cret-token"}
    refusal(sts.assume_role_with_web_identity, **token)
    refusal(sts.assume_role, RoleArn=role, RoleSessionName="me", ExternalId="s3cret-external")
    client_of("iam").create_user(UserName="bob")
    client_of("iam").create_login_profile(UserName="bob", Password="s3cret-password")
    client_of("secretsmanager").create_secret(Name="n", SecretString="s3cret-string")
    calls = server.control.calls()
    assert len(calls) == 6
    assert "s3cret" not in str(calls)
    assert calls[1]["request"] == {"RoleArn": role, "RoleSessionName": "me"}
