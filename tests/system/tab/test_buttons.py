"""
The buttons of the tab in a real Airflow: each has the calls to AWS that it promises,
and no others.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser.airflow_site import Task
from tests.browser.chromium import HEIGHT, WIDTH, running_chromium
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.emulator_process import EmulatorProcess
from tests.system.process.sessions import wait_until

pytestmark = [pytest.mark.system, NEEDS_TABS]

RUN_TIMEOUT = 150.0
START, RETRY, STOP = (
    "StartPipelineExecution",
    "RetryPipelineExecution",
    "StopPipelineExecution",
)
FAILS_ONCE = {
    "steps": {
        "ChurnTune": {"duration": 60},
        "ChurnEvaluate": {
            "fail": {"reason": "AlgorithmError: exit code 1", "times": 1}
        },
    }
}
# ``on_clear`` is "new", and "resume".
NEW, RESUME = "failed_retraining", "resumed_retraining"


@pytest.fixture(autouse=True)
def _remove_scenarios(emulator: EmulatorProcess) -> Iterator[None]:
    yield
    emulator.control.put_scenario({})
    emulator.control.clear_calls()


@contextmanager
def opened_tab(airflow: PrivateAirflow, dag_id: str, run_id: str) -> Iterator[TabPage]:
    """Open the tab of the task in a browser."""
    pytest.importorskip("playwright")
    with running_chromium() as browser:
        page = TabPage(
            browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"
            ),
            f"{airflow.url}/",
        )
        page.open(Task(run_id, "retrain", dag_id=dag_id))
        page.wait_for("churn-tuning")
        yield page
        assert page.script_errors == []


def trigger(airflow: PrivateAirflow, dag_id: str) -> str:
    """Trigger a DAG run, and return its id."""
    airflow.client.wait_for_dag(dag_id)
    run_id = airflow.client.trigger(dag_id)
    airflow.client.unpause(dag_id)
    return run_id


def changes(emulator: EmulatorProcess) -> dict[str, int]:
    """
    Return how often each operation that changes executions was called.

    The trigger and the watch may both stop an execution, with the same token: AWS takes
    that for one stop.
    """
    counts = {name: len(emulator.control.calls(name)) for name in (START, RETRY)}
    stops = emulator.control.calls(STOP)
    counts[STOP] = len({call["request"]["ClientRequestToken"] for call in stops})
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(
    ("dag_id", "button", "called"),
    [
        (NEW, "Resume failed steps", {RETRY: 1}),
        pytest.param(
            RESUME, "Start a new execution", {START: 1}, marks=pytest.mark.nightly
        ),
    ],
    ids=["resume", "new"],
)
def test_failed_execution_is_resumed_or_repeated(
    dag_id: str,
    button: str,
    called: dict[str, int],
    airflow: PrivateAirflow,
    emulator: EmulatorProcess,
) -> None:
    """The button counts more than ``on_clear``, and the DAG run goes on to its end."""
    emulator.control.put_scenario(FAILS_ONCE)
    run_id = trigger(airflow, dag_id)
    assert airflow.client.wait_for_run(dag_id, run_id, timeout=RUN_TIMEOUT) == "failed"
    failed_arn = airflow.client.xcom(dag_id, run_id, "retrain", "execution_arn")
    emulator.control.put_scenario({})
    emulator.control.clear_calls()

    with opened_tab(airflow, dag_id, run_id) as page:
        page.button(button).click()
        page.button("Yes").click()
        page.wait_for("The task is cleared.")
        # Without a reload of the page.
        page.tab.get_by_text("Running").first.wait_for(timeout=60_000)
    assert airflow.client.wait_for_run(dag_id, run_id, timeout=RUN_TIMEOUT) == "success"

    assert changes(emulator) == called
    arn = airflow.client.xcom(dag_id, run_id, "retrain", "execution_arn")
    assert (arn == failed_arn) is (RETRY in called)
    assert set(airflow.client.task_states(dag_id, run_id).values()) == {"success"}


@pytest.mark.nightly
def test_failed_execution_is_resumed_from_a_shell(
    airflow: PrivateAirflow, emulator: EmulatorProcess
) -> None:
    """Two commands do what the button does, and wait for the end of the task."""
    emulator.control.put_scenario(FAILS_ONCE)
    run_id = trigger(airflow, NEW)
    assert airflow.client.wait_for_run(NEW, run_id, timeout=RUN_TIMEOUT) == "failed"
    emulator.control.put_scenario({})
    emulator.control.clear_calls()

    def polysync(*arguments: str) -> str:
        program = Path(sys.executable).with_name("polysync")
        done = subprocess.run(
            [program, "executions", *arguments],
            env={**airflow.environment(), "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = polysync("list", "--state", "Failed", "--run", run_id)
    (name,) = re.findall(r"churn-tuning/[0-9a-z]+", listed)
    written = polysync("resume", name, "--yes", "--wait")

    assert changes(emulator) == {RETRY: 1}
    assert f"Task {NEW}/retrain: success" in written
    assert "ChurnEvaluate" in written
    assert set(airflow.client.task_states(NEW, run_id).values()) == {"success"}


def test_running_execution_is_stopped(
    airflow: PrivateAirflow, emulator: EmulatorProcess
) -> None:
    """The task fails, its execution stops, and nothing is started in its place."""
    emulator.control.put_scenario({"steps": {"ChurnTune": {"duration": None}}})
    run_id = trigger(airflow, NEW)

    def is_deferred() -> bool:
        return airflow.client.task_states(NEW, run_id)["retrain"] == "deferred"

    assert wait_until(is_deferred, timeout=60, interval=0.5)
    arn = airflow.client.xcom(NEW, run_id, "retrain", "execution_arn")
    emulator.control.clear_calls()

    with opened_tab(airflow, NEW, run_id) as page:
        page.button("Stop execution").click()
        page.button("Yes").click()
        page.wait_for(re.compile("The execution (is being|was) stopped"))
    assert airflow.client.wait_for_run(NEW, run_id, timeout=RUN_TIMEOUT) == "failed"

    def status() -> str:
        described = emulator.client().describe_pipeline_execution(
            PipelineExecutionArn=arn
        )
        return str(described["PipelineExecutionStatus"])

    assert wait_until(lambda: status() == "Stopped", timeout=60, interval=0.5)
    assert changes(emulator) == {STOP: 1}
