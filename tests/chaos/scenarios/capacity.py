"""Scenarios in which AWS has no capacity, and the task waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.executions import RETRY
from tests.chaos.scenarios.shared import START, sleep, wait_for_end
from tests.chaos.scenarios.workers import kill_worker

NO_INSTANCES: Final = {
    "reason": (
        "CapacityError: Unable to provision requested ML compute capacity. Please retry"
        " using a different ML instance type."
    ),
    "times": 1,
}
# Longer than a pause of these cases.
AFTER_PAUSE: Final = 55.0


def quota_is_used_up(run: Run) -> Steps:
    """AWS refuses the start three times, for the quota of executions."""
    is_over = _refuse(run, count=3)
    run.start()
    yield from wait_for_end(run)
    run.require(is_over(), "the start was refused less than three times")


def no_instances(run: Run) -> Steps:
    """The third step gets no instances once."""
    run.start(Third={"fail": NO_INSTANCES})
    yield from wait_for_end(run)
    resumes = len(run.calls(RETRY))
    run.require(resumes == 1, f"{resumes} resumes, expected 1")


def timeout_passes(run: Run) -> Steps:
    """The timeout of the task passes while it waits: nothing starts later, either."""
    _refuse(run, seconds=120)
    run.start()
    yield from wait_for_end(run)
    yield from sleep(AFTER_PAUSE)


def worker_killed(run: Run) -> Steps:
    """The worker process of the task is killed in the pause; the retry asks at once."""
    is_over = _refuse(run, count=1)
    run.start()
    yield from kill_worker(run, is_over)
    yield from wait_for_end(run)


def user_clears(run: Run) -> Steps:
    """A user clears the task in the pause: the next try starts anew."""
    yield from _pause(run)
    run.clear()
    yield from run.until("an execution exists", lambda: bool(run.executions()))
    yield from wait_for_end(run)


def user_marks(run: Run) -> Steps:
    """A user marks the task as failed in the pause: nothing starts."""
    yield from _pause(run)
    run.mark_task("failed")
    yield from wait_for_end(run)
    yield from sleep(AFTER_PAUSE)


def _refuse(run: Run, **members: Any) -> Callable[[], bool]:
    """Let AWS refuse the start; return a function that says whether that is over."""
    control = run.deployment.emulator.control
    fault = control.add_fault("quota", START, pipeline=run.pipeline, **members)
    return lambda: fault not in [left["id"] for left in control.faults()]


def _pause(run: Run) -> Steps:
    """Start the task, and wait until AWS has refused its start."""
    is_over = _refuse(run, count=1)
    run.start()
    yield from run.until(
        "the task waits for capacity",
        lambda: is_over() and run.all_in("running", "deferred"),
    )
    yield from sleep(5.0)
