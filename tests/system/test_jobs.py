"""
From nothing to a scheduled DAG for each imported job, with the commands and the form
that a person uses.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from tests.browser.chromium import WIDTH, running_chromium
from tests.chaos.deployment.postgres import private_postgres
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.airflow.versions import INSTALLED
from tests.system.emulator_process import EmulatorProcess
from tests.system.process.sessions import wait_until

pytestmark = [pytest.mark.system, pytest.mark.nightly]

RUN_TIMEOUT = 120.0
# The form of seven parameters, whole.
HEIGHT = 1300
DAG_FILE = """\
from polysync_airflow.dags import polysync_dags

polysync_dags("jobs.yaml", schedule={"fanout": "@once"}, operator_args={"deferrable": True, "poll_interval": 5})
"""


def polysync(
    emulator: EmulatorProcess, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """
    Run the command ``polysync`` of this environment, with a connection to the emulator.
    """
    program = shutil.which("polysync", path=str(Path(sys.executable).parent))
    assert program, "the package is not installed in this environment"
    env = {
        **os.environ,
        "AIRFLOW_CONN_POLYSYNC_DEFAULT": json.dumps(emulator.connection),
    }
    return subprocess.run(
        [program, *arguments], env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def dags(emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the DAGs, into which the jobs are imported."""
    folder = tmp_path_factory.mktemp("dags-of-jobs")
    imported = polysync(emulator, "jobs", "import", str(folder / "jobs.yaml"))
    assert (imported.returncode, "5 added" in imported.stderr) == (0, True), (
        imported.stderr
    )
    (folder / "all_jobs.py").write_text(DAG_FILE)
    return folder


@pytest.fixture(scope="module")
def airflow(
    emulator: EmulatorProcess, dags: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateAirflow]:
    """An Airflow that starts DAGs by their schedules."""
    with ExitStack() as stack:
        database = (
            None if INSTALLED.sqlite else stack.enter_context(private_postgres()).url
        )
        yield stack.enter_context(
            PrivateAirflow(
                tmp_path_factory.mktemp("airflow-with-jobs"),
                dag_folders=[dags],
                connections={"polysync_default": emulator.connection},
                settings={"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True"},
                database=database,
            )
        )


@pytest.fixture(autouse=True)
def _forget_calls_of_other_tests(emulator: EmulatorProcess) -> None:
    emulator.control.clear_calls()


def sent_to(emulator: EmulatorProcess, pipeline: str) -> dict[str, str]:
    """Return the parameter values of the only start of a pipeline."""
    requests = [
        call["request"] for call in emulator.control.calls("StartPipelineExecution")
    ]
    (request,) = [
        request for request in requests if request["PipelineName"] == pipeline
    ]
    return {each["Name"]: each["Value"] for each in request["PipelineParameters"]}


def test_scheduled_job_runs_with_its_defaults(
    airflow: PrivateAirflow, emulator: EmulatorProcess
) -> None:
    """Nobody gives a value."""
    airflow.client.wait_for_dag("fanout")
    airflow.client.unpause("fanout")

    assert wait_until(lambda: len(airflow.client.dag_runs("fanout")) == 1, timeout=60)
    (run_id,) = airflow.client.dag_runs("fanout")
    assert (
        airflow.client.wait_for_run("fanout", run_id, timeout=RUN_TIMEOUT) == "success"
    )
    assert sent_to(emulator, "fanout") == {"Shards": "5"}


@pytest.mark.skipif(
    not CAPABILITIES.react_apps,
    reason="this Airflow has the form only in its HTML pages",
)
def test_form_knows_the_types(
    airflow: PrivateAirflow, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    """
    A drop-down, a switch and a required text; letters in a number are refused. The run
    gets the values.
    """
    pytest.importorskip("playwright")
    airflow.client.wait_for_dag("abalone")

    with running_chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{airflow.url}/dags/abalone")
        page.get_by_role("button", name="Trigger").first.click()
        form = page.locator("[role=dialog][data-state=open]")
        trigger = form.get_by_role("button", name="Trigger")
        number = form.locator("[name=element_ProcessingInstanceCount]")
        number.wait_for()
        assert trigger.is_disabled()
        form.get_by_text("This field is required").wait_for()
        number.press_sequentially("abc")
        assert number.input_value() == "1"
        form.locator("[name=element_InputDataUrl]").fill(
            "s3://ml-bucket/{{ not rendered }}.csv"
        )
        form.locator("#element_TrainingInstanceType").get_by_role("combobox").press(
            "ArrowDown"
        )
        page.screenshot(path=tmp_path / "enum.png")
        page.get_by_role("option", name="ml.m5.2xlarge").click()
        form.locator("[data-scope=switch][data-part=control]").click()
        page.screenshot(path=tmp_path / "form.png")
        trigger.click()
        assert wait_until(
            lambda: len(airflow.client.dag_runs("abalone")) == 1, timeout=30
        )

    # The form unpauses the DAG by a request of its own, which the end of the browser
    # can cut off.
    airflow.client.unpause("abalone")
    (run_id,) = airflow.client.dag_runs("abalone")
    assert (
        airflow.client.wait_for_run("abalone", run_id, timeout=RUN_TIMEOUT) == "success"
    )
    sent = sent_to(emulator, "abalone")
    assert sent["InputDataUrl"] == "s3://ml-bucket/{{ not rendered }}.csv"
    assert (sent["TrainingInstanceType"], sent["Shuffle"]) == ("ml.m5.2xlarge", "False")
    assert (sent["ProcessingInstanceCount"], sent["MseThreshold"]) == ("1", "6")


def test_api_refuses_a_wrong_value(airflow: PrivateAirflow) -> None:
    """Whoever does not use the form gets the same check."""
    airflow.client.wait_for_dag("abalone")

    with pytest.raises(Exception, match=r"'abc' is not of type 'integer'|400"):
        airflow.client.trigger(
            "abalone", conf={"InputDataUrl": "s3://x", "ProcessingInstanceCount": "abc"}
        )


def test_drift_is_noticed(emulator: EmulatorProcess, dags: Path) -> None:
    """The catalogue fits, until somebody changes a pipeline in AWS."""
    catalogue = str(dags / "jobs.yaml")
    assert polysync(emulator, "jobs", "diff", catalogue).returncode == 0
    client: Any = emulator.client()
    before = client.describe_pipeline(PipelineName="fanout")["PipelineDefinition"]
    definition = json.loads(before)
    definition["Parameters"].append({"Name": "Owner", "Type": "String"})

    client.update_pipeline(
        PipelineName="fanout", PipelineDefinition=json.dumps(definition)
    )
    drift = polysync(emulator, "jobs", "diff", catalogue, "--output", "json")
    client.update_pipeline(PipelineName="fanout", PipelineDefinition=before)

    assert drift.returncode == 1
    kinds = {
        (entry["job"], entry["kind"], entry["parameter"])
        for entry in json.loads(drift.stdout)["changes"]
    }
    assert ("fanout", "required_parameter_added", "Owner") in kinds
