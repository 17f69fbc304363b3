"""
An endpoint that cannot be reached ends a command soon, with an error that says what to
look at.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config

from polysync_airflow.auth.base_hook import REPORT_CONFIG
from polysync_airflow.aws import sessions
from polysync_airflow.cli import execution_facts, output
from sagemaker_emulator import EmulatorServer
from tests.conftest import use_connection
from tests.unit.cli.conftest import Polysync

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/000000000000"
COMMANDS = pytest.mark.parametrize(
    "command",
    [
        ("jobs", "import"),
        ("executions", "list"),
        ("executions", "list", "--pipeline", "fanout"),
        ("executions", "show", ARN),
        ("executions", "stop", ARN, "--yes"),
        ("executions", "watch", ARN),
        ("check",),
    ],
    ids=" ".join,
)
CURE = (
    "check the endpoint_url of the connection, the proxy (HTTPS_PROXY, NO_PROXY), "
    "and the VPC endpoint of the service"
)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """
    Return a socket that listens and accepts nothing; commands wait for it for a moment
    only.
    """
    once: Any = {"total_max_attempts": 1}
    short = Config(connect_timeout=0.1, read_timeout=0.1, retries=once)
    monkeypatch.setattr(sessions, "RATE_LIMITED_CONFIG", short)
    monkeypatch.setattr(execution_facts, "REPORT_CONFIG", short)
    monkeypatch.setattr(output, "OUTAGE_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        yield listening


@COMMANDS
@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "silent"])
def test_unreachable_endpoint_of_sagemaker_is_named_with_the_cures(
    command: tuple[str, ...],
    is_closed: bool,
    listener: socket.socket,
    polysync: Polysync,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The sign-in works. The first call fails: the error names the endpoint, and the
    cures.
    """
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    use_connection(
        monkeypatch, endpoint_url=url, sts_endpoint_url=emulator.endpoint_url
    )
    if is_closed:
        listener.close()

    done = polysync(*command)

    report = done.out if command == ("check",) else done.error
    assert done.code == (1 if command == ("check",) else 2)
    assert url in report
    assert CURE in report


def test_unreachable_endpoint_of_sts_is_named_with_the_cures(
    listener: socket.socket,
    polysync: Polysync,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody can sign in: the report names the endpoint, and the cures."""
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    use_connection(
        monkeypatch, endpoint_url=emulator.endpoint_url, sts_endpoint_url=url
    )

    done = polysync("check", "--output", "json")

    report = " ".join(done.document["report"])
    assert done.code == 1
    problem = "Could not sign in with the connection 'polysync_default': "
    assert report.startswith(problem)
    assert url in report
    assert CURE in report


NO_REGION = "no region eu-centrl-1. Did you mean eu-central-1?"
NO_HOST = (
    "no region eu-central-9, or no network: the name of the endpoint does not resolve."
    " botocore knows eu-central-1, eu-central-2."
)


@pytest.mark.parametrize(
    ("field", "command", "cure"),
    [
        ("eu-centrl-1", ["executions", "list"], NO_REGION),
        ("us-east-1", ["executions", "list", "--region", "eu-centrl-1"], NO_REGION),
        ("us-east-1", ["jobs", "import", "--region", "eu-centrl-1"], NO_REGION),
        ("eu-centrl-1", ["check"], NO_REGION),
        ("us-east-1", ["executions", "list", "--region", "eu-central-9"], NO_HOST),
        ("us-east-1", ["jobs", "import", "--region", "eu-central-9"], NO_HOST),
        ("eu-central-9", ["check"], NO_HOST),
        (
            "us-east-1",
            ["executions", "show", ARN.replace("us-east-1", "eu-central-9")],
            NO_HOST,
        ),
    ],
)
def test_wrong_region_is_refused_with_what_may_be_meant(
    field: str,
    command: list[str],
    cure: str,
    polysync: Polysync,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host of its endpoint does not exist, so nothing is tried again."""
    hosts: list[str] = []

    def resolve(host: str, *_: Any, **__: Any) -> Any:
        hosts.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    use_connection(monkeypatch, region_name=field)

    done = polysync(*command)

    assert done.code in (1, 2)
    assert cure in done.out + done.err
    assert "Transient error" not in done.err
    assert len(hosts) <= 3


def test_limits_add_up_to_less_than_a_minute(
    polysync: Polysync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A sign-in, and the attempts of a call to an endpoint with two addresses, end in
    time.
    """
    limited: Any = sessions.RATE_LIMITED_CONFIG
    report: Any = REPORT_CONFIG
    attempts = report.retries["total_max_attempts"]

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "")
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    polysync("check")
    assert attempts == int(os.environ["AWS_MAX_ATTEMPTS"])
    # The last attempt begins before the limit has passed.
    last_attempt = max(2 * limited.connect_timeout, limited.read_timeout)
    assert output.OUTAGE_SECONDS + 8 + last_attempt < 60
    assert attempts * max(2 * report.connect_timeout, report.read_timeout) < 60
