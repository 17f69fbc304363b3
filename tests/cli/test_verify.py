"""``polysync verify``: the options, what it writes, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.cli import verify
from polysync_airflow.cli.output import write_message
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.hook import VerifyHook
from sagemaker_emulator import EmulatorServer
from tests.cli.conftest import Polysync
from tests.events.conftest import client
from tests.tasks import EmulatedTime

ROLE = "arn:aws:iam::123456789012:role/Pipelines"
VERIFY = ("verify", "--role-arn", ROLE)


def names(emulator: EmulatorServer) -> list[str]:
    """Return the names of the pipelines that the command has left."""
    return [name for name in emulator.pipelines["us-east-1"] if name.startswith("polysync-verify")]


def test_run(
    polysync: Polysync, emulator: EmulatorServer, emulated_time: EmulatedTime, tmp_path: Path
) -> None:
    """The table is on stdout, all else on stderr; the report is a file; nothing is left."""
    report = tmp_path / "report.json"

    result = polysync(*VERIFY, "--only", "outcome", "--report", report)

    assert result.code == 0
    assert "outcome.fail-step" in result.out
    assert "as believed" in result.out
    assert "13 checks in region us-east-1. What they make has names that begin with polysync-" in result.err
    assert result.err.endswith("13 checks: 13 as believed.\n")
    document = json.loads(report.read_text())
    assert (document["endpoint"], document["region"]) == ("not one of AWS", "us-east-1")
    assert document["complete"] is True
    assert [check["verdict"] for check in document["checks"]] == ["as believed"] * 13
    assert "123456789012" not in result.out + result.err + report.read_text()
    assert "emulated-secret-key" not in result.out + result.err + report.read_text()
    assert names(emulator) == []
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_difference(polysync: Polysync, emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """What differs has exit code 1, and names what relies on it."""
    emulator.control.put_scenario({"failure_reason": "All is lost"})

    result = polysync(*VERIFY, "--only", "outcome.reason")

    assert result.code == 1
    assert "docs" not in result.err
    assert "another text" in result.out
    assert "This changes what these rely on:" in " ".join(result.out.split())
    assert result.error == "1 check: 1 differs."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify"], "--role-arn is missing: give the ARN of a role"),
        (
            ["verify", "--role-arn", "Pipelines"],
            "--role-arn 'Pipelines' is not the ARN of a role: give arn:aws:iam::",
        ),
        ([*VERIFY, "--only", "stops"], "--only 'stops' is no check; did you mean stop?"),
        ([*VERIFY, "--with-job", "a b"], "--with-job 'a b' is not the URI of an image"),
        ([*VERIFY, "--with-job", ""], "--with-job '' is not the URI of an image"),
        (
            [*VERIFY, "--queue-url", "changes"],
            "--queue-url 'changes' is not the URL of a standard queue: give it",
        ),
        (
            [*VERIFY, "--queue-url", "https://sqs.eu-central-1.amazonaws.com/123456789012/changes"],
            "is in region eu-central-1, and the checks are made in us-east-1: give a queue of that region, or",
        ),
        (
            [*VERIFY, "--report", "missing/report.json"],
            "--report missing/report.json cannot be written: No such file",
        ),
        ([*VERIFY, "--report", "."], "--report . is not a file"),
        ([*VERIFY, "--clean"], "--clean runs no checks: leave out --role-arn"),
        ([*VERIFY, "--conn-id", "missing"], "'missing': there is no such connection"),
    ],
)
def test_bad_input(arguments: list[str], message: str, polysync: Polysync, emulator: EmulatorServer) -> None:
    """It is refused in one line, before anything is created."""
    result = polysync(*arguments)

    assert (result.code, result.out) == (2, "")
    assert message in result.error
    assert "CreatePipeline" not in {call["operation"] for call in emulator.control.calls()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals(
    number: signal.Signals,
    polysync: Polysync,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each signal that ends a process first deletes what was made, and writes what was seen."""
    create, report = Account.create, tmp_path / "report.json"

    def interrupted(self: Account, subject: str, definition: str) -> str:
        name = create(self, subject, definition)
        if subject == "failed":
            # To the process, whose main thread handles it.
            os.kill(os.getpid(), number)
            assert self._cancelled.wait(10)
        return name

    # As in a terminal: a shell lets its background processes ignore Ctrl-C.
    at_begin = signal.signal(number, signal.default_int_handler)
    monkeypatch.setattr(Account, "create", interrupted)

    try:
        result = polysync(
            *VERIFY, "--only", "list.prefix-with-hyphen", "--only", "outcome", "--report", report
        )
        after = signal.getsignal(number)
    finally:
        signal.signal(number, at_begin)

    assert result.code == 130
    assert "Interrupted: the checks end, and what they have made is deleted." in result.err
    assert "report.json: the report of the checks that were made. It is not complete." in result.err
    assert result.error == "error: interrupted"
    document = json.loads(report.read_text())
    verdicts = {check["id"]: (check["verdict"], check["seen"]) for check in document["checks"]}
    assert (document["complete"], len(verdicts)) == (False, 14)
    assert verdicts["list.prefix-with-hyphen"] == ("as believed", "refused with ValidationException")
    assert verdicts["outcome.end-time"] == ("not checked", "the run was ended")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert names(emulator) == []
    assert after is signal.default_int_handler


def test_interrupted_twice(
    polysync: Polysync, emulator: EmulatorServer, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted deletion says how to delete the rest, which the next command does."""

    def interrupt(self: Account) -> dict[str, str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Account, "clean", interrupt)
        result = polysync(*VERIFY, "--only", "outcome.statuses")
    left = names(emulator)
    cleaned = polysync("verify", "--clean")

    assert result.code == 130
    assert "Interrupted: not everything is deleted. Run polysync verify --clean.\n" in result.err
    assert len(left) == 2
    assert (cleaned.code, cleaned.out) == (0, "")
    assert cleaned.error == "2 pipelines deleted in region us-east-1."
    assert names(emulator) == []


def test_what_is_told_is_masked(
    polysync: Polysync, emulator: EmulatorServer, emulated_time: EmulatedTime, tmp_path: Path
) -> None:
    """Neither messages nor errors have what the report leaves out, also if AWS has written it."""
    secret = "arn:aws:sts::123456789012:assumed-role/Team-Airflow/me@example.com emulated-secret-key"
    denied = {"code": "AccessDeniedException", "message": f"{secret} may not"}
    fault = emulator.control.add_fault("error", "DeletePipeline", **denied)
    left = polysync(*VERIFY, "--only", "link")
    emulator.control.remove_faults(fault)
    emulator.control.add_fault("error", "ListPipelines", **denied)

    for result in (left, polysync("verify", "--clean")):
        assert result.code != 0
        assert "arn:aws:sts::000000000000:assumed-role/*** *** may not" in result.err
        assert "emulated-secret-key" not in result.err
        assert "123456789012" not in result.err


def test_what_stays(polysync: Polysync, emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """A pipeline that cannot be deleted is a failure, and is named with the command that deletes it later."""
    fault = emulator.control.add_fault(
        "error", "DeletePipeline", code="AccessDeniedException", message="not allowed"
    )

    result = polysync(*VERIFY, "--only", "link")
    cleaned = polysync("verify", "--clean")
    emulator.control.remove_faults(fault)

    assert (result.code, cleaned.code) == (1, 1)
    assert "-failed is still there: DeletePipeline failed: AccessDeniedException: not allowed" in result.err
    assert "Run polysync verify --clean." in result.err
    assert polysync("verify", "--clean").code == 0
    assert names(emulator) == []


def test_clean_leaves_what_only_has_the_name(
    polysync: Polysync, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A pipeline that has the name of one of a run, but no tag of it, is named and left; that is no failure."""
    mine = "polysync-verify-0123abcd-important"
    client(emulator, "sagemaker").create_pipeline(
        PipelineName=mine,
        PipelineDefinition=definitions.succeeding(),
        RoleArn=ROLE,
        ClientRequestToken="t" * 32,
    )

    cleaned = polysync("verify", "--clean")

    assert (cleaned.code, cleaned.out) == (0, "")
    assert f"{mine} is left as it is: It does not have the tag polysync-verify-run with the id" in cleaned.err
    assert cleaned.error == "0 pipelines deleted in region us-east-1."
    assert names(emulator) == [mine]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_links(
    is_terminal: bool,
    polysync: Polysync,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With --open, the links are printed, and a person has time to look before everything is deleted."""
    there: list[list[str]] = []

    class Terminal:
        def isatty(self) -> bool:
            return is_terminal

        def readline(self) -> str:
            there.append(names(emulator))
            return "\n"

    monkeypatch.setattr("sys.stdin", Terminal())

    result = polysync(*VERIFY, "--only", "link", "--open")

    assert (
        "https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/pipelines/" in result.err
    )
    # Without the account number, the link leads nowhere.
    assert "123456789012" in result.err
    assert [len(each) for each in there] == ([1] if is_terminal else [])
    assert names(emulator) == []


def test_cost_of_a_job(
    polysync: Polysync, emulator: EmulatorServer, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a job costs is said before it starts."""
    told: list[int] = []
    call = VerifyHook.call

    def noting(self: VerifyHook, operation: str, **request: Any) -> Any:
        if operation == "CreatePipeline":
            told.append(1)
        return call(self, operation, **request)

    def noting_message(text: str) -> None:
        if "US dollars" in text:
            told.append(0)
        write_message(text)

    monkeypatch.setattr(VerifyHook, "call", noting)
    monkeypatch.setattr(verify, "write_message", noting_message)

    result = polysync(*VERIFY, "--only", "job", "--with-job", "example.com/tools:1")

    assert result.code == 0
    assert told == [0, 1]
    assert "One processing job will run on one ml.t3.medium, for at most 10 minutes." in result.err
