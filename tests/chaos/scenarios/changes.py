"""
Scenarios in which a user deletes or changes what a deferred task needs: DAG, DAG run,
DAG file, connection.
"""

from __future__ import annotations

from typing import Any

from tests.chaos.deployment.airflow_deployment import TEAM_NAME
from tests.chaos.run import TASK, Run, Steps
from tests.chaos.scenarios.shared import (
    SHORT_STEP,
    Scenario,
    clear,
    end_in_second_try,
    release,
    start_and_defer,
    wait_for_end,
    wait_for_failure,
)

EDITED_VALUE = "edited"
# Of the error that says which connections a triggerer does not find.
HIDDEN_CONNECTION = "multi_team"


def dag_deleted(run: Run) -> Steps:
    """The DAG is deleted while the task is deferred."""
    yield from start_and_defer(run)
    yield from run.meet(
        "the DAG is deleted", lambda: run.deployment.client.delete_dag(run.dag_id)
    )
    yield from _wait_for_stop(run)


def dag_run_deleted(start: Scenario) -> Scenario:
    """
    The DAG run is deleted while the task waits. Airflow deletes only a run that has
    ended.

    :param start: how the task waits.
    """

    def scenario(run: Run) -> Steps:
        yield from start(run)
        run.fail_dag_run()
        for run_id in run.run_ids:
            run.deployment.client.delete_run(run.dag_id, run_id)
        yield from _wait_for_stop(run)

    return scenario


def file_edited(run: Run) -> Steps:
    """
    The arguments of the task are other ones in the DAG file while the task is deferred.
    """
    yield from start_and_defer(run)
    yield from _edit(run)
    yield from release(run)
    _require_values(run, "first")


def file_edited_and_cleared(run: Run) -> Steps:
    """
    As `file_edited`. Then the user clears the task, which starts an execution with the
    new arguments.
    """
    yield from start_and_defer(run)
    yield from _edit(run)
    yield from clear(run)
    _require_values(run, "first", EDITED_VALUE)


def task_renamed(start: Scenario) -> Scenario:
    """
    The task gets another id in the DAG file while it waits: for Airflow, that is
    another task.

    :param start: how the task waits.
    """

    def scenario(run: Run) -> Steps:
        yield from start(run)
        yield from _edit(run, task_id="renamed")
        yield from wait_for_end(run)
        states = {task["task_id"]: task["state"] for task in run.tasks()}
        run.require(
            states == {TASK: "removed", "renamed": "success"},
            f"states of the tasks: {states}",
        )

    return scenario


def connection_deleted_for_a_time(run: Run) -> Steps:
    """
    The connection is deleted until the first try has failed. The retry goes on with the
    execution.
    """
    yield from _defer_and_delete_connection(run)
    yield from run.until(
        "the task waits for its retry", lambda: run.all_in("up_for_retry")
    )
    _create_connection(run)
    yield from end_in_second_try(run)


def connection_deleted_until_clear(run: Run) -> Steps:
    """All tries fail. Then somebody adds the connection again, and clears the task."""
    yield from _defer_and_delete_connection(run)
    yield from wait_for_failure(run)
    run.require(
        run.running_statuses() == ["Executing"],
        f"without a connection: {run.state_line()}",
    )
    run.require(len(run.records()) == 1, f"{len(run.records())} records, expected 1")
    _create_connection(run)
    yield from clear(run)


def connection_of_team(run: Run) -> Steps:
    """The connection belongs to the team of the task, which waits in its worker."""
    _create_connection(run, team_name=TEAM_NAME)
    run.start()
    yield from wait_for_end(run)


def connection_of_team_in_triggerer(run: Run) -> Steps:
    """The task defers, and Airflow hides the connection of its team from triggerers."""
    yield from connection_of_team(run)
    run.require(
        run.task_log_has(HIDDEN_CONNECTION, try_number=1),
        f"the log of the task does not say: {HIDDEN_CONNECTION}",
    )


def _wait_for_stop(run: Run) -> Steps:
    yield from run.until("nothing is left in Airflow", lambda: not run.tasks())
    yield from run.until(
        "the execution is stopped", lambda: run.running_statuses() != ["Executing"]
    )


def _edit(run: Run, task_id: str = TASK) -> Steps:
    yield from run.meet("all wait")
    arguments: dict[str, Any] = {
        "task_id": task_id,
        "deferrable": False,
        "pipeline_parameters": {"Value": EDITED_VALUE},
        "max_parallel_steps": 1,
    }
    run.seconds = SHORT_STEP
    run.set_steps()
    # Each run writes the same.
    run.deployment.edited.edit(run.dag_id, arguments)
    yield from run.until(
        "Airflow has parsed the edited file",
        lambda: run.deployment.client.description(run.dag_id) == repr(arguments),
    )


def _require_values(run: Run, *expected: str) -> None:
    values = [run.parameters(execution.arn)["Value"] for execution in run.executions()]
    run.require(
        values == list(expected),
        f"the executions have the values {values}, expected: {expected}",
    )


def _defer_and_delete_connection(run: Run) -> Steps:
    # Each run has a connection of its own, by the name of its pipeline.
    _create_connection(run)
    yield from start_and_defer(run)
    run.deployment.client.delete_connection(run.pipeline)


def _create_connection(run: Run, **more: str) -> None:
    run.deployment.client.create_connection(
        run.pipeline, {**run.deployment.emulator.connection, **more}
    )
