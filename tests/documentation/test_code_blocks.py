"""
The code blocks of the documentation run.

The DAGs of a Python block run against the emulator. A comment before a block says what
they shall meet and do, or why the block is not run; CONTRIBUTING.md describes the
comments.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import yaml

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.testing.dag_files import MetadataDatabase
from sagemaker_emulator import EmulatorServer
from tests.conftest import DEFINITIONS, connection
from tests.documentation.examples.test_example_dags import database, endpoint, example
from tests.fakes.dag_bundle import use_bundle
from tests.fakes.message_receiver import MessageReceiver
from tests.pages import README, ROOT, Block, Page, blocks, pages
from tests.processes.sessions import run_session
from tests.unit.cli.conftest import run_polysync

__all__ = ["database", "endpoint", "example"]  # fixtures
pytestmark = pytest.mark.documentation

EXAMPLES = ROOT / "example_dags"
EMULATOR_ADDRESS = "http://127.0.0.1:4599"  # the default of its command
PRICES = json.dumps(
    {
        "currency": "USD",
        "date": "2026-11-01",
        "prices": {"us-east-1": {"ml.m5.xlarge": 0.23}},
    }
)
COMMANDS = {
    "polysync": ("-c", "from polysync_airflow.cli import main; main()"),
    "python": (),
}
# Of DAGs without a schedule, and with one by time. Other DAGs run after an event.
TIMETABLES = ("NullTimetable", "CronTriggerTimetable", "CronDataIntervalTimetable")
# Comes before a block that only has an operator.
BEFORE_OPERATOR = """
from airflow.providers.common.compat.sdk import DAG
from polysync_airflow.operators import {0}

with DAG("operator", schedule=None):
"""
# Follows a block that only has a failure callback.
DAG_OF_CALLBACK = """
from airflow.providers.common.compat.sdk import DAG
from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG("callback", schedule=None, default_args={"on_failure_callback": notify}):
    PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="abalone",
        pipeline_parameters={"InputDataUrl": "s3://ml-bucket/abalone.csv"},
        deferrable=True,
    )
"""
OPTION = re.compile(r'(\w+)=("[^"]*"|\{.*\}|\[.*?\](?= \w+=|$)|\S+)(?=\s|$)')


def is_test(block: Block) -> bool:
    """Return whether a Python block has tests for pytest."""
    return bool(re.search(r"^(async )?def test_", block.text, re.MULTILINE))


def options_of(block: Block) -> dict[str, Any]:
    """Return the options in the comment before a block."""
    name, _, text = block.comment.partition(": ")
    return (
        {key: yaml.safe_load(value) for key, value in OPTION.findall(text)}
        if name == "test"
        else {}
    )


def runnable(*languages: str) -> list[Block]:
    """Return the blocks in these languages that are run."""
    return [block for block in blocks(*languages) if not block.reason]


def set_connection(
    conn_id: str, endpoint: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let a connection lead to the emulator."""
    url = endpoint.endpoint_url
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{conn_id.upper()}",
        connection(endpoint_url=url, sts_endpoint_url=url),
    )


@pytest.fixture
def folder(
    tmp_path: Path, endpoint: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """
    A folder of DAGs, in which the block runs, with a catalogue of jobs and a
    definition.

    The connection leads to the emulator, and there are prices.
    """
    set_connection("polysync_default", endpoint, monkeypatch)
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", PRICES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dags").mkdir()
    for file in (*EXAMPLES.glob("*.yaml"), *EXAMPLES.glob("*.json")):
        shutil.copy(file, tmp_path)
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundle = {
        "name": "documentation",
        "classpath": local,
        "kwargs": {"path": str(tmp_path)},
    }
    monkeypatch.setenv(
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle])
    )
    return tmp_path


@pytest.fixture(scope="module")
def servers() -> Iterator[MessageReceiver]:
    """Slack, Teams and a mail server."""
    with MessageReceiver().running() as receiver:
        yield receiver


@pytest.fixture
def receiver(servers: MessageReceiver) -> MessageReceiver:
    """The same, without the messages of the tests before."""
    servers.messages.clear()
    return servers


def test_reasons_are_given() -> None:
    """
    A comment before a block is one that these tests understand, and a reason is a
    sentence.
    """
    comments = {
        str(block): block.comment
        for page in pages()
        for block in page.blocks
        if block.comment
    }

    assert {
        where
        for where, text in comments.items()
        if not re.match(r"(not run: \w+ \w+|test: \w+=)", text)
    } == set()


@pytest.mark.parametrize(
    "block", [b for b in runnable("python") if not is_test(b)], ids=str
)
def test_python(
    block: Block,
    example: Callable[..., Any],
    folder: Path,
    endpoint: EmulatorServer,
    receiver: MessageReceiver,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The block runs as a module, and each of its DAGs ends as it should."""
    options = options_of(block)
    for conn_id in filter(None, options.get("connections", "").split(",")):
        set_connection(conn_id, endpoint, monkeypatch)
    for conn_id, value in receiver.connections().items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", value)
    text = block.text + (DAG_OF_CALLBACK if options.get("callback") else "")
    if "operator" in options:
        text = BEFORE_OPERATOR.format(options["operator"]) + indent(text, "    ")
    file = folder / "block.py"
    file.write_text(text.replace(EMULATOR_ADDRESS, endpoint.endpoint_url))
    runpy.run_path(str(file), run_name="block")
    bag = import_module("airflow.dag_processing.dagbag").DagBag(file)
    assert bag.import_errors == {}
    assert bool(bag.dags) == bool(re.search(r"\bDAG\(|@dag\b|polysync_dags\(", text))

    # With several scenarios, the block runs with each, and prints the text of each.
    scenarios, printed = (as_list(options.get(name)) for name in ("scenario", "prints"))
    for scenario, text in zip_longest(scenarios, printed):
        endpoint.control.put_scenario(scenario or {})
        # Those with a form run after it has been filled in.
        for dag in [
            dag
            for dag in bag.dags.values()
            if type(dag.timetable).__name__ in TIMETABLES
        ]:
            if not needs_form(dag):
                run = dag.test()
                assert str(run.state) == options.get("ends", "success"), dag.dag_id
        assert (text or "") in capfd.readouterr().out
    if "sends" in options:
        (message,) = receiver.messages
        assert options["sends"] in message


def as_list(value: Any) -> list[Any]:
    """Return the items of an option that may be a list."""
    return value if isinstance(value, list) else [value]


def needs_form(dag: Any) -> bool:
    """Return whether a DAG has a parameter without a default."""
    return any(not param.has_value for _, param in dag.params.items())


@pytest.mark.parametrize(
    "page",
    [p for p in pages() if any(is_test(b) and not b.reason for b in p.blocks)],
    ids=str,
)
def test_tests(
    page: Page,
    database: MetadataDatabase,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tests of a page pass, in a folder with all files that the page shows."""
    shown = [block for block in page.blocks if block.title and not block.reason]
    for block in shown:
        assert block.title
        path = folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
    shutil.copytree(DEFINITIONS, folder / "tests" / "pipelines")  # the reader's own
    monkeypatch.delenv("AIRFLOW_CONN_POLYSYNC_DEFAULT")  # the kit sets its own
    use_bundle(folder / "dags", monkeypatch)

    done = run_session(folder, "tests")

    assert done.ret == pytest.ExitCode.OK, str(done.stdout)
    assert [b.number for b in page.blocks if is_test(b) and not b.reason] == [
        b.number for b in shown if is_test(b)
    ]


def commands() -> list[Any]:
    """
    Return the commands of this package in the console blocks, as parameters of a test.
    """
    found = []
    for block in runnable("console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = (
                shlex.split(line, comments=True)
                if line.startswith(
                    ("polysync ", "python -m polysync", "python -m sagemaker_emulator")
                )
                else []
            )
            if words:
                found.append(
                    pytest.param(words, id=f"{block.page}:{' '.join(words)[:60]}")
                )
    return found


@pytest.mark.parametrize("words", commands())
def test_console(
    words: list[str],
    airflow_database: None,
    folder: Path,
    endpoint: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    The command of this package ends without an error, or starts, if it is the emulator.
    """
    if ">" in words:
        words = words[: words.index(">")]
    if "--conn-id" in words:
        set_connection(words[words.index("--conn-id") + 1], endpoint, monkeypatch)
    if "emulator" in " ".join(words[:3]):
        command = [sys.executable, *COMMANDS[words[0]], *words[1:]]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        shutil.copytree(EXAMPLES, folder / "example_dags")
        with subprocess.Popen(
            [*command, "--port", "0"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            line = process.stdout.readline()
            process.terminate()
        assert "SageMaker emulator on http://127.0.0.1:" in line
        return
    # The comparison finds what the emulator's pipelines have and the example's file
    # does not.
    accepted = (0, 1) if words[1:3] == ["jobs", "diff"] else (0,)

    done = run_polysync(monkeypatch, capsys, *words[1:])

    assert done.code in accepted, done.err
    assert done.out + done.err


def connections() -> list[Any]:
    """Return the connections in the console blocks, as parameters of a test."""
    found = []
    for block in blocks("console"):
        for value in re.findall(
            r"^export AIRFLOW_CONN_\w+='([^']*)'", block.text, re.MULTILINE
        ):
            found.append(pytest.param(value, id=str(block)))
    return found


@pytest.mark.parametrize("value", connections())
def test_connections(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection in an environment variable is valid."""
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", value)

    hook = PolysyncSageMakerHook()
    credentials: Any = hook.credentials

    assert credentials.auth_method == json.loads(value)["extra"]["auth_method"]
    assert hook.region_name


def test_connections_of_all_methods_are_shown() -> None:
    """There is an example for each way to sign in."""
    from polysync_airflow.auth.connection import choices_of

    shown = {
        json.loads(value.values[0])["extra"]["auth_method"] for value in connections()
    }

    assert shown == set(choices_of("auth_method"))


@pytest.mark.parametrize("block", runnable("json", "yaml", "toml"), ids=str)
def test_data(block: Block) -> None:
    """Data can be read; a catalogue of jobs by its own reader."""
    read: dict[str, Callable[[str], Any]] = {
        "json": json.loads,
        "yaml": yaml.safe_load,
        "toml": tomllib.loads,
    }

    data = read[block.language](block.text)

    if isinstance(data, dict) and "jobs" in data:
        file = import_module("polysync_airflow.jobs.catalogue")
        path = Path(os.environ["AIRFLOW_HOME"], "catalogue-of-a-page.yaml")
        path.write_text(block.text)
        assert file.read_catalogue(path).broken == []
        assert file.read_catalogue(path).jobs


def test_the_readme_has_the_quickstart() -> None:
    """The first DAG in the README is the file quickstart.py."""
    blocks = [block for block in Page(README).blocks if block.language == "python"]

    assert blocks[0].text == (EXAMPLES / "quickstart.py").read_text()
