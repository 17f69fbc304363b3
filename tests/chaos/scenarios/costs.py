"""Scenarios in which a task spends what it may."""

from __future__ import annotations

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.components import TRIGGERERS_DEAD_SECONDS
from tests.chaos.scenarios.executions import STOP
from tests.chaos.scenarios.shared import sleep, start_and_defer, wait_for_end


def limit_reached(run: Run) -> Steps:
    """The execution goes on until it has cost too much."""
    run.start()
    yield from wait_for_end(run)
    _require_one_stop(run)


def limit_reached_without_triggerers(run: Run) -> Steps:
    """
    Both triggerers are killed before the task has spent what it may, and start again
    after a minute: then its execution is stopped.
    """
    yield from start_and_defer(run)
    yield from run.meet("both triggerers end", run.deployment.kill_triggerers)
    yield from sleep(TRIGGERERS_DEAD_SECONDS)
    run.require(not run.calls(STOP), "the execution was stopped without a triggerer")
    yield from run.meet("the triggerers start", run.deployment.start_triggerers)
    yield from wait_for_end(run)
    _require_one_stop(run)


def _require_one_stop(run: Run) -> None:
    # While triggers move between triggerers, the same one may run twice: both send the
    # same stop.
    tokens = {call["request"]["ClientRequestToken"] for call in run.calls(STOP)}
    run.require(len(tokens) == 1, f"{len(tokens)} stops, expected 1")
