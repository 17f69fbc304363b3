"""
Tests of what a task shows of its execution, through the REST API of a real Airflow: the
extra link "SageMaker Console" with its XComs, and the task's log.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from polysync_airflow.execution.console import execution_url
from polysync_airflow.links import PolysyncPipelineExecutionLink
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.airflow.versions import INSTALLED
from tests.system.process.sessions import wait_until

pytestmark = pytest.mark.system

TASK = "retrain"
LINK = PolysyncPipelineExecutionLink.name
START_TIMEOUT = 60.0
RUN_TIMEOUT = 120.0


@dataclass(frozen=True)
class Run:
    """
    A DAG run with the task ``retrain``.

    :param waiting_state: the state of the task while it waits for its execution.
    """

    airflow: PrivateAirflow
    dag_id: str
    run_id: str
    waiting_state: str

    @property
    def state(self) -> str:
        """The state of the task."""
        return self.airflow.client.task_states(self.dag_id, self.run_id)[TASK]

    def xcom(self, key: str) -> object:
        """Return a value that the task pushed to XCom."""
        return self.airflow.client.xcom(self.dag_id, self.run_id, TASK, key)

    @property
    def link(self) -> str | None:
        """The URL of the task's extra link; None if it has none yet."""
        return self.airflow.client.links(self.dag_id, self.run_id, TASK)[LINK]


@pytest.fixture(scope="module")
def runs(airflow: PrivateAirflow) -> dict[str, Run]:
    """
    One DAG run of each mode by waiting state. They run at the same time to save time.
    """
    started = {}
    for dag_id, state in (
        ("retraining_deferred", "deferred"),
        ("retraining_on_the_worker", "running"),
    ):
        airflow.client.wait_for_dag(dag_id)
        run_id = airflow.client.trigger(dag_id)
        airflow.client.unpause(dag_id)
        started[state] = Run(airflow, dag_id, run_id, state)
    return started


@pytest.mark.parametrize("waiting_state", ["running", "deferred"])
def test_link_appears_while_the_task_waits(
    runs: dict[str, Run], waiting_state: str
) -> None:
    """
    The XComs and the link exist while the execution runs, in the deferred and in the
    synchronous mode.
    """
    run = runs[waiting_state]
    # The task pushes ``run`` last.
    wait_until(
        lambda: run.xcom("run") is not None and run.state == waiting_state,
        timeout=START_TIMEOUT,
    )

    arn, url, link, record = (
        run.xcom("execution_arn"),
        run.xcom("console_url"),
        run.link,
        run.xcom("run"),
    )
    state = run.state

    assert state == waiting_state
    assert isinstance(arn, str)
    assert arn.startswith("arn:aws:sagemaker:us-east-1:")
    assert link == url == execution_url(arn, "churn-tuning")
    assert isinstance(record, dict)
    assert record["state"] == "Running"


@pytest.mark.parametrize("waiting_state", ["running", "deferred"])
def test_link_remains_after_the_end(runs: dict[str, Run], waiting_state: str) -> None:
    """The DAG run succeeds in both modes, and the XComs and the link still exist."""
    run = runs[waiting_state]

    ended = run.airflow.client.wait_for_run(run.dag_id, run.run_id, timeout=RUN_TIMEOUT)

    log = "\n".join(run.airflow.client.log(run.dag_id, run.run_id, TASK))
    assert ended == "success", log
    arn = run.xcom("execution_arn")
    assert run.xcom("return_value") == arn
    assert (
        run.link == run.xcom("console_url") == execution_url(str(arn), "churn-tuning")
    )
    assert run.xcom("state") == "Success"


def test_triggerer_writes_to_the_log_of_the_deferred_task(runs: dict[str, Run]) -> None:
    """
    The status changes that the triggerer polled are in the task's log, between deferral
    and resumption.
    """
    run = runs["deferred"]
    run.airflow.client.wait_for_run(run.dag_id, run.run_id, timeout=RUN_TIMEOUT)

    log = run.airflow.client.log(run.dag_id, run.run_id, TASK)

    deferred = next(n for n, line in enumerate(log) if "DEFERRED" in line)
    ended = next(n for n, line in enumerate(log) if "Executing -> Succeeded" in line)
    resumed = next(n for n, line in enumerate(log) if INSTALLED.trigger_fired in line)
    assert deferred < ended < resumed


@pytest.mark.parametrize("waiting_state", ["running", "deferred"])
def test_lines_of_jobs_are_in_the_log_while_they_run(
    runs: dict[str, Run], waiting_state: str
) -> None:
    """The first ones before the end of the job, and each line once."""
    run = runs[waiting_state]
    run.airflow.client.wait_for_run(run.dag_id, run.run_id, timeout=RUN_TIMEOUT)

    messages = run.airflow.client.log(run.dag_id, run.run_id, TASK)
    log = "\n".join(messages)

    head = "Step ChurnTune: new lines of its log\n"
    assert head in log.partition("Step ChurnTune succeeded")[0], log
    entries = [each.removeprefix(head) for each in messages if each.startswith(head)]
    first, *others = "\n".join(entries).splitlines()
    assert first.startswith("| Starting the container of ")
    assert others == [
        "| Reading the input data",
        "| Read 1024 records",
        "| Working on the records",
        "| Done",
    ]
