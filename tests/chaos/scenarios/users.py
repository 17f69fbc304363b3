"""Scenarios in which a user ends or clears a task."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import DESCRIBE, Scenario, clear, start_and_defer, wait_for_end


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
    """A user clears the deferred task: a new execution replaces the one that the task waited for."""
    yield from start_and_defer(run)
    yield from clear(run)


def user_clears_running(run: Run) -> Steps:
    """A user clears the task while it waits in a worker: a new execution replaces the one that it waited for."""
    yield from _start_and_poll(run)
    yield from clear(run)


def user_marks_running(run: Run) -> Steps:
    """A user marks the task as failed while it waits in a worker."""
    yield from _start_and_poll(run)
    run.mark_task("failed")
    yield from wait_for_end(run)


def user_clears_running_and_fails_run(run: Run) -> Steps:
    """A user clears the task while it waits in a worker, and fails the DAG run before the next try starts."""
    yield from _start_and_poll(run)
    run.clear()
    run.fail_dag_run()
    yield from wait_for_end(run)


def _start_and_poll(run: Run) -> Steps:
    run.start()
    yield from run.until(
        "the task polls in its worker", lambda: bool(run.calls(DESCRIBE)) and run.all_in("running")
    )
