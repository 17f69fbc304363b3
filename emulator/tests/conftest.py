"""
Fixtures of the emulator's tests: all tests share one server, which is reset before each
test.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from quick_emulator import connections_without_sockets

from sagemaker_emulator import EXAMPLE_DEFINITIONS, EmulatorServer, Limits, VirtualClock
from sagemaker_emulator.builders import ROLE
from tests.sign_in.issuer import Issuer, certificates, running

# The server's calls make so many objects that Python would look for garbage all the
# time.
gc.set_threshold(50_000, 10, 10)
# Tests must not use credentials of this host.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
for _name in (
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
):
    os.environ.pop(_name, None)

ClientOf = Callable[..., Any]
#: By which names other containers might reach the server.
HOSTS = ("sagemaker", "emulator.team_default", "172.18.0.3")


def pytest_collection_finish() -> None:
    """Let Python's garbage collector leave out what has been imported."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """
    Let pytest find nothing to collect: it looks for garbage five times at the end.
    """
    gc.freeze()


@pytest.fixture(scope="session")
def issuer_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """
    The files of the CA that the emulator trusts, and of the certificate of the token
    issuer.
    """
    return certificates(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="session")
def _server(issuer_files: tuple[Path, Path]) -> Iterator[EmulatorServer]:
    with (
        EmulatorServer(
            clock=VirtualClock(),
            issuer_ca=issuer_files[0],
            allowed_hosts=HOSTS,
            limits=Limits(max_steps=200, max_executions=1000),
        ) as server,
        connections_without_sockets(server),
    ):
        yield server


@pytest.fixture
def lenient(server: EmulatorServer) -> Iterator[None]:
    """Let the emulator accept definitions that AWS would refuse."""
    limits = server.sagemaker.limits
    server.sagemaker.limits = replace(limits, lenient=True)
    yield
    server.sagemaker.limits = limits


@pytest.fixture
def issuer(
    issuer_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Issuer]:
    """
    A running issuer of web identity tokens, with a URL like the v2 issuers of Microsoft
    Entra.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running("/tenant/v2.0", issuer_files[1]) as running_issuer:
        yield running_issuer


@pytest.fixture
def server(_server: EmulatorServer) -> EmulatorServer:
    """An emulator without pipelines and with a virtual clock."""
    _server.control.reset()
    # Earlier tests may have stopped it within a millisecond, to which responses round.
    if fraction := -_server.clock.now() % 1:
        _server.control.advance(fraction)
    return _server


@pytest.fixture
def new_client_of(server: EmulatorServer) -> ClientOf:
    """Create boto3 clients of the emulator, by default without retries."""

    # The type stubs of boto3.client have one overload for each literal service name.
    factory: Any = boto3.client

    def make(
        service: str, region: str = "us-east-1", retries: int = 0, **credentials: str
    ) -> Any:
        credentials = credentials or {
            "aws_access_key_id": "AKIATEST",
            "aws_secret_access_key": "secret",
        }
        config = Config(retries={"total_max_attempts": retries + 1}, read_timeout=10)
        return factory(
            service,
            endpoint_url=server.endpoint_url,
            region_name=region,
            config=config,
            **credentials,
        )

    return make


@pytest.fixture(scope="session")
def _clients() -> dict[Any, Any]:
    return {}


@pytest.fixture
def client_of(new_client_of: ClientOf, _clients: dict[Any, Any]) -> ClientOf:
    """
    Return boto3 clients of the emulator. All tests share them: a new one takes as long
    as many calls.
    """

    def get(*arguments: Any, **options: Any) -> Any:
        key = (arguments, *sorted(options.items()))
        if key not in _clients:
            _clients[key] = new_client_of(*arguments, **options)
        return _clients[key]

    return get


@pytest.fixture
def create_session(client_of: ClientOf) -> Callable[..., Any]:
    """Create a boto3 client with the credentials in an STS response."""

    def make(service: str, response: dict[str, Any], region: str = "us-east-1") -> Any:
        credentials = response["Credentials"]
        return client_of(
            service,
            region,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )

    return make


@pytest.fixture
def user(client_of: ClientOf) -> Callable[..., Any]:
    """Create an IAM user, and boto3 clients with its access key."""

    def make(service: str, name: str = "airflow") -> Any:
        iam = client_of("iam")
        if name not in keys:
            iam.create_user(UserName=name)
            keys[name] = iam.create_access_key(UserName=name)["AccessKey"]
        access_key = keys[name]
        return client_of(
            service,
            aws_access_key_id=access_key["AccessKeyId"],
            aws_secret_access_key=access_key["SecretAccessKey"],
        )

    keys: dict[str, Any] = {}
    return make


@pytest.fixture
def sagemaker(client_of: ClientOf) -> Any:
    """A SageMaker client in us-east-1."""
    return client_of("sagemaker")


@pytest.fixture
def create(sagemaker: Any) -> Callable[..., str]:
    """Create a pipeline from the text of a definition, and return its name."""

    def make(text: str, name: str = "Demo", **more: Any) -> str:
        sagemaker.create_pipeline(
            PipelineName=name, PipelineDefinition=text, RoleArn=ROLE, **more
        )
        return name

    return make


@pytest.fixture
def start(sagemaker: Any) -> Callable[..., str]:
    """
    Start an execution and return its ARN. The keyword arguments are pipeline
    parameters.
    """

    def make(pipeline: str = "Demo", **parameters: str) -> str:
        values = [{"Name": name, "Value": value} for name, value in parameters.items()]
        response = sagemaker.start_pipeline_execution(
            PipelineName=pipeline, PipelineParameters=values
        )
        return str(response["PipelineExecutionArn"])

    return make


@pytest.fixture
def status_of(sagemaker: Any) -> Callable[[str], str]:
    """Return the status of an execution."""

    def read(arn: str) -> str:
        return str(
            sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)[
                "PipelineExecutionStatus"
            ]
        )

    return read


@pytest.fixture
def steps_of(sagemaker: Any) -> Callable[[str], dict[str, dict[str, Any]]]:
    """Return the steps of an execution by name, in the order of their starts."""

    def read(arn: str) -> dict[str, dict[str, Any]]:
        response = sagemaker.list_pipeline_execution_steps(
            PipelineExecutionArn=arn, SortOrder="Ascending"
        )
        return {
            entry["StepName"]: entry for entry in response["PipelineExecutionSteps"]
        }

    return read


@pytest.fixture
def shared_definitions() -> Path:
    """The folder of the definitions of the example pipelines."""
    return EXAMPLE_DEFINITIONS
