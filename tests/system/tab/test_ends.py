"""
The tab, the page, the XCom ``run`` and the command say the same of an execution, in
each way in which its task ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from sagemaker_emulator import EXAMPLE_DEFINITIONS
from tests.browser.airflow_site import Task
from tests.browser.chromium import HEIGHT, WIDTH, running_chromium
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS
from tests.system.airflow.client import AirflowError
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.conftest import HERE
from tests.system.emulator_process import EmulatorProcess
from tests.system.process.sessions import wait_until

pytestmark = [pytest.mark.system, pytest.mark.nightly, NEEDS_TABS]

# An execution is stopping for ten seconds, which both polls of the UI see.
SPEED: Final = 2
# Two polls of the UI, one of the triggerer, and the requests, on a busy machine.
LAG_SECONDS: Final = 32.0
WATCHED_SECONDS: Final = 100.0
NEVER_ENDS: Final[dict[str, Any]] = {"steps": {"ChurnPreprocess": {"duration": None}}}
FAILS_ONCE: Final[dict[str, Any]] = {
    "steps": {
        "ChurnPreprocess": {
            "duration": 4,
            "fail": {"reason": "AlgorithmError: exit code 1", "times": 1},
        },
        "ChurnTune": {"duration": None},
    }
}
STATES: Final = {
    "Executing": "Running",
    "Stopping": "Stopping",
    "Stopped": "Cancelled",
    "Failed": "Failed",
}
IN_ROW: Final = """run => {
  const link = document.querySelector(`.psm a[href*="${encodeURIComponent(run)}"]`);
  return link?.closest("tr").querySelector(".psm-badge")?.innerText ?? null;
}"""
IN_TAB: Final = """() => document.querySelector(
  ".psm [role=status] .psm-badge")?.innerText ?? null"""


@pytest.fixture(scope="module")
def slow_emulator(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EmulatorProcess]:
    """An emulator in which a stop takes long enough to be seen."""
    home = tmp_path_factory.mktemp("slow-emulator")
    with EmulatorProcess(home, speed=SPEED, definitions=EXAMPLE_DEFINITIONS) as running:
        yield running


@pytest.fixture(scope="module")
def slow_airflow(
    slow_emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateAirflow]:
    """An Airflow with a connection to that emulator."""
    with PrivateAirflow(
        tmp_path_factory.mktemp("airflow-with-ends"),
        dag_folders=[HERE / "dags"],
        connections={"polysync_default": slow_emulator.connection},
    ) as running:
        yield running


@dataclass
class Execution:
    """An execution, and the pages that show it."""

    airflow: PrivateAirflow
    emulator: EmulatorProcess
    dag_id: str
    run_id: str
    arn: str
    tab: TabPage
    page: TabPage

    @property
    def status(self) -> str:
        """AWS's status."""
        described = self.emulator.client().describe_pipeline_execution(
            PipelineExecutionArn=self.arn
        )
        return str(described["PipelineExecutionStatus"])

    def in_xcom(self) -> str | None:
        """The state in the XCom ``run``."""
        run = self.airflow.client.xcom(self.dag_id, self.run_id, "retrain", "run")
        if run is None:
            return None
        if run["state"] == "Running" and (run.get("stop") or run.get("status")):
            return STATES.get(run["status"], "Stopping")
        return str(run["state"])

    def in_command(self) -> str:
        """The status that the command says."""
        program = Path(sys.executable).parent / "polysync"
        shown = subprocess.run(
            [program, "executions", "show", self.arn],
            env=self.airflow.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return shown.stdout


def press(name: str) -> Callable[[Execution], None]:
    """Return a function that presses a button of the tab, and confirms it."""

    def act(execution: Execution) -> None:
        execution.tab.button(name).click()
        execution.tab.button("Yes").click()

    return act


def mark(state: str) -> Callable[[Execution], None]:
    """Return a function that marks the task."""

    def act(execution: Execution) -> None:
        execution.airflow.client.mark_task(
            execution.dag_id, execution.run_id, "retrain", state
        )

    return act


def clear(execution: Execution) -> None:
    """Clear the task."""
    execution.airflow.client.clear_task(execution.dag_id, execution.run_id, "retrain")


def fail_run(execution: Execution) -> None:
    """Mark the DAG run as failed."""
    execution.airflow.client.mark_run(execution.dag_id, execution.run_id, "failed")


def delete_run(execution: Execution) -> None:
    """Delete the DAG run, which Airflow allows after it has ended."""
    fail_run(execution)
    execution.airflow.client.delete_run(execution.dag_id, execution.run_id)


def kill_process(execution: Execution) -> None:
    """Kill the process of the task, a child of that of the executor."""
    scheduler = psutil.Process(execution.airflow.components["scheduler"].pid)
    (process,) = [
        task
        for executor in scheduler.children()
        for task in executor.children()
        if "airflow worker" in " ".join(task.cmdline())
    ]
    os.kill(process.pid, signal.SIGKILL)


def stop_in_aws(execution: Execution) -> None:
    """Stop the execution, as somebody does in the console."""
    execution.emulator.client().stop_pipeline_execution(
        PipelineExecutionArn=execution.arn, ClientRequestToken="t" * 32
    )


def let_time_pass(_: Execution) -> None:
    """Wait for the timeout."""


# The DAG, what is done, and what is shown at the end.
ENDS: Mapping[str, tuple[str, Callable[[Execution], None], str | None]] = {
    "button": ("ends_deferred", press("Stop execution"), "Cancelled"),
    "mark failed": ("ends_deferred", mark("failed"), "Cancelled"),
    "mark success": ("ends_deferred", mark("success"), "Cancelled"),
    "clear": ("ends_deferred", clear, "Running"),
    "timeout": ("ends_by_timeout", let_time_pass, "Cancelled"),
    "run failed": ("ends_deferred", fail_run, "Cancelled"),
    "delete": ("ends_deferred", delete_run, None),
    "kill": ("ends_on_worker", kill_process, "Cancelled"),
    "stop in AWS": ("ends_deferred", stop_in_aws, "Cancelled"),
    "resumed": ("ends_deferred", press("Resume failed steps"), "Running"),
}


@pytest.fixture
def start(
    slow_airflow: PrivateAirflow, slow_emulator: EmulatorProcess
) -> Iterator[Callable[..., Execution]]:
    """Returns a function that starts an execution, and opens its tab and the page."""
    with running_chromium() as browser:
        # One session, as of one person.
        windows = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})

        def open_pages(dag_id: str, scenario: dict[str, Any]) -> Execution:
            slow_emulator.control.put_scenario(scenario)
            client = slow_airflow.client
            client.wait_for_dag(dag_id)
            run_id = client.trigger(dag_id)
            client.unpause(dag_id)

            def arn() -> str | None:
                value = client.xcom(dag_id, run_id, "retrain", "execution_arn")
                return str(value) if value else None

            assert wait_until(lambda: arn() is not None, timeout=90, interval=0.5)
            if scenario is FAILS_ONCE:
                client.wait_for_run(dag_id, run_id, timeout=90)
            tab, page = (
                TabPage(windows.new_page(), f"{slow_airflow.url}/") for _ in range(2)
            )
            tab.open(Task(run_id, "retrain", dag_id=dag_id))
            tab.wait_for("churn-tuning")
            page.open_executions(f"?dag={dag_id}")
            page.rows()
            return Execution(
                slow_airflow, slow_emulator, dag_id, run_id, arn() or "", tab, page
            )

        yield open_pages
    slow_emulator.control.put_scenario({})


def word(text: str | None) -> str | None:
    """Return the state in the text of a badge, which begins with an icon."""
    return text and text.split()[-1]


@pytest.mark.parametrize("end", ENDS)
def test_all_say_the_same(end: str, start: Callable[..., Execution]) -> None:
    """
    Nothing says what has not been true within two polls, and nothing says Unknown.
    """
    dag_id, act, last = ENDS[end]
    scenario = FAILS_ONCE if end == "resumed" else NEVER_ENDS
    execution = start(dag_id, scenario)
    act(execution)
    began = time.monotonic()
    # What was true, and since when.
    truths: list[tuple[float, str | None]] = [(0.0, "Running")]
    wrong = []
    samples = []

    def look() -> bool:
        at = time.monotonic() - began
        status = execution.status
        true = STATES[status]
        if true == "Running" and end not in ("timeout", "resumed"):
            true = "Stopping"
        truths.append((at, true))
        try:
            in_xcom = execution.in_xcom()
        except AirflowError:
            in_xcom = None
        shown = {
            "tab": word(execution.tab.page.evaluate(IN_TAB)),
            "page": word(execution.page.page.evaluate(IN_ROW, execution.run_id)),
            "xcom": in_xcom,
        }
        samples.append((round(at, 1), status, shown))
        recent = {state for then, state in truths if then > at - LAG_SECONDS}
        # It may have changed since.
        recent |= {None, STATES[execution.status]}
        if last == "Running":
            # The next try starts, or resumes, an execution.
            recent.add(last)
        for place, state in shown.items():
            if state not in recent:
                wrong.append((round(at, 1), place, state, status))
        execution.tab.page.wait_for_timeout(500)
        execution.page.page.wait_for_timeout(500)
        is_over = status in ("Stopped", "Executing") and at > LAG_SECONDS
        return is_over and {shown["tab"], shown["page"]} == {last}

    agrees = wait_until(look, timeout=WATCHED_SECONDS, interval=0)

    assert wrong == []
    assert agrees, samples
    if last == "Cancelled":
        assert "(AWS status Stopped)" in execution.in_command()
        assert execution.in_xcom() == "Cancelled"
    if last is None:
        execution.tab.wait_for("Airflow has no such task instance")
