"""What makes the tests quick does not change what they see."""

from __future__ import annotations

import http.client
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.session import Session

from sagemaker_emulator import EmulatorServer


def sagemaker(
    emulator: EmulatorServer, session: Session | None = None, seconds: float = 30
) -> Any:
    """Return a client that waits for a response for so many seconds."""
    return boto3.session.Session(
        "AKIATEST",
        "secret",
        region_name="us-east-1",
        botocore_session=session or Session(),
    ).client(
        "sagemaker",
        endpoint_url=emulator.endpoint_url,
        config=Config(read_timeout=seconds, retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize("path", ["/_emulator/health", "/_emulator/unknown", "/"])
def test_responses_are_those_of_a_socket(path: str, emulator: EmulatorServer) -> None:
    """Status, headers and body; ``localhost`` is reached by a socket."""
    responses, sockets = [], []
    for host in ("127.0.0.1", "localhost"):
        connection = http.client.HTTPConnection(host, emulator.port)
        connection.connect()
        sockets.append(type(connection.sock).__name__)
        connection.request("GET", path, headers={"Host": f"127.0.0.1:{emulator.port}"})
        response = connection.getresponse()
        headers = {
            name: value
            for name, value in response.getheaders()
            if not name.startswith("x-amzn")
        }
        responses.append((response.status, headers, response.read()))
        connection.close()

    assert sockets == ["_ClientSocket", "socket"]
    assert responses[0] == responses[1]


def test_faults_of_the_connection_are_seen(emulator: EmulatorServer) -> None:
    """A response that comes too late, and a connection that ends without one."""
    client = sagemaker(emulator)
    emulator.control.add_fault("latency", delay=0.4, count=1)
    with pytest.raises(ReadTimeoutError):
        sagemaker(emulator, seconds=0.2).list_pipelines()
    emulator.control.add_fault("dropped", count=1)
    with pytest.raises(ConnectionClosedError):
        client.list_pipelines()
    assert client.list_pipelines()["PipelineSummaries"]


def test_sessions_share_no_handlers(emulator: EmulatorServer) -> None:
    """What one session registers, another one does not call."""
    called: list[str] = []
    first, second = Session(), Session()
    for name, session in (("first", first), ("second", second)):
        session.register("before-call", lambda name=name, **_: called.append(name))

    sagemaker(emulator, second).list_pipelines()
    sagemaker(emulator).list_pipelines()

    assert called == ["second"]
