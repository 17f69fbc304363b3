"""What the entry points of the package import in a process that has nothing yet."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from polysync_airflow import __version__
from polysync_airflow.testing import plugin
from tests.unit.watch.test_plugin import NEEDS_CALLBACKS

PARSE = """
import runpy, sys
runpy.run_path({file!r})
"""
FILE = """
from pathlib import Path
from polysync_airflow.dags import polysync_dags
polysync_dags(Path({folder!r}) / "jobs.yaml"{arguments})
"""
JOBS = """
version: 1
jobs:
- name: churn
  arn: arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn
  region: us-east-1
  steps: [{name: Train, type: Training}]
"""
EVENT_TRIGGER = """
from polysync_airflow.events import PolysyncSageMakerEventTrigger
PolysyncSageMakerEventTrigger(
    queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/changes"
)
"""
UI_PLUGIN = """
from polysync_airflow.ui.plugin import PolysyncPlugin
PolysyncPlugin()
"""
LISTENERS = "import polysync_airflow.watch.plugin, polysync_airflow.watch.listeners"
HELP = """
from contextlib import suppress
from polysync_airflow.cli import main
for arguments in (["jobs", "import", "--help"], ["--version"]):
    with suppress(SystemExit):
        main(arguments)
"""


def output_of(program: str, before: str = "") -> list[str]:
    """
    Return what a program prints in a process of its own. The last line has what it has
    imported after what was imported before.
    """
    program = "\n".join(
        [
            "import json, sys",
            before,
            "before = set(sys.modules)",
            program,
            "print(json.dumps(sorted(set(sys.modules) - before)))",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def imports_of(program: str, before: str = "") -> list[str]:
    """Return the modules that a program imports."""
    modules: list[str] = json.loads(output_of(program, before)[-1])
    return modules


def packages_of(program: str, before: str = "") -> set[str]:
    """Return the packages that a program imports."""
    return {name.split(".")[0] for name in imports_of(program, before)}


def test_event_trigger_imports_no_boto3() -> None:
    """Airflow parses a DAG file every 30 seconds."""
    assert not packages_of(EVENT_TRIGGER) & {"boto3", "botocore"}


@pytest.mark.nightly
@pytest.mark.parametrize("arguments", ["", ", steps_as_tasks=True"])
def test_catalogue_in_a_dag_file_imports_no_boto3(
    arguments: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With and without a task for each step."""
    folder = tmp_path_factory.mktemp("dags")
    (folder / "jobs.yaml").write_text(JOBS)
    file = folder / "dag_file.py"
    file.write_text(FILE.format(folder=str(folder), arguments=arguments))

    assert not packages_of(PARSE.format(file=str(file))) & {"boto3", "botocore"}


@pytest.mark.nightly
def test_plugin_of_the_ui_is_cheap() -> None:
    """The scheduler, workers and the DAG processor import it, too."""
    before = "import airflow.plugins_manager"
    heavy = {"fastapi", "boto3", "botocore", "flask"}

    imported = imports_of(UI_PLUGIN, before)

    assert not {name.split(".")[0] for name in imported} & heavy
    assert {name for name in imported if name.startswith("polysync_airflow")} <= {
        "polysync_airflow",
        "polysync_airflow.airflow_compat",
        "polysync_airflow.airflow_compat.capabilities",
        "polysync_airflow.ui",
        "polysync_airflow.ui.plugin",
    }


@NEEDS_CALLBACKS
@pytest.mark.nightly
def test_listeners_are_cheap() -> None:
    """Scheduler and API server import neither boto3 nor what waits or calls AWS."""
    before = "import airflow.models.taskinstance"

    imported = imports_of(LISTENERS, before)

    packages = {name.split(".")[0] for name in imported}
    assert not packages & {"boto3", "botocore", "fastapi"}
    ours = [name for name in imported if name.startswith("polysync_airflow.")]
    folders = {name.split(".")[1] for name in ours}
    assert not folders & {"aws", "auth", "hooks", "triggers", "operators"}


def test_help_needs_neither_airflow_nor_boto3() -> None:
    """Both take a second to import."""
    *shown, _ = output_of(HELP)
    heavy = {"airflow", "boto3", "botocore", "moto", "pydantic", "yaml"}

    assert not packages_of(HELP) & heavy
    assert "--output" in "\n".join(shown)
    assert __version__ in "\n".join(shown)


def test_plugin_of_pytest_needs_pytest_only() -> None:
    """pytest imports it in every session."""
    imported = packages_of(f"import {plugin.__name__}", "import pytest")

    assert imported - set(sys.stdlib_module_names) == {"polysync_airflow"}
