"""The command line as a whole: help, usage errors, and commands of other modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import sessionmaker

from polysync_airflow import __version__
from polysync_airflow.airflow_compat.database import stored_variable, variable_keys
from polysync_airflow.cli import check, output
from polysync_airflow.cli.command_line import ELSEWHERE
from polysync_airflow.records.keys import KEY_PREFIX
from polysync_airflow.records.serialization import TASK
from sagemaker_emulator import EXAMPLE_DEFINITIONS, EmulatorServer
from tests.fakes.airflow_rows import add_variable
from tests.unit.cli.commands import COMMANDS as COMMAND_PARSERS
from tests.unit.cli.commands import PARSERS
from tests.unit.cli.conftest import Polysync
from tests.world import START, deny

COMMAND = [str(Path(sys.executable).with_name("polysync"))]


def test_help_names_every_command(polysync: Polysync) -> None:
    """Without arguments the help is printed, which names every command."""
    bare = polysync()
    asked = polysync("--help")
    version = polysync("--version")

    assert bare.code == 0
    assert bare.out == asked.out
    for name in output.COMMANDS["polysync"]["commands"]:
        assert f"    {name}" in bare.out
    assert version.code == 0
    assert version.out == f"polysync-airflow {__version__}\n"


@pytest.mark.parametrize("name", sorted({*PARSERS, *COMMAND_PARSERS}))
def test_help_has_all_texts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in them: brackets are no markup. It fits a terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    parser = {**PARSERS, **COMMAND_PARSERS}[name]

    text = parser.format_help()

    assert max(map(len, text.splitlines())) <= 80
    shown = "".join(text.split())

    assert "".join((parser.description or "").split()) in shown
    for action in parser._actions:
        choices = ", ".join(map(str, action.choices or ()))
        values = {"default": action.default, "prog": parser.prog, "choices": choices}
        text = (action.help or "") % values
        assert "".join(text.split()) in shown


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("polysync executions re", "resume"),
        ("polysync executions list --state Fai", "Failed"),
        ("polysync iam policy --required", "--required-only"),
    ],
)
def test_shell_completes(line: str, words: str, tmp_path: Path) -> None:
    """As the functions of argcomplete for bash, zsh and fish ask for it."""
    answer = tmp_path / "answer"
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }

    done = subprocess.run(COMMAND, env={**os.environ, **environment}, check=False)

    assert (done.returncode, answer.read_text()) == (0, words)


COMMANDS = (
    "choose from 'jobs', 'pipelines', 'check', 'prices', 'executions', 'iam', "
    "'records', 'verify', 'emulator'"
)


@pytest.mark.parametrize(
    ("command", "arguments", "problem"),
    [
        (
            "polysync emulator",
            ["--port", "99999"],
            "argument --port: '99999' is no port: give 0 to 65535.",
        ),
        (
            "polysync",
            ["nonsense"],
            f"argument COMMAND: invalid choice: 'nonsense' ({COMMANDS}).",
        ),
        (
            "polysync",
            ["recrods"],
            f"argument COMMAND: invalid choice: 'recrods' ({COMMANDS})."
            " Did you mean records?",
        ),
        (
            "polysync jobs import",
            ["--prefx", "x"],
            "unrecognized arguments: --prefx. Did you mean --prefix?",
        ),
        (
            "polysync records",
            ["--dagid=x"],
            "unrecognized arguments: --dagid=x. Did you mean --dag-id?",
        ),
        (
            "polysync jobs",
            [],
            "the following arguments are required: COMMAND.",
        ),
    ],
)
def test_usage_error_is_one_line_with_exit_code_2(
    command: str, arguments: list[str], problem: str, polysync: Polysync
) -> None:
    """The line names the command, the problem, and how to get help."""
    result = polysync(*command.split()[1:], *arguments)

    assert result.refusal == f"error: {command}: {problem} Try: {command} --help"


def test_control_characters_of_records_reach_no_terminal(
    polysync: Polysync, airflow_database: None
) -> None:
    """
    Whoever may create a Variable cannot write to the terminal of the administrator.
    """
    key = f"{KEY_PREFIX}x\x1b[2J\n\u202e"
    task = {"dag_id": "controls", "run_id": "gone", "task_id": "gone", "map_index": -1}
    add_variable(key, json.dumps({TASK: task}))

    result = polysync("records", "--dag-id", "controls")

    in_json = polysync("records", "--dag-id", "controls", "--output", "json")
    line = f"{KEY_PREFIX}x\ufffd[2J \ufffd  (DAG run: deleted)"
    assert result.code == 0
    assert result.out == f"{line}\n1 Variables.\n"
    records = [{"key": key, **task, "dag_run_state": None, "ended_at": None}]
    expected = {"version": 1, "deleted": False, "records": records, "unreadable": []}
    assert in_json.document == expected
    assert key in variable_keys(KEY_PREFIX)
    with stored_variable(key, lock=True) as variable:
        variable.delete()


def test_database_without_tables_is_an_error_with_its_cure(
    polysync: Polysync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A database that is not migrated is an error of one line with the command that helps.
    """
    monkeypatch.setattr(
        "airflow.settings.Session", sessionmaker(create_engine("sqlite://"))
    )

    result = polysync("records")

    problem = "error: Airflow's database cannot be used: no such table: variable."
    assert result.refusal.startswith(problem)
    assert result.refusal.endswith("airflow db migrate")


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_commands_of_the_emulator_name_its_distribution_if_it_is_missing(
    name: str, polysync: Polysync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without its distribution, a command is an error of one line that says what to
    install; the help names it.
    """
    monkeypatch.setattr(metadata, "entry_points", lambda **_: metadata.EntryPoints())

    result = polysync(name, "--help")
    asked = polysync("--help")

    assert result.refusal == (
        f"error: polysync {name} is a command of sagemaker-pipelines-emulator, "
        "which is not installed. "
        "Install it with: pip install 'polysync-airflow[emulator]'"
    )
    assert f"  {name} " in asked.out


def run_emulator(*options: str) -> tuple[int, str, str]:
    """
    Run ``polysync emulator`` until it serves; return its exit code, its first line and
    the others.
    """
    command = [*COMMAND, "emulator", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        process.terminate()
        rest = process.stdout.read()
    return process.returncode, line, rest


@pytest.mark.parametrize(
    "is_empty", [False, pytest.param(True, marks=pytest.mark.nightly)]
)
def test_emulator_serves_until_it_is_terminated(is_empty: bool, tmp_path: Path) -> None:
    """
    ``polysync emulator`` serves until it gets SIGTERM, and names its pipelines, or the
    folder without any.
    """
    definitions = str(tmp_path if is_empty else EXAMPLE_DEFINITIONS)
    code, line, rest = run_emulator("--definitions", definitions)

    assert line.startswith("SageMaker emulator on http://127.0.0.1:")
    assert (f"No pipelines: {tmp_path} has no *.json files." in rest) is is_empty
    assert ("abalone" in rest) is not is_empty
    assert code == 0


def test_check_reports_identity_and_permissions(polysync: Polysync) -> None:
    """``polysync check`` shows who signs in and what is granted, one fact in a line."""
    result = polysync("check")

    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0].startswith("Signed in as arn:aws:")
    assert "ListPipelines: granted" in lines
    document = polysync("check", "--output", "json").document
    assert document["usable"] is True
    assert document["report"][1:] == lines[1:-2]
    assert lines[-2].startswith("Triggerers: ")
    assert "StartPipelineExecution: granted" in lines


@pytest.mark.usefixtures("airflow_database")
def test_check_shows_what_identifies_the_deployment(
    polysync: Polysync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of a database may need a name of its own."""
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__DEPLOYMENT", "prod")

    lines = polysync("check").out.splitlines()
    document = polysync("check", "--output", "json").document

    assert lines[-1] == "Deployment: prod"
    assert document["deployment"] == "prod"


@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            (None, None),
            "none yet; the first task that starts an execution identifies it",
        ),
        (
            OperationalError("SELECT", {}, Exception("no such table")),
            "not known, since Airflow's database cannot be used: no such table",
        ),
    ],
)
def test_check_succeeds_without_an_identity_of_the_deployment(
    answer: Any, line: str, polysync: Polysync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the connection is what counts."""
    monkeypatch.setattr(check, "deployment_of_database", Mock(side_effect=[answer]))

    result = polysync("check")

    assert result.code == 0
    assert result.out.splitlines()[-1] == f"Deployment: {line}"


def test_check_warns_of_copies_and_imports(
    polysync: Polysync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code stays."""
    answer = ("abc", "Another deployment may count as this one.")
    monkeypatch.setattr(check, "deployment_of_database", lambda: answer)
    monkeypatch.setattr(check, "imported_records", lambda: ["polysync_execution.a", ""])

    result = polysync("check")

    assert result.code == 0
    _, *warnings = result.out[result.out.index("Deployment: abc") :].splitlines()
    assert warnings[0] == f"WARNING: {answer[1]}"
    assert warnings[1].startswith("WARNING: 2 records are of tasks that have never")
    assert "polysync_execution.a" in warnings[1]
    document = polysync("check", "--output", "json").document
    assert len(document["deployment_warnings"]) == 2


def test_check_prints_the_statement_for_a_missing_permission(
    polysync: Polysync, emulator: EmulatorServer
) -> None:
    """
    A required action that is denied has exit code 1, and the statement that allows it.
    """
    deny(emulator, START)

    result = polysync("check")

    assert result.code == 1
    assert "StartPipelineExecution: denied" in result.out
    assert '"sagemaker:StartPipelineExecution"' in result.out


def test_check_of_an_instance_profile_off_aws_is_one_line(
    polysync: Polysync,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    A host without credentials is a failed check: the report is one line, without a
    traceback in the log.
    """
    extra = {"auth_method": "instance_profile", "region_name": "us-east-1"}
    value = json.dumps({"conn_type": "polysync_sagemaker", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    result = polysync("check")

    assert result.code == 1
    assert result.out.startswith(
        "auth_method = 'instance_profile', but neither EC2 (IMDSv2), ECS nor EKS"
    )
    assert result.out.count("\n") == 3
    assert result.err == ""
    assert [record for record in caplog.records if record.exc_info] == []


def test_what_an_import_prints_is_no_result(
    polysync: Polysync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's loggers keep the stream that they find when they are imported."""

    def load(name: str) -> Any:
        print("loaded", name)
        return lambda _: 0

    module: Any = ModuleType("polysync_airflow.cli.prices")
    module.__getattr__ = load
    monkeypatch.setitem(sys.modules, module.__name__, module)

    result = polysync("prices", "eu-central-1")

    assert (result.code, result.out) == (0, "")
    assert "loaded main\n" in result.err


def test_interrupted_command_ends_with_one_line(
    polysync: Polysync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends a command with one line and the exit code of shells."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("polysync_airflow.jobs.importer.import_jobs", interrupt)
    result = polysync("jobs", "import")

    assert result.code == 130
    assert result.err == "error: interrupted\n"
