"""Fixtures of the emulator's tests: one server for all, brought back to the beginning before each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from polysync_airflow.emulator import EmulatorServer, VirtualClock
from tests.emulator.builders import ROLE
from tests.emulator.sign_in.issuer import Issuer, certificates, running

ClientOf = Callable[..., Any]


@pytest.fixture(scope="session")
def issuer_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The certificate authority that the emulator trusts, and the certificate of the issuer of tokens."""
    return certificates(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="session")
def _server(issuer_files: tuple[Path, Path]) -> Iterator[EmulatorServer]:
    with EmulatorServer(clock=VirtualClock(), issuer_ca=issuer_files[0]) as server:
        yield server


@pytest.fixture
def issuer(issuer_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """A running issuer of web identity tokens, named as Microsoft Entra's v2 issuers are."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running("/tenant/v2.0", issuer_files[1]) as found:
        yield found


@pytest.fixture
def server(_server: EmulatorServer) -> EmulatorServer:
    """An empty emulator with a virtual clock."""
    _server.control.reset()
    return _server


@pytest.fixture
def client_of(server: EmulatorServer) -> ClientOf:
    """Make boto3 clients of the emulator, without retries of their own."""

    # The stubs of boto3.client have one overload per literal service name.
    factory: Any = boto3.client

    def make(service: str, region: str = "us-east-1", retries: int = 0, **credentials: str) -> Any:
        credentials = credentials or {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "secret"}
        config = Config(retries={"total_max_attempts": retries + 1}, read_timeout=10)
        return factory(
            service, endpoint_url=server.endpoint_url, region_name=region, config=config, **credentials
        )

    return make


@pytest.fixture
def create_session(client_of: ClientOf) -> Callable[..., Any]:
    """Make a boto3 client with the credentials of an STS answer."""

    def make(service: str, answer: dict[str, Any], region: str = "us-east-1") -> Any:
        given = answer["Credentials"]
        return client_of(
            service,
            region,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
        )

    return make


@pytest.fixture
def user(client_of: ClientOf) -> Callable[..., Any]:
    """Make an IAM user, and boto3 clients with its access key."""

    def make(service: str, name: str = "airflow") -> Any:
        iam = client_of("iam")
        if name not in keys:
            iam.create_user(UserName=name)
            keys[name] = iam.create_access_key(UserName=name)["AccessKey"]
        given = keys[name]
        return client_of(
            service,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
        )

    keys: dict[str, Any] = {}
    return make


@pytest.fixture
def sagemaker(client_of: ClientOf) -> Any:
    """A SageMaker client in us-east-1."""
    return client_of("sagemaker")


@pytest.fixture
def create(sagemaker: Any) -> Callable[..., str]:
    """Create a pipeline from a definition's text and return its name."""

    def make(text: str, name: str = "Demo", **more: Any) -> str:
        sagemaker.create_pipeline(PipelineName=name, PipelineDefinition=text, RoleArn=ROLE, **more)
        return name

    return make


@pytest.fixture
def start(sagemaker: Any) -> Callable[..., str]:
    """Start an execution and return its ARN; keyword arguments are pipeline parameters."""

    def make(pipeline: str = "Demo", **parameters: str) -> str:
        values = [{"Name": name, "Value": value} for name, value in parameters.items()]
        answer = sagemaker.start_pipeline_execution(PipelineName=pipeline, PipelineParameters=values)
        return str(answer["PipelineExecutionArn"])

    return make


@pytest.fixture
def status_of(sagemaker: Any) -> Callable[[str], str]:
    """Return an execution's status."""

    def read(arn: str) -> str:
        return str(sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"])

    return read


@pytest.fixture
def steps_of(sagemaker: Any) -> Callable[[str], dict[str, dict[str, Any]]]:
    """Return an execution's steps by name, in the order in which they started."""

    def read(arn: str) -> dict[str, dict[str, Any]]:
        answer = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn, SortOrder="Ascending")
        return {entry["StepName"]: entry for entry in answer["PipelineExecutionSteps"]}

    return read


@pytest.fixture
def shared_definitions() -> Path:
    """The definitions that come with the example DAGs."""
    return Path(__file__).parents[2] / "example_dags" / "definitions"
