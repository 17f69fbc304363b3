"""
Runs ``polysync`` in this process, with the connection ``polysync_default`` to the
emulator.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from polysync_airflow.aws import rate_limiter, retry
from polysync_airflow.cli import main, output
from sagemaker_emulator import ControlClient, EmulatorServer
from tests.conftest import use_connection
from tests.tasks import EmulatedTime
from tests.unit.events.conftest import client


class Result(NamedTuple):
    """
    The outcome of a command.

    :param code: the exit code.
    :param out: what it has written to stdout.
    :param err: what it has written to stderr.
    """

    code: object
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that stdout is."""
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The only line of stderr, of a command that ends with exit code 2."""
        assert self.code == 2
        assert self.out == ""
        (line,) = self.err.splitlines()
        return line

    @property
    def error(self) -> str:
        """The last line of stderr."""
        return self.err.splitlines()[-1]


Polysync = Callable[..., Result]
# A process makes it once, and so does this one: it takes as long as some commands.
PARSER = output.make_parser()
FAILURE = {"steps": {"Shard3": {"fail": {"reason": "no data"}}}}


class Terminal(io.StringIO):
    """Standard input of a person; with None as the answer, of a script."""

    def __init__(self, answer: str | None) -> None:
        super().__init__(answer or "")
        self.is_terminal = answer is not None

    def isatty(self) -> bool:
        """Return whether a person answers."""
        return self.is_terminal


@pytest.fixture
def polysync(
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Polysync:
    """Return a function that runs ``polysync`` with arguments."""
    url = emulator.endpoint_url
    use_connection(monkeypatch, endpoint_url=url, sts_endpoint_url=url)
    monkeypatch.setattr(rate_limiter, "_RATE_LIMITERS", {})
    return partial(run_polysync, monkeypatch, capsys)


@pytest.fixture
def jobs(polysync: Polysync) -> Polysync:
    """Return a function that runs ``polysync jobs`` with arguments."""
    return partial(polysync, "jobs")


class Executions(NamedTuple):
    """
    Runs ``polysync executions`` with arguments, and does in AWS what others do there.

    :param control: controls the emulator.
    :param sagemaker: a client of boto3.
    """

    polysync: Polysync
    emulator: EmulatorServer
    control: ControlClient
    sagemaker: Any

    def __call__(self, *arguments: object) -> Result:
        """Run the command."""
        return self.polysync("executions", *arguments)

    def start(self, pipeline: str = "fanout", **request: Any) -> str:
        """Start an execution beside Airflow, and return its ARN."""
        start = self.sagemaker.start_pipeline_execution
        arn: str = start(PipelineName=pipeline, **request)["PipelineExecutionArn"]
        return arn

    def fail(self, **request: Any) -> str:
        """Start an execution, let its step ``Shard3`` fail, and return its ARN."""
        self.control.put_scenario(FAILURE)
        arn = self.start(**request)
        self.control.advance(3600)
        return arn


@pytest.fixture
def executions(polysync: Polysync, emulator: EmulatorServer) -> Executions:
    """Return what runs ``polysync executions`` with arguments."""
    sagemaker = client(emulator, "sagemaker")
    return Executions(polysync, emulator, emulator.control, sagemaker)


def run_polysync(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: object,
) -> Result:
    """Run ``polysync`` with arguments."""
    monkeypatch.setattr(output, "make_parser", lambda: PARSER)
    # The command sets it for its process.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    capsys.readouterr()
    try:
        code: object = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    return Result(code, *capsys.readouterr())


@pytest.fixture
def emulated_waits(
    emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Let a watch take no time. The threads of a list wait for the rate limiter and before
    a retry by the host's clock, and so does botocore: not here.
    """
    monkeypatch.setattr(rate_limiter, "BURST_SECONDS", 10.0)
    monkeypatch.setattr(retry, "MIN_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr("botocore.endpoint.time", emulated_time)
