"""Scenarios in which the deployment gets another Airflow while a task waits."""

from __future__ import annotations

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import (
    DESCRIBE,
    START,
    clear,
    release,
    start_and_defer,
    wait_for_kill,
)


def while_deferred(run: Run) -> Steps:
    """The task is deferred. Its trigger goes on after the upgrade."""
    yield from start_and_defer(run)
    yield from _upgrade(run, "deferred")
    before = len(run.calls(DESCRIBE))
    yield from run.until(
        "the trigger polls again", lambda: len(run.calls(DESCRIBE)) > before
    )
    yield from release(run)


def before_retry(run: Run) -> Steps:
    """
    The process of the task was killed after the start, and the task waits for its
    retry, which comes afterwards.
    """
    run.start()
    yield from wait_for_kill(run)
    yield from run.until(
        "the task waits for its retry", lambda: run.all_in("up_for_retry")
    )
    yield from _upgrade(run, "up_for_retry")
    yield from run.until("the retry is deferred", lambda: run.all_in("deferred"))
    yield from release(run)
    tokens = {call["request"].get("ClientRequestToken") for call in run.calls(START)}
    run.require(len(tokens) == 1, f"starts with {len(tokens)} tokens, expected 1")


def and_cleared(run: Run) -> Steps:
    """The task is deferred during the upgrade. Then the user clears it."""
    yield from start_and_defer(run)
    yield from _upgrade(run, "deferred")
    yield from clear(run)


def _upgrade(run: Run, state: str) -> Steps:
    yield from run.meet("before the upgrade")
    run.require(
        run.all_in(state),
        f"before the upgrade: {run.state_line()}; expected: {state}",
    )
    yield from run.meet("the upgrade", run.deployment.upgrade)
    run.deployment.calls.refresh()
