"""The button "SageMaker Console" and the XComs behind it, as a whole Airflow serves them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from polysync_airflow.links import PolysyncPipelineExecutionLink, console_url
from tests.system.private_airflow import PrivateAirflow
from tests.system.processes import wait_until

pytestmark = pytest.mark.system

TASK = "retrain"
BUTTON = PolysyncPipelineExecutionLink.name
START_TIMEOUT = 60.0
RUN_TIMEOUT = 120.0


@dataclass(frozen=True)
class Run:
    """A run whose task ``retrain`` is to be in a state while it waits for its execution."""

    airflow: PrivateAirflow
    dag_id: str
    run_id: str
    waiting_state: str

    @property
    def state(self) -> str:
        """The task's state."""
        return self.airflow.client.task_states(self.dag_id, self.run_id)[TASK]

    def xcom(self, key: str) -> object:
        """What the task pushed."""
        return self.airflow.client.xcom(self.dag_id, self.run_id, TASK, key)

    @property
    def button(self) -> str | None:
        """Where the task's button leads."""
        return self.airflow.client.links(self.dag_id, self.run_id, TASK)[BUTTON]


@pytest.fixture(scope="module")
def runs(airflow: PrivateAirflow) -> dict[str, Run]:
    """One run of each mode, begun together to save time."""
    started = {}
    for dag_id, state in (("scheduled_retraining", "deferred"), ("retraining_on_the_worker", "running")):
        airflow.client.wait_for_dag(dag_id)
        run_id = airflow.client.trigger(dag_id)
        airflow.client.unpause(dag_id)
        started[state] = Run(airflow, dag_id, run_id, state)
    return started


@pytest.mark.parametrize("waiting_state", ["running", "deferred"])
def test_the_button_appears_while_the_task_waits(runs: dict[str, Run], waiting_state: str) -> None:
    """ARN, console URL and button are there while the execution runs, whether a worker is held or not."""
    run = runs[waiting_state]
    wait_until(lambda: run.button is not None and run.state == waiting_state, timeout=START_TIMEOUT)

    arn, url, button, record = run.xcom("execution_arn"), run.xcom("console_url"), run.button, run.xcom("run")
    state = run.state

    assert state == waiting_state
    assert isinstance(arn, str)
    assert arn.startswith("arn:aws:sagemaker:us-east-1:")
    assert button == url == console_url(arn, "churn-tuning")
    assert isinstance(record, dict)
    assert record["state"] == "Running"


@pytest.mark.parametrize("waiting_state", ["running", "deferred"])
def test_the_button_stays_after_the_end(runs: dict[str, Run], waiting_state: str) -> None:
    """A run ends as success in both modes, and its ARN, console URL and button are still there."""
    run = runs[waiting_state]

    ended = run.airflow.client.wait_for_run(run.dag_id, run.run_id, timeout=RUN_TIMEOUT)

    log = "\n".join(run.airflow.client.log(run.dag_id, run.run_id, TASK))
    assert ended == "success", log
    arn = run.xcom("execution_arn")
    assert run.xcom("return_value") == arn
    assert run.button == run.xcom("console_url") == console_url(str(arn), "churn-tuning")
    assert run.xcom("state") == "Success"


def test_a_deferred_task_is_waited_for_by_the_triggerer(runs: dict[str, Run]) -> None:
    """The wait of a deferred task, with its changes of status, is in the triggerer's part of its log."""
    run = runs["deferred"]
    run.airflow.client.wait_for_run(run.dag_id, run.run_id, timeout=RUN_TIMEOUT)

    log = run.airflow.client.log(run.dag_id, run.run_id, TASK)

    paused = next(n for n, line in enumerate(log) if "DEFERRED" in line)
    ended = next(n for n, line in enumerate(log) if "Executing -> Succeeded" in line)
    resumed = next(n for n, line in enumerate(log) if "Trigger fired event" in line)
    assert paused < ended < resumed
