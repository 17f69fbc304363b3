"""The command: its options, what it writes, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import boto3
import pytest
from botocore.config import Config

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.verify import command, session
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.session import Session
from tests.verify.conftest import ROLE, names

ARGUMENTS = ("--role-arn", ROLE)
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "emulated-secret-key"}


class Outcome(NamedTuple):
    """The exit code of a command, and what it has written."""

    code: object
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line of stderr."""
        return self.err.splitlines()[-1]


Verify = Callable[..., Outcome]


@pytest.fixture
def verify(
    make_session: Callable[..., Session],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Verify:
    """
    Return a function that runs the command in this process, signed in to the emulator.
    """
    console = "https://us-east-1.console.aws.amazon.com/?region=us-east-1"
    signed_in = make_session(execution_link=lambda arn, name: f"{console}#{arn}")
    signed_in.secrets.append(KEYS["AWS_SECRET_ACCESS_KEY"])
    monkeypatch.setattr(command, "sign_in", lambda *_: signed_in)

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code: object = command.main([str(each) for each in arguments], "verify")
        except SystemExit as end:
            code = end.code
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.mark.parametrize("dual_stack", [False, True])
@pytest.mark.parametrize(
    "region", ["us-east-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1"]
)
def test_endpoint_of_aws(region: str, dual_stack: bool) -> None:
    """
    The report says so of the endpoint that boto3 has for a region, and of no other.
    """
    config = Config(use_dualstack_endpoint=dual_stack)
    client = boto3.client(
        "sts",
        region_name=region,
        config=config,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )

    url = client.meta.endpoint_url
    assert re.fullmatch(command.AWS_ENDPOINT, url)
    assert not re.fullmatch(command.AWS_ENDPOINT, f"{url}.example.com")


def test_run(verify: Verify, server: EmulatorServer, tmp_path: Path) -> None:
    """
    The summary is on stdout, all else on stderr; the report is a file; nothing is left.
    """
    report = tmp_path / "report.json"

    result = verify(*ARGUMENTS, "--only", "outcome", "--report", report)

    assert result.code == 0
    first, _, *others = result.out.splitlines()
    assert first == "This is not AWS."
    assert [line.split() for line in others] == [["outcome", "13", "as", "believed"]]
    assert (
        "13 checks in region us-east-1. What they make has names that begin with polysync-"
        in result.err
    )
    assert result.err.endswith("13 checks: 13 as believed.\n")
    document = json.loads(report.read_text())
    assert (document["endpoint"], document["region"]) == ("not one of AWS", "us-east-1")
    assert {"boto3", "sign_in", "sagemaker_pipelines_emulator"} < {*document}
    assert document["complete"] is True
    assert [check["verdict"] for check in document["checks"]] == ["as believed"] * 13
    assert "123456789012" not in result.out + result.err + report.read_text()
    assert names(server) == set()
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_difference(verify: Verify, server: EmulatorServer) -> None:
    """What differs has exit code 1, and names what relies on it."""
    server.control.put_scenario({"failure_reason": "All is lost"})

    result = verify(*ARGUMENTS, "--only", "outcome.reason")

    assert (result.code, result.error) == (1, "1 check: 1 differs.")
    assert "another text" in result.out
    assert "This changes what these rely on: emulator/" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--role-arn is missing: give the ARN of a role"),
        (
            ["--role-arn", "Pipelines"],
            "--role-arn: 'Pipelines' is not the ARN of a role: give arn:aws:iam::",
        ),
        (
            [*ARGUMENTS, "--only", "stops"],
            "--only 'stops' is no check; did you mean stop?",
        ),
        (
            [*ARGUMENTS, "--with-job", "a b"],
            "--with-job: 'a b' is not the URI of an image",
        ),
        ([*ARGUMENTS, "--with-job", ""], "--with-job: '' is not the URI of an image"),
        (
            [*ARGUMENTS, "--queue-url", "changes"],
            "--queue-url: 'changes' is not the URL of a standard queue: give",
        ),
        (
            [
                *ARGUMENTS,
                "--queue-url",
                "https://sqs.eu-central-1.amazonaws.com/123456789012/changes",
            ],
            "is in region eu-central-1, and the checks are made in us-east-1: give a queue of that region, or",
        ),
        (
            [*ARGUMENTS, "--report", "no/report.json"],
            "--report: no/report.json cannot be written: give a",
        ),
        ([*ARGUMENTS, "--report", "."], "--report: . cannot be written: give a file"),
        ([*ARGUMENTS, "--clean"], "--clean runs no checks: leave out --role-arn"),
        (
            ["--clean", "--only", "stop", "--open"],
            "--clean runs no checks: leave out --only, --open",
        ),
    ],
)
def test_bad_input(
    arguments: list[str], message: str, verify: Verify, server: EmulatorServer
) -> None:
    """It is refused in one line, before anything is created."""
    result = verify(*arguments)

    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.error
    assert server.control.calls("CreatePipeline") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals(
    number: signal.Signals,
    verify: Verify,
    server: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """
    Each signal that ends a process first deletes what was made, and writes what was
    seen.
    """
    create, report = Account.create, tmp_path / "report.json"

    def interrupted(self: Account, subject: str, definition: str) -> str:
        name = create(self, subject, definition)
        if subject == "failed":
            # To the process, whose main thread handles it.
            os.kill(os.getpid(), number)
            assert self._cancelled.wait(10)
        return name

    # As in a terminal: a shell lets its background processes ignore Ctrl-C.
    at_begin = {
        each: signal.getsignal(each)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(Account, "create", interrupted)
    try:
        result = verify(
            *ARGUMENTS,
            "--only",
            "list.prefix-with-hyphen",
            "--only",
            "outcome",
            "--report",
            report,
        )
    finally:
        for each, handler in at_begin.items():
            signal.signal(each, handler)

    assert (result.code, result.error) == (130, "error: interrupted")
    assert (
        "Interrupted: the checks end, and what they have made is deleted." in result.err
    )
    assert (
        "report.json: the report of the checks that were made. It is not complete."
        in result.err
    )
    document = json.loads(report.read_text())
    verdicts = {
        check["id"]: (check["verdict"], check["seen"]) for check in document["checks"]
    }
    assert (document["complete"], len(verdicts)) == (False, 14)
    assert verdicts["list.prefix-with-hyphen"] == (
        "as believed",
        "refused with ValidationException",
    )
    assert verdicts["outcome.end-time"] == ("not checked", "the run was ended")
    assert names(server) == set()


def test_interrupted_twice(
    verify: Verify, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An interrupted deletion says how to delete the rest, which the next command does.
    """

    def interrupt(self: Account) -> dict[str, str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Account, "clean", interrupt)
        result = verify(*ARGUMENTS, "--only", "outcome.statuses")
    left, cleaned = names(server), verify("--clean")

    assert result.code == 130
    assert (
        "Interrupted: not everything is deleted. Run polysync verify --clean.\n"
        in result.err
    )
    assert len(left) == 2
    assert (cleaned.code, cleaned.out) == (0, "")
    assert cleaned.error == "2 pipelines deleted in region us-east-1."
    assert names(server) == set()


def test_what_is_told_is_masked(verify: Verify, server: EmulatorServer) -> None:
    """
    Neither messages nor errors have what the report leaves out, also if AWS has written
    it.
    """
    secret = "arn:aws:sts::123456789012:assumed-role/Team-Airflow/me@example.com emulated-secret-key"
    denied = {"code": "AccessDeniedException", "message": f"{secret} may not"}
    fault = server.control.add_fault("error", "DeletePipeline", **denied)
    left = verify(*ARGUMENTS, "--only", "link")
    assert left.code == 1
    assert (
        "-failed is still there: An error occurred (AccessDeniedException)" in left.err
    )
    assert "Run polysync verify --clean." in left.err
    server.control.remove_faults(fault)
    server.control.add_fault("error", "ListPipelines", **denied)

    for result in (left, verify("--clean")):
        assert result.code != 0
        assert "arn:aws:sts::000000000000:assumed-role/*** *** may not" in result.err
        assert "123456789012" not in result.err


@pytest.mark.parametrize("is_terminal", [False, True])
def test_links(
    is_terminal: bool,
    verify: Verify,
    server: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    With --open, the links are printed, and a person has time to look before everything
    is deleted.
    """
    there: list[set[str]] = []

    class Terminal:
        def isatty(self) -> bool:
            return is_terminal

        def readline(self) -> str:
            there.append(names(server))
            return "\n"

    monkeypatch.setattr("sys.stdin", Terminal())

    result = verify(*ARGUMENTS, "--only", "link", "--open")

    # With the account number, without which the link leads nowhere.
    assert "#arn:aws:sagemaker:us-east-1:123456789012:pipeline/" in result.err
    assert [len(each) for each in there] == ([1] if is_terminal else [])
    assert names(server) == set()


def test_cost_of_a_job(verify: Verify, server: EmulatorServer) -> None:
    """What a job costs is said; without a log link, only the execution is shown."""
    result = verify(
        *ARGUMENTS, "--only", "job", "--open", "--with-job", "example.com/tools:1"
    )

    assert result.code == 0
    cost = "One processing job will run on one ml.t3.medium, for at most 10 minutes;"
    assert cost in " ".join(result.err.split())
    # The second execution has taken the result of the first one.
    assert len(server.control.calls("StartPipelineExecution")) == 3
    assert result.err.count("This must show") == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["--conn-id", "mine"],
            "--conn-id names a connection of Airflow: install polysync-airflow, or omit it.",
        ),
        ([], "Nobody can sign in with the default credentials of boto3: "),
    ],
)
def test_sign_in_that_fails(
    arguments: list[str],
    error: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """
    It is an error of one line: without the provider there are no connections, and boto3
    may have no credentials.
    """
    monkeypatch.setattr(session, "entry_points", lambda **_: ())
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    code = command.main(
        ["--clean", "--region", "us-east-1", *arguments], "verify", connection_id=None
    )

    assert code == 2
    assert capsys.readouterr().err.startswith(f"error: {error}")


def process(server: EmulatorServer, *arguments: str) -> subprocess.Popen[str]:
    """Run the command as a user does, with the credentials in the environment."""
    command = [sys.executable, "-m", "sagemaker_emulator", "verify", *arguments]
    environment = {
        **os.environ,
        **KEYS,
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.system
def test_all_checks_side_by_side(tmp_path: Path) -> None:
    """
    In real time, where the checks run side by side, a whole run sees what is believed.
    """
    report = tmp_path / "report.json"

    with (
        EmulatorServer() as server,
        process(server, *ARGUMENTS, "--report", str(report)) as running,
    ):
        _, errors = running.communicate(timeout=180)
        assert (running.returncode, names(server)) == (0, set()), errors

    verdicts = json.loads(report.read_text())["verdicts"]
    assert (verdicts["differs"], verdicts["error"]) == (0, 0)
    assert verdicts["as believed"] > 80


@pytest.mark.system
@pytest.mark.parametrize(
    ("number", "operation"),
    [
        (signal.SIGTERM, "StopPipelineExecution"),
        (signal.SIGKILL, "StopPipelineExecution"),
    ],
)
def test_ended(number: signal.Signals, operation: str, tmp_path: Path) -> None:
    """
    A signal lets the command delete what it has made, and write a report; after a kill,
    ``--clean`` deletes.
    """
    report = tmp_path / "report.json"
    with EmulatorServer(speed=5) as server:
        with process(server, *ARGUMENTS, "--report", str(report)) as running:
            until = time.monotonic() + 60
            while not server.control.calls(operation):
                assert time.monotonic() < until
                time.sleep(0.05)
            running.send_signal(number)
            running.communicate(timeout=120)
        if number == signal.SIGKILL:
            assert names(server) != set()
            assert list(tmp_path.iterdir()) == []
            with process(server, "--clean") as cleaning:
                _, errors = cleaning.communicate(timeout=120)
            assert (cleaning.returncode, "deleted in region" in errors) == (0, True)
        else:
            assert running.returncode == 130
            assert json.loads(report.read_text())["complete"] is False
        assert names(server) == set()


def test_result_as_json(verify: Verify) -> None:
    """stdout has the report, or what was deleted, as one document."""
    done = verify(*ARGUMENTS, "--only", "start.by-arn", "--output", "json")
    cleaned = verify("--clean", "--output", "json")

    report = json.loads(done.out)
    assert (done.code, report["complete"]) == (0, True)
    assert [check["id"] for check in report["checks"]] == ["start.by-arn"]
    assert json.loads(cleaned.out) == {"version": 1, "deleted": [], "left": []}


def test_misspelled_option(verify: Verify) -> None:
    """The error names the option that is meant."""
    done = verify("--role-ar", ROLE)

    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("Did you mean --role-arn? Try: verify --help\n")
    assert "Did you mean json? " in verify("--output", "jsn").err
