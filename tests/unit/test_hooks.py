"""The hook: sign-in, user agent, pagination, and the mapping of errors."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
from botocore.session import Session

from polysync_airflow import __version__
from polysync_airflow.exceptions import HINTS, CredentialsError, SageMakerApiError
from polysync_airflow.execution.parameters import build_start_request
from polysync_airflow.hooks import PolysyncSageMakerHook
from sagemaker_emulator import EmulatorServer
from tests.conftest import ARN, use_connection
from tests.unit.sensors.sessions import start_execution
from tests.world import DESCRIBE, START, STOP, World

pytestmark = pytest.mark.usefixtures("emulator")

ROLE = "arn:aws:iam::123456789012:role/Execution"


def request(**arguments: Any) -> Any:
    """Return a valid start request."""
    return build_start_request(
        **{
            "pipeline_name": "Fanout",
            "execution_display_name": "x",
            "client_request_token": "polysync-" + "0" * 32,
            **arguments,
        }
    )


def error_from_aws(
    emulator: EmulatorServer, operation: str, code: str, call: Any, message: str = "no"
) -> SageMakerApiError:
    """Make the emulator return an error, and return the error that the hook raises."""
    emulator.control.add_fault("error", operation, code=code, message=message)
    with pytest.raises(SageMakerApiError) as caught:
        call(PolysyncSageMakerHook())
    assert (caught.value.error_code, caught.value.operation) == (code, operation)
    assert f"{operation} failed: {code}: {message}" in str(caught.value)
    return caught.value


def start(hook: PolysyncSageMakerHook) -> Any:
    """Start an execution without a role."""
    return hook.start_pipeline_execution(request())


def describe(hook: PolysyncSageMakerHook) -> Any:
    """Describe an execution."""
    return hook.describe_pipeline_execution(ARN)


def describe_pipeline(hook: PolysyncSageMakerHook) -> Any:
    """Describe a pipeline."""
    return hook.describe_pipeline("Fanout")


OPERATIONS: dict[Any, str] = {
    start: START,
    describe: DESCRIBE,
    describe_pipeline: "DescribePipeline",
}
IN_REGION = "arn:aws:sagemaker:us-east-1:<account>:pipeline"
START_ALLOWED = (
    f"sagemaker:StartPipelineExecution on {IN_REGION}/Fanout and {IN_REGION}/fanout in"
)
DESCRIBE_ALLOWED = f"sagemaker:DescribePipelineExecution on {ARN}"
POLICY_ALLOWS = "the IAM policy allows sagemaker:DescribePipeline on arn:aws:sagemaker:"


@pytest.mark.parametrize(
    ("call", "code", "texts", "permanent"),
    [
        (start, "AccessDeniedException", [START_ALLOWED], True),
        (describe, "AccessDeniedException", [DESCRIBE_ALLOWED], True),
        (start, "ResourceNotFound", ["pipeline 'Fanout'", "region us-east-1"], True),
        (describe, "ResourceNotFound", [ARN, "region us-east-1"], True),
        (start, "ValidationException", ["request's content"], True),
        (start, "ResourceLimitExceeded", ["Service Quotas", "us-east-1"], False),
        (describe, "ThrottlingException", ["poll_interval"], False),
        (describe, "ExpiredTokenException", ["session token has expired"], False),
        (describe, "ExpiredToken", ["session token has expired"], False),
        (describe_pipeline, "ResourceNotFound", ["no pipeline 'Fanout'"], True),
        (describe_pipeline, "ResourceNotFound", [POLICY_ALLOWS], True),
        (describe, "InvalidIdentityToken", ["OIDC provider", "thumbprint"], True),
        (describe, "UnrecognizedClientException", ["access key ID"], True),
        (describe, "SomethingNew", [], False),
    ],
)
def test_error_says_what_to_do(
    call: Any, code: str, texts: list[str], permanent: bool, emulator: EmulatorServer
) -> None:
    """
    The error has AWS's code, operation and message, and names the permission, resource
    or region.
    """
    error = error_from_aws(emulator, OPERATIONS[call], code, call)

    for text in texts:
        assert text in str(error)
    assert error.permanent is permanent
    assert error.transient is (code == "ThrottlingException")


def test_access_denied_of_a_start_with_a_role_names_pass_role(
    emulator: EmulatorServer,
) -> None:
    """
    The error names iam:PassRole, because AWS reports its absence as AccessDenied of the
    start.
    """
    hook = PolysyncSageMakerHook()
    client: Any = hook.conn
    model = client.meta.service_model.operation_model(OPERATIONS[start])
    members = model.input_shape.members
    with_role = request(execution_role_arn=ROLE)
    if "RoleArn" not in members:
        # An older botocore refuses the member before it sends the request. This test is
        # about AWS's error.
        members["RoleArn"] = members["PipelineName"]

    def start_with_role(_: Any) -> Any:
        return hook.start_pipeline_execution(with_role)

    code = "AccessDeniedException"
    error = error_from_aws(emulator, OPERATIONS[start], code, start_with_role)

    assert f"iam:PassRole on {ROLE}" in str(error)


def test_hint_names_the_invalid_parameter(emulator: EmulatorServer) -> None:
    """If AWS's message names a parameter of the request, the hint names it too."""
    error = error_from_aws(
        emulator,
        START,
        "ValidationException",
        lambda hook: hook.start_pipeline_execution(
            request(pipeline_parameters={"Shards": 1, "Other": 2})
        ),
        message="Unexpected type for parameter 'Shards'.",
    )

    assert "(parameter Shards)" in str(error)


def test_every_hint_can_be_formatted(emulator: EmulatorServer) -> None:
    """The hook has a value for each placeholder in the texts of ``HINTS``."""
    for code in HINTS:
        emulator.control.remove_faults()
        error_from_aws(emulator, DESCRIBE, code, describe)


def fault_of(kind: str, code: str = "", status: int = 400) -> dict[str, Any]:
    """
    Return a fault for the emulator. The default values have no effect on faults of
    other kinds.
    """
    fault = {"kind": kind, "status": status}
    return {**fault, "code": code, "message": "no"} if code else fault


@pytest.mark.parametrize(
    ("fault", "permanent", "transient"),
    [
        (fault_of("throttle"), False, True),
        (fault_of("error", "TooManyRequestsException", 429), False, True),
        (fault_of("error", "ConflictException"), False, True),
        (fault_of("error", "InternalFailure", 500), False, True),
        (fault_of("http", status=502), False, True),
        (fault_of("http", status=429), False, True),
        (fault_of("dropped"), False, True),
        (fault_of("http", status=407), False, False),
        (fault_of("error", "AccessDeniedException", 500), True, False),
    ],
    ids=lambda value: (
        "-".join(map(str, value.values())) if isinstance(value, dict) else None
    ),
)
def test_error_is_permanent_or_transient(
    fault: dict[str, Any], permanent: bool, transient: bool, emulator: EmulatorServer
) -> None:
    """
    The hint of the error code decides, otherwise the HTTP status; a missing response is
    transient.
    """
    emulator.control.add_fault(operation=DESCRIBE, **fault)

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
        (SSLError(endpoint_url="https://aws", error=OSError("reset")), True),
        (NoCredentialsError(), False),
        (ParamValidationError(report="no"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_connection_errors_are_transient(
    error: BotoCoreError,
    transient: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Errors that botocore itself retries are transient; errors before a request is sent
    are not.
    """
    hook = PolysyncSageMakerHook()

    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(hook.conn, "describe_pipeline_execution", fail)
    with pytest.raises(SageMakerApiError) as caught:
        describe(hook)

    assert caught.value.transient is transient


@pytest.mark.parametrize(("conflicts", "stops"), [(4, ["Stopping"]), (5, [])])
def test_stop_is_repeated_while_an_execution_moves_between_two_steps(
    conflicts: int, stops: list[str], world: World
) -> None:
    """For a second."""
    arn = start_execution()
    world.control.add_fault(
        "error", STOP, code="ConflictException", message="no", count=conflicts
    )

    with suppress(SageMakerApiError):
        PolysyncSageMakerHook().stop_pipeline_execution(arn)

    assert [each for each in world.log.statuses if each != "Executing"] == stops
    assert world.calls(STOP) == 5 * [STOP]


def test_keys_region_and_endpoint_come_from_the_connection(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook does not use AWS settings of the host."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHOSTHOSTHOSTHOST")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    list(PolysyncSageMakerHook().list_pipelines())
    list(PolysyncSageMakerHook(region_name="eu-central-1").list_pipelines())

    calls = emulator.control.calls("ListPipelines")
    # CloudTrail shows it.
    assert f"polysync-airflow/{__version__}" in calls[0]["user_agent"]
    assert "cfg/retry-mode#standard" in calls[0]["user_agent"]
    assert [(call["access_key_id"], call["region"]) for call in calls] == [
        ("AKIAIOSFODNN7EXAMPLE", "us-east-1"),
        ("AKIAIOSFODNN7EXAMPLE", "eu-central-1"),
    ]


def test_aws_connection_keeps_its_settings(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Connections of type ``aws`` work without changes, and their botocore settings
    override the defaults.
    """
    use_connection(
        monkeypatch,
        "my_aws",
        conn_type="aws",
        login="AKIAOTHEROTHEROTHER0",
        region_name="eu-west-1",
        endpoint_url=emulator.endpoint_url,
        config_kwargs={"retries": {"mode": "legacy"}},
    )

    list(PolysyncSageMakerHook("my_aws").list_pipelines())

    (call,) = emulator.control.calls("ListPipelines")
    assert call["access_key_id"] == "AKIAOTHEROTHEROTHER0"
    assert call["region"] == "eu-west-1"
    assert "cfg/retry-mode#legacy" in call["user_agent"]
    assert f"polysync-airflow/{__version__}" in call["user_agent"]


def test_session_token_is_used_and_masked(
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    The session of temporary keys has the session token, and Airflow masks the secrets.
    """
    from airflow.providers.common.compat.sdk import redact

    secrets = {"password": "the-secret-key-0", "session_token": "the-session-token-0"}
    use_connection(monkeypatch, endpoint_url=emulator.endpoint_url, **secrets)
    hook = PolysyncSageMakerHook()

    frozen = hook.get_session().get_credentials().get_frozen_credentials()  # type: ignore[union-attr]

    assert frozen.token == "the-session-token-0"
    assert "the-session-token-0" not in str(redact("x the-session-token-0 y"))
    assert "the-secret-key-0" not in str(redact("x the-secret-key-0 y"))
    assert "the-se" not in repr(hook.credentials)


def test_failed_sign_in_names_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An ``aws`` connection with a missing profile raises an error that names the
    connection.
    """
    extra = {"region_name": "eu-west-1", "profile_name": "no-such"}
    conn = json.dumps({"conn_type": "aws", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_MY_AWS", conn)

    with pytest.raises(CredentialsError, match=r"connection 'my_aws'.*no-such"):
        list(PolysyncSageMakerHook("my_aws").list_pipelines())


def test_threads_that_share_a_hook_share_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Eight threads that use a hook for the first time at the same time make one client.
    """
    create_client = Session.create_client
    created: list[str] = []

    def create_slowly(
        session: Session, service: str, *arguments: Any, **settings: Any
    ) -> Any:
        created.append(service)
        time.sleep(0.1)
        return create_client(session, service, *arguments, **settings)

    monkeypatch.setattr(Session, "create_client", create_slowly)
    hook = PolysyncSageMakerHook()

    with ThreadPoolExecutor(8) as pool:
        pipelines = list(pool.map(hook.describe_pipeline, ["fanout"] * 8))

    assert [pipeline.name for pipeline in pipelines] == ["fanout"] * 8
    assert created == ["sagemaker"]
