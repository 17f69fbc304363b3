"""What the fixtures for DAG authors take, and what they refuse, in a pytest of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from polysync_airflow.testing import dag_files as metadata_db
from sagemaker_emulator import builders

Project = Callable[..., pytest.RunResult]


@pytest.fixture
def unprepared_database(
    airflow_database: None,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A database without tables, which the author has configured."""
    file = tmp_path / "own.db"
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{file}")
    metadata_db._connect()
    yield file
    # With the environment of the tests that follow.
    monkeypatch.undo()
    metadata_db._connect()


def test_unprepared_database_is_not_touched(
    project: Project, unprepared_database: Path
) -> None:
    """
    If the configured database has no tables, the fixture names the variable and the
    cure, and creates none.
    """
    result = project({"test_it.py": "def test_it(load_dag): ..."})

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        "*AIRFLOW__DATABASE__SQL_ALCHEMY_CONN configures has no tables*airflow db migrate*"
    )
    with closing(sqlite3.connect(unprepared_database)) as own:
        assert own.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_settings_come_from_the_marker_and_the_ini_file(project: Project) -> None:
    """
    The marker sets region, definitions, speed and connections; the ini option the
    connections of all tests.
    """
    tests = """
import json
import os

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook

def regions():
    names = [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]
    return {name: json.loads(os.environ[name])["extra"]["region_name"] for name in names}

def test_ini(sagemaker_emulator):
    teams = ["AIRFLOW_CONN_TEAM_A", "AIRFLOW_CONN_TEAM_B"]
    assert regions() == dict.fromkeys(teams, "us-east-1")
    names = ["abalone", "callback-lambda", "churn-tuning", "fanout", "scoring-required-params"]
    assert sagemaker_emulator.pipelines == {"us-east-1": names}

@pytest.mark.sagemaker(region="eu-central-1", speed=7)
class TestMarker:
    @pytest.mark.sagemaker(connections=["mine"], definitions="pipelines")
    def test_marker(self, sagemaker_emulator):
        assert regions() == {"AIRFLOW_CONN_MINE": "eu-central-1"}
        assert sagemaker_emulator.pipelines == {"eu-central-1": ["my-own"]}
        assert sagemaker_emulator.control.clock()["speed"] == 7
        hook = PolysyncSageMakerHook("mine")
        (pipeline,) = hook.conn.list_pipelines()["PipelineSummaries"]
        assert pipeline["PipelineName"] == "my-own"
"""
    definition = builders.definition(builders.step("Train", "Training"))
    ini = "[pytest]\npolysync_connections = team_a team_b\naddopts = --strict-markers\n"

    result = project(
        {"test_it.py": tests, "pipelines/my_own.json": definition, "pytest.ini": ini}
    )

    result.assert_outcomes(passed=2)


def test_invalid_setting_is_named(project: Project) -> None:
    """The error names the setting."""
    tests = """
import pytest

@pytest.mark.sagemaker(speeed=3)
def test_name(sagemaker_emulator): ...

@pytest.mark.sagemaker("pipelines")
def test_position(sagemaker_emulator): ...

@pytest.mark.sagemaker(definitions="nowhere")
def test_definitions(sagemaker_emulator): ...
"""

    result = project({"test_it.py": tests})

    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        [
            "*sagemaker_emulator cannot start: * got an unexpected keyword argument 'speeed'",
            "*sagemaker has arguments by name only",
            "*nowhere is not a folder",
        ]
    )


@pytest.mark.parametrize("module", ["sagemaker_emulator", "moto"])
def test_missing_extra_is_named_with_its_cure(project: Project, module: str) -> None:
    """
    Without the emulator, or what it needs, the plugin loads, and the fixture says what
    to install.
    """
    block = f"import sys\nsys.modules[{module!r}] = None"

    result = project(
        {
            "conftest.py": block,
            "test_it.py": "def test_it(sagemaker_emulator): ...\ndef test_other(): ...",
        },
        new_process=True,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        "*not installed (*pip install 'polysync-airflow?testing?'"
    )
