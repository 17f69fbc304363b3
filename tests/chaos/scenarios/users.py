"""Scenarios in which a user ends or clears a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.chaos.run import TASK, Run, Steps
from tests.chaos.scenarios.shared import (
    SHORT_STEP,
    Scenario,
    clear,
    release,
    sleep,
    start_and_defer,
    start_and_poll,
    wait_for_end,
    wait_for_failure,
    wait_for_kill,
)
from tests.system.airflow.versions import INSTALLED

# What Airflow writes when a test runs the trigger of its task, without a triggerer.
TEST_WAITS: Final = "running trigger in line"
SECONDS_OF_TEST: Final = 90.0


def user_ends_task(action: Callable[[Run], None]) -> Scenario:
    """
    A user ends the deferred task.

    :param action: the action of the user.
    """

    def scenario(run: Run) -> Steps:
        yield from start_and_defer(run)
        action(run)
        yield from wait_for_end(run)

    return scenario


def user_clears(run: Run) -> Steps:
    """
    A user clears the deferred task: a new execution replaces the one that the task
    waited for.
    """
    yield from start_and_defer(run)
    yield from clear(run)


def user_clears_running(run: Run) -> Steps:
    """
    A user clears the task while it waits in a worker: a new execution replaces the one
    that it waited for.
    """
    yield from start_and_poll(run)
    yield from clear(run)


def user_marks_running(run: Run) -> Steps:
    """A user marks the task as failed while it waits in a worker."""
    yield from start_and_poll(run)
    run.mark_task("failed")
    yield from wait_for_end(run)


def user_clears_running_and_fails_run(run: Run) -> Steps:
    """
    A user clears the task while it waits in a worker, and fails the DAG run before the
    next try starts.
    """
    yield from start_and_poll(run)
    run.clear()
    run.fail_dag_run()
    yield from wait_for_end(run)


def killed_then_cleared_after_later_run(run: Run) -> Steps:
    """
    The task's own process is killed without retries, so that only a plugin stops the
    execution, at the end of the DAG run. A later DAG run succeeds.
    """
    run.start()
    yield from wait_for_kill(run)
    yield from wait_for_failure(run)
    left = ["Executing"]
    if INSTALLED.watches:
        yield from run.until("nothing runs", lambda: run.running_statuses() == [])
        left = []
    yield from _succeed_in_later_run(run, left)
    yield from clear(run)


def marked_then_cleared_after_later_run(start: Scenario) -> Scenario:
    """
    The user marks the task failed, which stops nothing (``stop_on_kill=False``). A
    later DAG run succeeds.

    :param start: how the task waits.
    """

    def scenario(run: Run) -> Steps:
        yield from start(run)
        run.mark_task("failed")
        yield from wait_for_failure(run)
        yield from _succeed_in_later_run(run, ["Executing"])
        yield from clear(run)

    return scenario


def user_clears_ended_run(run: Run) -> Steps:
    """
    The task does not wait for its execution (``wait_for_completion=False``), so its DAG
    run succeeds, and a user clears it while the execution runs.
    """
    run.start()
    yield from run.until(
        "the DAG run has succeeded", lambda: run.dag_run_state() == "success"
    )
    run.require(
        run.running_statuses() == ["Executing"], f"before the clear: {run.state_line()}"
    )
    run.require(not run.records(), "a task that has succeeded has a record")
    run.seconds = SHORT_STEP
    run.set_steps()
    run.clear_dag_run()
    yield from run.until("a second execution exists", lambda: len(run.executions()) > 1)
    yield from wait_for_end(run)


def deferred_task_tested(run: Run) -> Steps:
    """A user tests the deferred task on the command line, in its own DAG run."""
    yield from start_and_defer(run)
    test = run.deployment.airflow.start_command(
        f"test-{run.pipeline}", "tasks", "test", run.dag_id, TASK, run.run_ids[0]
    )
    yield from run.until(
        "the test waits",
        lambda: test.status() is not None or TEST_WAITS in test.log.read_text(),
    )
    # The trigger of the task looks again meanwhile.
    yield from sleep(SECONDS_OF_TEST)
    yield from release(run)
    yield from run.until("the test has ended", lambda: test.status() is not None)


def _succeed_in_later_run(run: Run, left: list[str]) -> Steps:
    """
    Let another DAG run of the same DAG start the same pipeline, and succeed.

    :param left: the statuses of the first executions that run on.
    """
    own = {execution.arn for execution in run.executions()}
    run.seconds = SHORT_STEP
    run.set_steps()
    client, later = run.deployment.client, run.trigger_dag_run()
    yield from run.until(
        "the later DAG run has succeeded",
        lambda: client.run_state(run.dag_id, later) == "success",
    )
    run.others = {execution.arn for execution in run.executions()} - own
    run.require(
        len(run.others) == 1,
        f"the later DAG run has started {len(run.others)} executions",
    )
    run.require(run.running_statuses() == left, f"before the clear: {run.state_line()}")
