"""The fixtures for DAG authors, in a pytest that runs DAGs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sagemaker_emulator import builders
from tests.fakes.dag_bundle import use_bundle
from tests.processes.projects import DAG_FILE
from tests.processes.test_plugin import Project

pytestmark = pytest.mark.nightly
# Read before the fixture ``project`` removes it.
AIRFLOW_HOME = os.environ["AIRFLOW_HOME"]
RED = re.compile(r"error|warning|critical|traceback", re.IGNORECASE)
# At the end of the session, everything must be as before the first test.
COMPARE_PROCESS = """
import os
import sys
import threading

from polysync_airflow.execution import clock


def process():
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    threads = [t.name for t in threading.enumerate() if not t.daemon]
    return environment, list(sys.path), clock._clock, threads


def pytest_collection_finish(session):
    session.process = process()


def pytest_sessionfinish(session):
    before, after = session.process, process()
    print("PROCESS", "IS UNCHANGED" if before == after else f"WAS {before}, IS {after}")
"""


def test_tests_share_nothing(project: Project) -> None:
    """
    Each test has an emulator without executions and scenarios, and the process is as
    before.

    The log of a DAG run that succeeds has neither errors nor warnings.
    """
    tests = """
import os
import socket
import sys
from importlib import import_module
from pathlib import Path

import airflow.settings  # before the fixtures, as many projects do
import pytest

from polysync_airflow.execution import clock

ports = []


def patched():
    if airflow.__version__.startswith("2."):
        module = import_module("airflow.utils.task_instance_session")
        return [module.__dict__["__current_task_instance_session"], clock._clock]
    supervisor = import_module("airflow.sdk.execution_time.supervisor")
    task_runner = import_module("airflow.sdk.execution_time.task_runner")
    has_supervisor = hasattr(task_runner, "SUPERVISOR_COMMS")
    return [supervisor.in_process_api_server, has_supervisor, clock._clock]


before = patched()


def test_green(sagemaker_emulator, load_dag):
    assert load_dag("dags/scoring.py").test().state == "success"
    print("GREEN")


def test_failing(sagemaker_emulator, load_dag):
    assert "AIRFLOW_CONN_POLYSYNC_DEFAULT" in os.environ
    assert clock._clock is not before[-1]
    sagemaker_emulator.fail_step("Train", "No data", pipeline="fanout")
    assert load_dag("dags/scoring.py").test().state == "failed"
    assert len(sagemaker_emulator.starts()) == 1
    ports.append(sagemaker_emulator.port)


def test_process_is_unchanged():
    assert patched() == before
    assert not [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]
    assert str(Path("dags").resolve()) not in sys.path
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", ports[0]), timeout=2)


def test_succeeding(sagemaker_emulator, load_dag):
    assert sagemaker_emulator.starts() == []
    assert load_dag("dags/scoring.py", "scoring").test().state == "success"
    (start,) = sagemaker_emulator.starts("fanout")
    assert start.parameters == {"Shards": "5"}
    assert sagemaker_emulator.starts("abalone") == []


def test_database_is_temporary(airflow_metadata_db):
    assert str(airflow.settings.engine.url).endswith(f"{airflow_metadata_db.home}/airflow.db")
    assert not (Path.home() / "airflow" / "airflow.db").exists()
"""
    definition = builders.definition(
        builders.step("Train", "Training"),
        parameters=({"Name": "Shards", "Type": "Integer"},),
    )
    result = project(
        {
            "conftest.py": COMPARE_PROCESS,
            "dags/scoring.py": DAG_FILE,
            "dags/broken.py": "raise RuntimeError('only the DAG file of the test is read')",
            "pipelines/fanout.json": definition,
            "pytest.ini": "[pytest]\npolysync_definitions = pipelines\n",
            "test_scoring.py": tests,
        },
        "-s",
        new_process=True,
    )

    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines("*PROCESS IS UNCHANGED")
    green = "\n".join([*result.outlines, *result.errlines]).split("GREEN\n")[0]
    assert "DagRun Finished" in green
    assert [line for line in green.splitlines() if RED.search(line)] == []


def test_configured_airflow_is_used(
    airflow_database: None,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With AIRFLOW_HOME, the DAG run is stored in the author's own database."""
    from tests.fakes.airflow_rows import dag_run_state

    monkeypatch.setenv("AIRFLOW_HOME", AIRFLOW_HOME)
    use_bundle(tmp_path / "dags", monkeypatch)
    tests = """
def test_scoring(sagemaker_emulator, load_dag, airflow_metadata_db):
    assert airflow_metadata_db.home is None
    run = load_dag("dags/scoring.py").test()
    assert run.state == "success"
    print("RUN", run.run_id)
"""

    result = project({"dags/scoring.py": DAG_FILE, "test_scoring.py": tests}, "-s")

    result.assert_outcomes(passed=1)
    (run_id,) = [line.split()[1] for line in result.outlines if line.startswith("RUN ")]
    assert dag_run_state("scoring", run_id) == "success"


# It starts Airflow's API for tasks, which takes five seconds.
def test_error_of_a_dag_file_names_the_file_and_its_dags(
    airflow_database: None, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure names the file, the error in it, and the DAGs that it has."""
    monkeypatch.setenv("AIRFLOW_HOME", AIRFLOW_HOME)
    tests = """
import pytest

@pytest.mark.parametrize(
    "arguments", [("nowhere.py",), ("broken.py",), ("two.py",), ("two.py", "three")]
)
def test_it(load_dag, arguments):
    load_dag(*arguments)
"""
    two = """
from airflow.providers.common.compat.sdk import DAG
one, two = (DAG(i, schedule=None) for i in ("a", "b"))
"""

    result = project(
        {"test_it.py": tests, "broken.py": "import no_such_module", "two.py": two}
    )

    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "*nowhere.py is not a file; give the path of a DAG file",
            "*broken.py cannot be imported:",
            "*No module named 'no_such_module'",
            "dag_id is None; the DAGs of *two.py are: a, b",
            "dag_id is 'three'; the DAGs of *two.py are: a, b",
        ]
    )
