"""
Steps and outputs in a real Airflow: the model reaches other tasks and DAGs, and a
failure leads to its log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from tests.browser.chromium import HEIGHT, WIDTH, running_chromium
from tests.chaos.deployment.postgres import private_postgres
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.airflow.versions import INSTALLED
from tests.system.conftest import EXAMPLES, HERE
from tests.system.emulator_process import EmulatorProcess
from tests.system.process.sessions import wait_until

pytestmark = pytest.mark.system

RUN_TIMEOUT = 150.0
MODEL_PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/"


@pytest.fixture(scope="module")
def airflow(
    emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateAirflow]:
    """
    An Airflow whose scheduler starts the DAGs that wait for an asset. That of the other
    tests starts none.
    """
    with ExitStack() as stack:
        database = (
            None if INSTALLED.sqlite else stack.enter_context(private_postgres()).url
        )
        yield stack.enter_context(
            PrivateAirflow(
                tmp_path_factory.mktemp("airflow-with-schedules"),
                dag_folders=[EXAMPLES, HERE / "dags"],
                connections={"polysync_default": emulator.connection},
                settings={"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True"},
                database=database,
            )
        )


@pytest.fixture(autouse=True)
def _remove_scenarios(emulator: EmulatorProcess) -> Iterator[None]:
    yield
    emulator.control.put_scenario({})
    emulator.control.clear_calls()


# The text that a person sees: at the beginning of each of its lines, the window shows
# its element.
VISIBLE_TEXT = """() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), parts = [];
    const isSeen = (rect, element) => {
        const top = document.elementFromPoint(rect.left + 1, (rect.top + rect.bottom) / 2);
        return top !== null && element.contains(top);
    };
    while (walker.nextNode()) {
        const range = document.createRange(), text = walker.currentNode;
        range.selectNodeContents(text);
        const rects = [...range.getClientRects()].filter((rect) => rect.width > 0);
        if (rects.length && rects.every((rect) => isSeen(rect, text.parentElement))) parts.push(text.textContent);
    }
    return parts.join("");
}"""


def trigger(airflow: PrivateAirflow, dag_id: str) -> str:
    """Trigger a DAG run and return its id."""
    airflow.client.wait_for_dag(dag_id)
    run_id = airflow.client.trigger(dag_id)
    airflow.client.unpause(dag_id)
    return run_id


def only_run(airflow: PrivateAirflow, dag_id: str) -> str | None:
    """Return the id of the only run of a DAG; None if it has none yet."""
    runs = airflow.client.dag_runs(dag_id)
    return runs[0] if runs else None


@pytest.mark.nightly
def test_model_reaches_tasks_and_dags_downstream(airflow: PrivateAirflow) -> None:
    """
    The task after it gets the model's ARN from the XCom, and the DAG of the asset from
    the event.
    """
    airflow.client.wait_for_dag("announce_model")
    airflow.client.unpause("announce_model")
    run_id = trigger(airflow, "deploy_model")

    assert (
        airflow.client.wait_for_run("deploy_model", run_id, timeout=RUN_TIMEOUT)
        == "success"
    )

    arn = airflow.client.xcom("deploy_model", run_id, "deploy", "return_value")
    assert arn.startswith(MODEL_PACKAGE)
    assert wait_until(
        lambda: only_run(airflow, "announce_model") is not None, timeout=60
    )
    scheduled = str(only_run(airflow, "announce_model"))
    assert (
        airflow.client.wait_for_run("announce_model", scheduled, timeout=60)
        == "success"
    )
    assert airflow.client.xcom(
        "announce_model", scheduled, "announce", "return_value"
    ) == [arn]


def test_steps_are_shown_while_the_task_is_deferred(airflow: PrivateAirflow) -> None:
    """The triggerer updates the XCom, and writes a line to the log of the task."""
    run_id = trigger(airflow, "resumed_retraining")

    def rows() -> list[dict[str, Any]]:
        return (
            airflow.client.xcom("resumed_retraining", run_id, "retrain", "steps") or []
        )

    def is_updated_while_deferred() -> bool:
        states = {row["name"]: row["state"] for row in rows()}
        task = airflow.client.task_states("resumed_retraining", run_id)["retrain"]
        return task == "deferred" and states.get("ChurnPreprocess") == "Success"

    assert wait_until(is_updated_while_deferred, timeout=60, interval=0.5)
    assert (
        airflow.client.wait_for_run("resumed_retraining", run_id, timeout=RUN_TIMEOUT)
        == "success"
    )
    log = airflow.client.log("resumed_retraining", run_id, "retrain")
    assert (
        len(
            [
                line
                for line in log
                if "Step ChurnPreprocess succeeded after 4 min" in line
            ]
        )
        == 1
    )
    # Airflow writes it as an error if a button looks up an XCom that the task has not
    # pushed.
    assert [line for line in log if "XCom not found" in line] == []


def test_failure_shows_its_log_and_a_clear_repeats_one_step(
    airflow: PrivateAirflow, emulator: EmulatorProcess
) -> None:
    """
    The lines of the failed step's log are in the task's log. After the clear, the other
    steps are kept.
    """
    lines = ["epoch 1", "KeyError: 'tenure_months'"]
    failure = {"reason": "AlgorithmError: exit code 1", "times": 1, "log_lines": lines}
    emulator.control.put_scenario({"steps": {"ChurnEvaluate": {"fail": failure}}})
    run_id = trigger(airflow, "resumed_retraining")
    assert (
        airflow.client.wait_for_run("resumed_retraining", run_id, timeout=RUN_TIMEOUT)
        == "failed"
    )

    log = "\n".join(airflow.client.log("resumed_retraining", run_id, "retrain"))
    arn = airflow.client.xcom("resumed_retraining", run_id, "retrain", "execution_arn")

    assert "Step ChurnEvaluate failed: AlgorithmError: exit code 1" in log
    for line in lines:
        assert f"| {line}" in log
    assert (
        "logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FProcessingJobs" in log
    )
    emulator.control.put_scenario({})
    airflow.client.clear_task("resumed_retraining", run_id, "retrain")
    assert wait_until(
        lambda: airflow.client.run_state("resumed_retraining", run_id) != "failed",
        timeout=60,
    )
    assert (
        airflow.client.wait_for_run("resumed_retraining", run_id, timeout=RUN_TIMEOUT)
        == "success"
    )

    assert (
        airflow.client.xcom("resumed_retraining", run_id, "retrain", "execution_arn")
        == arn
    )
    rows = airflow.client.xcom("resumed_retraining", run_id, "retrain", "steps")
    repeated = min(row["started_at"] for row in rows if row["name"] == "ChurnEvaluate")
    kept = [row for row in rows if row["name"] in ("ChurnPreprocess", "ChurnTune")]
    assert all(row["ended_at"] < repeated for row in kept)
    assert len(emulator.control.calls("RetryPipelineExecution")) == 1


@pytest.mark.skipif(
    not CAPABILITIES.react_apps, reason="this Airflow has the log on another page"
)
def test_failure_is_visible_without_scrolling(
    airflow: PrivateAirflow, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    """
    Airflow's log pane shows the end of the log: verdict, step, reason, links, log lines
    and the cure are there.
    """
    pytest.importorskip("playwright")
    error = "KeyError: 'tenure_months'"
    lines = [*(f"epoch {number}" for number in range(40)), error]
    failure = {"reason": f"AlgorithmError: {error}", "times": 1, "log_lines": lines}
    emulator.control.put_scenario({"steps": {"ChurnPreprocess": {"fail": failure}}})
    run_id = trigger(airflow, "resumed_retraining")
    assert (
        airflow.client.wait_for_run("resumed_retraining", run_id, timeout=RUN_TIMEOUT)
        == "failed"
    )

    with running_chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{airflow.url}/dags/resumed_retraining/runs/{run_id}/tasks/retrain")
        # Airflow scrolls to the end of the log.
        wait_until(lambda: "in finish" in page.evaluate(VISIBLE_TEXT), timeout=40)
        page.screenshot(path=tmp_path / "pane.png")
        visible = page.evaluate(VISIBLE_TEXT)

    for text in (
        "Pipeline churn-tuning failed after",
        f"Step ChurnPreprocess failed: AlgorithmError: {error}",
        "Log: https://us-east-1.console.aws.amazon.com/cloudwatch/",
        "Job in the console: https://",
        f"| {error}",
        "Next: mend the cause, then clear the task.",
        "Execution: arn:aws:sagemaker:",
        "Console: https://us-east-1.console.aws.amazon.com/sagemaker/",
    ):
        assert text in visible, text
