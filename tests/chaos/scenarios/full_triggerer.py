"""
Scenarios in which the only triggerer has one slot, which the trigger of another task
has taken.
"""

from __future__ import annotations

import time
from typing import Final

from tests.chaos.deployment.airflow_deployment import FIRST
from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.executions import STOP
from tests.chaos.scenarios.shared import sleep, wait_for_end
from tests.system.airflow.versions import INSTALLED

SLOT_DAG: Final = "polysync_slot"
SLOT_RUN: Final = "takes_the_slot"
# In which a triggerer would have taken the trigger.
SECONDS_WITHOUT_POLL: Final = 10.0


def marked(run: Run) -> Steps:
    """A user marks the task as failed."""
    yield from _defer_without_slot(run)
    start = time.monotonic()
    run.mark_task("failed")
    if not INSTALLED.watches:
        run.deployment.stop_orphans()
    yield from run.until(
        "the execution is asked to stop", lambda: bool(run.calls(STOP))
    )
    run.remarks.append(f"stopped {time.monotonic() - start:.0f} s after the mark")
    yield from _start_again(run)


def out_of_time(run: Run) -> Steps:
    """The time of the task is up: a worker stops its execution."""
    yield from _defer_without_slot(run)
    yield from wait_for_end(run)
    stops = run.calls(STOP)
    started = run.executions()[0].started
    if stops:
        run.remarks.append(
            f"stopped {stops[0]['time'] - started:.0f} s after the start"
        )
    yield from _start_again(run)


def _defer_without_slot(run: Run) -> Steps:
    yield from run.meet("both triggerers end", run.deployment.kill_triggerers)
    yield from run.meet(
        "one with one slot starts",
        lambda: run.deployment.start_triggerer(FIRST, capacity=1),
    )
    yield from run.meet(
        "another task defers",
        lambda: _take_slot(run),
    )
    yield from run.until("the slot is taken", lambda: _slot_is_taken(run))
    run.start()
    yield from run.until("the task is deferred", lambda: run.all_in("deferred"))
    yield from sleep(SECONDS_WITHOUT_POLL)
    run.require(run.triggerer() is None, "the trigger has got a slot")


def _take_slot(run: Run) -> None:
    run.deployment.client.trigger(SLOT_DAG, run_id=SLOT_RUN)


def _slot_is_taken(run: Run) -> bool:
    tasks = run.deployment.client.tasks(SLOT_DAG, SLOT_RUN)
    return any(task.get("triggerer_job") for task in tasks)


def _start_again(run: Run) -> Steps:
    yield from run.meet("the triggerers start", run.deployment.start_triggerers)
