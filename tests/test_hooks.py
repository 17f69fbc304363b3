"""The hook: how it signs in, what it tells AWS of itself, how it reads pages, and how it explains refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)

from polysync_airflow import __version__
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import HINTS, CredentialsError, SageMakerApiError
from polysync_airflow.execution.parameters import build_start_request
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.conftest import connection

EXECUTION = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"
ROLE = "arn:aws:iam::123456789012:role/Execution"


def request(**arguments: Any) -> Any:
    """Build a legal start."""
    return build_start_request(
        **{
            "pipeline_name": "Fanout",
            "execution_display_name": "x",
            "client_request_token": "polysync-" + "0" * 32,
            **arguments,
        }
    )


def refusal(
    emulator: EmulatorServer, operation: str, code: str, call: Any, message: str = "no"
) -> SageMakerApiError:
    """Provoke an error of AWS and return ours."""
    emulator.control.add_fault("error", operation, code=code, message=message)
    with pytest.raises(SageMakerApiError) as caught:
        call(PolysyncSageMakerHook())
    assert (caught.value.error_code, caught.value.operation) == (code, operation)
    assert f"{operation} failed: {code}: {message}" in str(caught.value)
    return caught.value


def start(hook: PolysyncSageMakerHook) -> Any:
    """Start without a role."""
    return hook.start_pipeline_execution(request())


def describe(hook: PolysyncSageMakerHook) -> Any:
    """Look at some execution."""
    return hook.describe_pipeline_execution(EXECUTION)


@pytest.mark.parametrize(
    ("operation", "code", "call", "says", "permanent"),
    [
        (
            "StartPipelineExecution",
            "AccessDeniedException",
            start,
            ["sagemaker:StartPipelineExecution on arn:aws:sagemaker:us-east-1:<account>:pipeline/fanout "],
            True,
        ),
        (
            "DescribePipelineExecution",
            "AccessDeniedException",
            describe,
            [f"sagemaker:DescribePipelineExecution on {EXECUTION}"],
            True,
        ),
        (
            "StartPipelineExecution",
            "ResourceNotFound",
            start,
            ["pipeline 'Fanout'", "region us-east-1"],
            True,
        ),
        ("DescribePipelineExecution", "ResourceNotFound", describe, [EXECUTION, "region us-east-1"], True),
        ("StartPipelineExecution", "ValidationException", start, ["request's content"], True),
        ("StartPipelineExecution", "ResourceLimitExceeded", start, ["Service Quotas", "us-east-1"], False),
        ("DescribePipelineExecution", "ThrottlingException", describe, ["poll_interval"], False),
        (
            "DescribePipelineExecution",
            "ExpiredTokenException",
            describe,
            ["session token has expired"],
            False,
        ),
        ("DescribePipelineExecution", "ExpiredToken", describe, ["session token has expired"], False),
        ("DescribePipelineExecution", "InvalidIdentityToken", describe, ["OIDC provider"], True),
        ("DescribePipelineExecution", "UnrecognizedClientException", describe, ["access key ID"], True),
        ("DescribePipelineExecution", "SomethingNew", describe, [], False),
    ],
)
def test_every_refusal_says_what_to_do(
    operation: str, code: str, call: Any, says: list[str], permanent: bool, emulator: EmulatorServer
) -> None:
    """AWS's code, operation and words are kept; the cure names permission, resource and region."""
    error = refusal(emulator, operation, code, call)

    for text in says:
        assert text in str(error)
    assert error.permanent is permanent


def test_a_refused_start_with_a_role_names_pass_role(emulator: EmulatorServer) -> None:
    """AWS words a missing iam:PassRole as AccessDenied of the start itself."""
    hook = PolysyncSageMakerHook()
    client: Any = hook.conn
    known = client.meta.service_model.operation_model("StartPipelineExecution").input_shape.members
    with_role = request(execution_role_arn=ROLE)
    if "RoleArn" not in known:
        # What a newer botocore sends, this one refuses by itself: the explanation is what is tested.
        known["RoleArn"] = known["PipelineName"]

    error = refusal(
        emulator,
        "StartPipelineExecution",
        "AccessDeniedException",
        lambda _: hook.start_pipeline_execution(with_role),
    )

    assert f"iam:PassRole on {ROLE}" in str(error)


def test_a_refused_parameter_is_named(emulator: EmulatorServer) -> None:
    """Where AWS's text names one of the parameters that were sent, so does the hint."""
    error = refusal(
        emulator,
        "StartPipelineExecution",
        "ValidationException",
        lambda hook: hook.start_pipeline_execution(request(pipeline_parameters={"Shards": 1, "Other": 2})),
        message="Unexpected type for parameter 'Shards'.",
    )

    assert "(parameter Shards)" in str(error)


def test_every_hint_can_be_filled_in(emulator: EmulatorServer) -> None:
    """No entry of the table asks for a fact that the hook does not have."""
    for code in HINTS:
        emulator.control.remove_faults()
        refusal(emulator, "DescribePipelineExecution", code, describe)


def test_no_answer_is_an_api_error_that_time_may_cure(emulator: EmulatorServer) -> None:
    """A dropped connection is told by botocore's name for it, and a wait goes on."""
    emulator.control.add_fault("dropped", "DescribePipelineExecution")

    with pytest.raises(SageMakerApiError) as caught:
        describe(PolysyncSageMakerHook())

    assert caught.value.error_code == "ConnectionClosedError"
    assert not caught.value.permanent


def fault_of(kind: str, code: str = "", status: int = 400) -> dict[str, Any]:
    """Describe one fault; what is not told does not matter to its kind."""
    return {"kind": kind, "status": status, **({"code": code, "message": "no"} if code else {})}


@pytest.mark.parametrize(
    ("fault", "permanent", "transient"),
    [
        (fault_of("throttle"), False, True),
        (fault_of("error", "Throttling"), False, True),
        (fault_of("error", "RequestLimitExceeded", 503), False, True),
        (fault_of("error", "TooManyRequestsException", 429), False, True),
        (fault_of("error", "ConflictException"), False, True),
        (fault_of("error", "InternalFailure", 500), False, True),
        (fault_of("error", "ServiceUnavailable", 503), False, True),
        (fault_of("http", status=502), False, True),
        (fault_of("http", status=429), False, True),
        (fault_of("dropped"), False, True),
        (fault_of("lost_response"), False, True),
        (fault_of("error", "ResourceLimitExceeded"), False, False),
        (fault_of("error", "ResourceLimitExceeded", 503), False, False),
        (fault_of("error", "ExpiredTokenException"), False, False),
        (fault_of("error", "SomethingNew"), False, False),
        (fault_of("http", status=407), False, False),
        (fault_of("error", "AccessDeniedException"), True, False),
        (fault_of("error", "AccessDeniedException", 500), True, False),
        (fault_of("error", "ValidationException"), True, False),
        (fault_of("error", "ResourceNotFound"), True, False),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_an_error_knows_whether_moments_may_cure_it(
    fault: dict[str, Any], permanent: bool, transient: bool, emulator: EmulatorServer
) -> None:
    """By AWS's code where we know it, else by the HTTP status; no answer passes, what lasts never does."""
    emulator.control.add_fault(operation="DescribePipelineExecution", **fault)

    with pytest.raises(SageMakerApiError) as caught:
        describe(PolysyncSageMakerHook())

    assert (caught.value.permanent, caught.value.transient) == (permanent, transient)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (EndpointConnectionError(endpoint_url="https://aws", error="refused"), True),
        (ConnectTimeoutError(endpoint_url="https://aws", error="slow"), True),
        (ReadTimeoutError(endpoint_url="https://aws", error="slow"), True),
        (ConnectionClosedError(endpoint_url="https://aws", error="gone"), True),
        (ProxyConnectionError(proxy_url="https://proxy", error="gone"), True),
        (SSLError(endpoint_url="https://aws", error=OSError("reset in the handshake")), True),
        (NoCredentialsError(), False),
        (ParamValidationError(report="no"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_no_answer_may_pass_in_moments(
    error: BotoCoreError, transient: bool, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that botocore itself calls transient; not what it refuses before anything is sent."""
    hook = PolysyncSageMakerHook()

    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(hook.conn, "describe_pipeline_execution", fail)
    with pytest.raises(SageMakerApiError) as caught:
        describe(hook)

    assert caught.value.transient is transient


def test_all_pages_are_read(emulator: EmulatorServer) -> None:
    """Lists go on to the last page, a hundred a page."""
    hook = PolysyncSageMakerHook()
    client: Any = hook.conn
    definition = json.dumps({"Version": "2020-12-01", "Steps": [{"Name": "A", "Type": "Processing"}]})
    for n in range(205):
        client.create_pipeline(
            PipelineName=f"p-{n:03}",
            PipelineDefinition=definition,
            RoleArn=ROLE,
            ClientRequestToken=f"{n:032}",
        )
    emulator.control.clear_calls()

    names = [summary.name for summary in hook.list_pipelines("p")]

    assert names == [f"p-{n:03}" for n in range(205)]
    calls = emulator.control.calls("ListPipelines")
    assert [call["request"]["MaxResults"] for call in calls] == [100, 100, 100]
    assert all(call["request"]["PipelineNamePrefix"] == "p" for call in calls)


def test_calls_tell_who_makes_them_and_retry_in_standard_mode(emulator: EmulatorServer) -> None:
    """Account owners find the provider and its version in CloudTrail."""
    with pytest.raises(SageMakerApiError):
        describe(PolysyncSageMakerHook())

    (call,) = emulator.control.calls("DescribePipelineExecution")
    assert f"polysync-airflow/{__version__}" in call["user_agent"]
    assert "cfg/retry-mode#standard" in call["user_agent"]


def test_keys_region_and_endpoint_are_the_connections(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the host's own AWS settings is used."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHOSTHOSTHOSTHOST")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    list(PolysyncSageMakerHook().list_pipelines())
    list(PolysyncSageMakerHook(region_name="eu-central-1").list_pipelines())

    calls = emulator.control.calls("ListPipelines")
    assert [(call["access_key_id"], call["region"]) for call in calls] == [
        ("AKIAIOSFODNN7EXAMPLE", "us-east-1"),
        ("AKIAIOSFODNN7EXAMPLE", "eu-central-1"),
    ]


def test_an_ordinary_aws_connection_goes_through_the_amazon_provider(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Existing ``aws`` connections work as they are, their botocore settings before ours."""
    extra = {
        "region_name": "eu-west-1",
        "endpoint_url": emulator.endpoint_url,
        "config_kwargs": {"retries": {"mode": "legacy"}},
    }
    monkeypatch.setenv(
        "AIRFLOW_CONN_MY_AWS",
        json.dumps({"conn_type": "aws", "login": "AKIAOTHEROTHEROTHER0", "password": "s", "extra": extra}),
    )

    list(PolysyncSageMakerHook("my_aws").list_pipelines())

    (call,) = emulator.control.calls("ListPipelines")
    assert (call["access_key_id"], call["region"]) == ("AKIAOTHEROTHEROTHER0", "eu-west-1")
    assert "cfg/retry-mode#legacy" in call["user_agent"]
    assert f"polysync-airflow/{__version__}" in call["user_agent"]


def test_a_session_token_is_sent_and_masked(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Temporary keys work, and their secrets are known to Airflow's masker."""
    from airflow.sdk._shared.secrets_masker import redact

    monkeypatch.setenv(
        "AIRFLOW_CONN_POLYSYNC_DEFAULT",
        connection(
            password="the-secret-key-0",
            session_token="the-session-token-0",
            endpoint_url=emulator.endpoint_url,
        ),
    )
    hook = PolysyncSageMakerHook()

    frozen = hook.get_session().get_credentials().get_frozen_credentials()  # type: ignore[union-attr]

    assert frozen.token == "the-session-token-0"
    assert "the-session-token-0" not in str(redact("x the-session-token-0 y"))
    assert "the-secret-key-0" not in str(redact("x the-secret-key-0 y"))
    assert "the-se" not in repr(hook.credentials)


def test_a_sign_in_that_fails_is_told_as_such(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ``aws`` connection whose profile is missing names the connection, not a stack of botocore."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_MY_AWS",
        json.dumps({"conn_type": "aws", "extra": {"region_name": "eu-west-1", "profile_name": "no-such"}}),
    )

    with pytest.raises(CredentialsError, match=r"connection 'my_aws'.*no-such"):
        list(PolysyncSageMakerHook("my_aws").list_pipelines())
