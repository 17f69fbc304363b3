"""
Scenarios in which a task ends while none of its processes runs: its process was ended
by a signal, and it waits for its retry.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import (
    Scenario,
    start_and_poll,
    wait_for_end,
    wait_for_kill,
)
from tests.system.airflow.versions import INSTALLED

# Seconds until the scheduler looks at a DAG run whose only task waits.
LATE_TIMEOUT: Final = 600.0


def drained_then(action: Callable[[Run], None]) -> Scenario:
    """
    The process of the task gets SIGTERM, as from a node that is drained. Then somebody
    ends the task that waits for its retry.

    :param action: what ends it.
    """

    def scenario(run: Run) -> Steps:
        yield from _drain(run)
        action(run)
        yield from wait_for_end(run)
        yield from _wait_for_stop(run)

    return scenario


def drained_until_timeout(run: Run) -> Steps:
    """The same. Then the time of the DAG run is over, which Airflow may see late."""
    yield from _drain(run)
    yield from wait_for_end(run, LATE_TIMEOUT)
    yield from _wait_for_stop(run)


def drained_and_run_deleted(run: Run) -> Steps:
    """The same. Then the DAG run is failed and deleted at once."""
    yield from _drain(run)
    run.fail_dag_run()
    for run_id in run.run_ids:
        run.deployment.client.delete_run(run.dag_id, run_id)
    yield from _wait_for_stop(run)


def drained_and_dag_deleted(run: Run) -> Steps:
    """The same. Then the DAG is deleted, of which Airflow tells nobody."""
    yield from _drain(run)
    yield from run.meet(
        "the DAG is deleted", lambda: run.deployment.client.delete_dag(run.dag_id)
    )
    yield from run.until("nothing is left in Airflow", lambda: not run.tasks())
    run.deployment.stop_orphans()
    yield from _wait_for_stop(run)


def killed_without_retries(run: Run) -> Steps:
    """The process is killed, and the rest of its worker lives. No retry is left."""
    run.start()
    yield from wait_for_kill(run)
    yield from wait_for_end(run)
    yield from _wait_for_stop(run)


def _drain(run: Run) -> Steps:
    yield from start_and_poll(run)
    pid = (run.marker("try-1") or {})["pid"]
    os.kill(pid, signal.SIGTERM)
    yield from run.until(
        "the task waits for its retry", lambda: run.all_in("up_for_retry")
    )
    run.require(
        run.running_statuses() == ["Executing"],
        f"after the drain: {run.state_line()}",
    )


def _wait_for_stop(run: Run) -> Steps:
    if not INSTALLED.watches:
        run.deployment.stop_orphans()
    yield from run.until(
        "the execution is stopped", lambda: run.running_statuses() != ["Executing"]
    )
