"""Every example DAG parses, and runs to its end in Airflow itself against the emulator."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer, RealClock
from tests.conftest import DEFINITIONS, connection

EXAMPLES = Path(__file__).parents[1] / "example_dags"
# Fast enough for a two-hour retraining to take seconds.
SPEED = 600.0


@pytest.fixture(scope="module")
def _database() -> None:
    """Airflow's database, made by its own command in the tests' AIRFLOW_HOME."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[EmulatorServer]:
    """An emulator in real, but fast, time: these runs wait by Airflow's own means."""
    with EmulatorServer(clock=RealClock(SPEED), definitions=DEFINITIONS) as server:
        yield server


@pytest.fixture
def example(_database: None, endpoint: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run an example by its DAG id and return the finished DAG run."""
    endpoint.control.reset()
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", connection(endpoint_url=endpoint.endpoint_url))

    def run(dag_id: str) -> Any:
        return dag_of(dag_id).test()

    return run


def dag_of(dag_id: str) -> Any:
    """Parse the example of that name."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(EXAMPLES / f"{dag_id}.py")
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    assert dag.dag_id == dag_id
    return dag


def test_all_examples_are_covered() -> None:
    """A new example without a test fails here."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "quickstart",
        "scheduled_retraining",
        "start_and_stop",
        "import_and_fan_out",
    }
    assert os.environ["AIRFLOW__CORE__DAGS_FOLDER"] == str(EXAMPLES)


def xcom(run: Any, task_id: str, key: str) -> Any:
    """Read an XCom from Airflow's database."""
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id, key=key)


def states_of(run: Any) -> list[tuple[str, int, str]]:
    """Return (task, map index, state) of every task instance."""
    return sorted((ti.task_id, ti.map_index, str(ti.state)) for ti in run.get_task_instances())


def test_the_readmes_first_dag_is_the_quickstart_and_runs(example: Any) -> None:
    """What a reader copies first is what is tested here, to the letter."""
    readme = (EXAMPLES.parent / "README.md").read_text()

    run = example("quickstart")

    assert f"```python\n{(EXAMPLES / 'quickstart.py').read_text()}```" in readme
    assert states_of(run) == [("train", -1, "success")]
    assert xcom(run, "train", "run")["parameters"] == {"InputDataUrl": "s3://ml-bucket/abalone.csv"}


def test_scheduled_retraining_runs_to_success(example: Any, endpoint: EmulatorServer) -> None:
    """Templates are rendered into parameters, the wait is deferred, and the report gets the record."""
    run = example("scheduled_retraining")

    assert states_of(run) == [("report", -1, "success"), ("retrain", -1, "success")]
    (call,) = endpoint.control.calls("StartPipelineExecution")
    sent = {p["Name"]: p["Value"] for p in call["request"]["PipelineParameters"]}
    assert sent == {
        "InputData": f"s3://ml-bucket/churn/raw/{run.run_after:%Y-%m-%d}",
        "MaxJobs": "8",
        "AucThreshold": "0.75",
    }
    assert xcom(run, "retrain", "run")["parameters"] == sent
    assert xcom(run, "retrain", "state") == "Success"
    assert xcom(run, "report", "return_value").startswith("churn-tuning ended as Success after ")
    # Airflow stores the button's address itself at the end of each worker session.
    assert xcom(run, "retrain", "_link_PolysyncPipelineExecutionLink") == xcom(run, "retrain", "console_url")


def test_start_and_stop_cancels_the_execution(example: Any, endpoint: EmulatorServer) -> None:
    """The ARN that Start returns is what Stop takes."""
    run = example("start_and_stop")

    assert states_of(run) == [("start", -1, "success"), ("stop", -1, "success")]
    assert xcom(run, "start", "return_value") == xcom(run, "start", "execution_arn")
    assert xcom(run, "stop", "return_value") == "Cancelled"


def test_imported_jobs_fan_out_to_one_start_each(example: Any, endpoint: EmulatorServer) -> None:
    """A job's declared defaults become a start's parameters, one mapped task for each job."""
    run = example("import_and_fan_out")

    assert states_of(run) == [
        ("import_jobs", -1, "success"),
        ("start", 0, "success"),
        ("start", 1, "success"),
    ]
    started = {
        call["request"]["PipelineName"]: {
            p["Name"]: p["Value"] for p in call["request"]["PipelineParameters"]
        }
        for call in endpoint.control.calls("StartPipelineExecution")
    }
    assert started == {
        "churn-tuning": {
            "InputData": "s3://ml-bucket/churn/raw",
            "MaxJobs": "4",
            "AucThreshold": "0.75",
            "DryRun": "False",
        },
        "fanout": {"Shards": "5"},
    }
