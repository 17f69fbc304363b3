"""
A worker that shuts down, for example an evicted pod: the task's process gets SIGTERM,
and some time later SIGKILL.

Nobody has ended the task, and Airflow has it as running.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from polysync_airflow.exceptions import PolysyncError
from tests.unit.operators.recovery.harness import (
    RetryEverything,
    Task,
    run_failure_callbacks,
)
from tests.world import NEVER_ENDS, START, STOP, World

SHUTTING_DOWN = "The worker is shutting down, so this try ends."


def at_deferral(task: Task, action: Callable[[], Any]) -> None:
    """Let something happen in the next try when the operator has called ``defer``."""
    operator: Any = task.prepare_try()
    defer = operator.defer

    def act_and_defer(**arguments: Any) -> None:
        action()
        defer(**arguments)

    operator.defer = act_and_defer


@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_retry_reattaches_after_a_shutdown(stop_on_kill: bool, world: World) -> None:
    """The try ends at once, not after its next poll, and the retry reattaches."""
    task = Task(arguments={"stop_on_kill": stop_on_kill, "poll_interval": 600})
    task.prepare_try()
    start = world.time.time()
    world.time.after(100, task.shut_down_worker)

    first = task.run_prepared_try()

    assert isinstance(first.error, PolysyncError)
    assert (str(first.error), task.state) == (SHUTTING_DOWN, "up_for_retry")
    assert world.time.time() == pytest.approx(start + 100)
    assert task.next_try().error is None
    assert world.calls(START, STOP) == [START]
    assert world.log.statuses == ["Succeeded"]


def test_shutdown_in_the_moment_of_the_deferral(world: World) -> None:
    """
    The deferral is complete before the grace period ends: the same try goes on with the
    execution.
    """
    task = Task(deferrable=True)
    at_deferral(task, task.shut_down_worker)

    run = task.run_prepared_try()

    assert (run.error, task.state, task.try_number) == (None, "success", 1)
    assert world.calls(STOP) == []
    assert world.log.statuses == ["Succeeded"]


@pytest.mark.parametrize("retries", [0, 2])
def test_shutdown_without_retry_stops_the_execution(retries: int, world: World) -> None:
    """
    The task ends for good, so its process stops the execution; the failure callback
    that follows makes no call.
    """
    world.control.put_scenario(NEVER_ENDS)
    task = Task(retries=retries)
    for number in range(retries + 1):
        task.prepare_try()
        world.time.after(100, task.shut_down_worker)
        run = task.run_prepared_try()
        assert world.calls(STOP) == ([STOP] if number == retries else [])
    assert (str(run.error), task.state) == (SHUTTING_DOWN, "failed")
    world.control.clear_calls()

    run_failure_callbacks(task.operator, run.ti)
    world.control.advance(60)

    assert world.calls() == []
    assert world.log.statuses == ["Stopped"]


def test_execution_timeout_is_no_shutdown(world: World) -> None:
    """
    Airflow has the task as running then, too, but calls ``on_kill`` without a signal:
    the execution is stopped.
    """
    world.control.put_scenario(NEVER_ENDS)

    def time_out(_: Any) -> None:
        raise AirflowTaskTimeout

    world.requests.after(START, time_out)
    task = Task(arguments={"retry_policy": RetryEverything()})

    task.next_try()
    world.control.advance(60)

    assert task.state == "up_for_retry"
    assert world.log.statuses == ["Stopped"]
