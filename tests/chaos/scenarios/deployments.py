"""
Scenarios with a second deployment beside the first one: it has the same Fernet key,
DAGs and run ids, and starts the same pipelines, or has a copy of the database.
"""

from __future__ import annotations

from typing import Any

from polysync_airflow.execution.lifecycle.ending import OF_OTHER_DEPLOYMENT
from tests.chaos.run import TASK, Run, Steps
from tests.chaos.scenarios.executions import STOP
from tests.chaos.scenarios.shared import (
    DESCRIBE,
    ENDED,
    START,
    Scenario,
    release,
    sleep,
    start_and_defer,
    wait_for_kill,
    wait_for_second_try,
)

# In which the watch of the copy has looked after the task.
WATCH_SECONDS = 15.0
REFUSAL = {
    "code": "ResourceLimitExceeded",
    "message": "The account-level limit was reached.",
}


def start_refused(start: Scenario) -> Scenario:
    """
    AWS refuses the first start of staging, while the execution of the first deployment
    runs. So the retry in staging has no record.

    :param start: how the task of the first deployment waits.
    """

    def scenario(run: Run) -> Steps:
        yield from _start_staging(run)
        yield from start(run)
        control = run.deployment.emulator.control
        refusal = control.add_fault(
            "error", START, pipeline=run.pipeline, count=1, **REFUSAL
        )
        yield from _retry_in_staging(run)
        left = [fault["id"] for fault in control.faults()]
        run.require(refusal not in left, "no start was refused")

    return scenario


def processes_killed(run: Run) -> Steps:
    """
    In each deployment, the process of the first try is killed before it has stored
    anything. When the retry of the first deployment waits, staging begins.
    """
    yield from _start_staging(run)
    run.start()
    yield from wait_for_kill(run)
    yield from wait_for_second_try(run)
    yield from _retry_in_staging(run)


def marked_in_copy(run: Run) -> Steps:
    """
    The database is copied while the task is deferred, and a user of the copy marks the
    task there. The execution goes on, and the task ends with it.
    """
    yield from start_and_defer(run)
    deployment = run.deployment
    yield from run.meet("the copy is started", deployment.start_copy)
    copy = deployment.copy
    (run_id,) = run.run_ids

    def task() -> dict[str, Any]:
        return next(iter(copy.client.tasks(run.dag_id, run_id)), {})

    def triggerer_of_copy() -> bool:
        # The copied row still names a triggerer of the original at first.
        job = (task().get("triggerer_job") or {}).get("id")
        return job is not None and deployment.triggerer_of(job) is None

    yield from run.until("the copy has its own trigger", triggerer_of_copy)
    polls = len(run.calls(DESCRIBE))
    yield from run.until("both poll", lambda: len(run.calls(DESCRIBE)) > polls + 2)
    copy.client.mark_task(run.dag_id, run_id, TASK, "failed")
    logs = copy.home / "logs" / f"dag_id={run.dag_id}" / f"run_id={run_id}"
    yield from run.until(
        "the trigger of the copy has said whose the execution is",
        lambda: run.has(logs, "*.trigger.*.log", OF_OTHER_DEPLOYMENT),
    )
    run.require(task()["state"] == "failed", f"in the copy: {task()['state']}")
    yield from sleep(WATCH_SECONDS)
    run.require(not run.calls(STOP), "a stop was requested")
    yield from release(run)
    yield from run.meet("the copy is stopped", copy.stop)


def _start_staging(run: Run) -> Steps:
    deployment = run.deployment
    yield from run.meet("staging is started", deployment.start_staging)
    deployment.staging.client.wait_for_dag(run.dag_id)


def _retry_in_staging(run: Run) -> Steps:
    """
    Trigger the DAG in staging with the same run id. The retry starts an execution of
    its own, and then both end.
    """
    (own,) = (execution.arn for execution in run.executions())
    client = run.deployment.staging.client
    (run_id,) = run.run_ids
    client.trigger(run.dag_id, conf={"pipeline": run.pipeline}, run_id=run_id)

    def task() -> dict[str, Any]:
        return next(iter(client.tasks(run.dag_id, run_id)), {})

    def execution() -> str | None:
        arn: str | None = client.xcom(run.dag_id, run_id, TASK, "execution_arn")
        return arn

    yield from run.until(
        "the retry in staging has an execution",
        lambda: task().get("try_number", 0) > 1 and execution() is not None,
    )
    running = run.running_statuses()
    run.require(
        running == ["Executing", "Executing"],
        f"beside the retry in staging: {run.state_line()}",
    )
    yield from release(run)
    yield from run.until(
        "the task in staging has ended", lambda: task()["state"] in ENDED
    )
    run.require(task()["state"] == "success", f"the task in staging: {task()['state']}")
    statuses = {execution.arn: execution.status for execution in run.executions()}
    run.require(
        statuses == {own: "Succeeded", execution(): "Succeeded"},
        f"of staging: {execution()}, of the first deployment: {own}; all: {statuses}",
    )
    run.others = set(statuses) - {own}
    yield from run.meet("staging is stopped", run.deployment.staging.stop)
