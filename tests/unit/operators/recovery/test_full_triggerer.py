"""
A deferred task whose trigger never runs, because no triggerer has a free slot: long
after the deadline, Airflow's scheduler returns the task to a worker.
"""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from polysync_airflow import exceptions
from polysync_airflow.execution.lifecycle.ending import TRIGGER_GRACE_SECONDS
from polysync_airflow.triggers.stopping import BEFORE_EVENT_SECONDS
from tests.fakes.log_capture import capture_logs, texts_of
from tests.unit.operators.recovery.harness import Task
from tests.world import NEVER_ENDS, START, STOP, World

HOUR = 3600.0
REPORT = "No trigger has ended the wait in time"


def deferred_task(**arguments: Any) -> Task:
    """Return a deferred task whose time is up after an hour."""
    return Task(deferrable=True, arguments={"timeout": HOUR, **arguments})


def test_worker_stops_the_execution_after_the_deadline(world: World) -> None:
    """A quarter of an hour is left to the trigger, which may take ten minutes."""
    world.control.put_scenario(NEVER_ENDS)
    task = deferred_task()
    began_at = world.time.time()
    deferral = task.defer()

    with capture_logs() as logs:
        run = task.end_deferral(deferral)
    seconds = world.time.time() - began_at
    world.control.advance(60)

    assert isinstance(run.error, exceptions.PipelineExecutionTimeoutError)
    assert "the limit of 1 h (timeout=" in str(run.error)
    assert task.state == "up_for_retry"
    assert world.log.statuses == ["Stopped"]
    assert world.calls(STOP) == [STOP]
    stop = run.xcoms["run"]["stop"]
    assert (stop["process"], stop["reason"]) == ("worker", "timeout")
    assert any(REPORT in text for text in texts_of(logs))
    assert BEFORE_EVENT_SECONDS < TRIGGER_GRACE_SECONDS
    assert seconds == pytest.approx(HOUR + TRIGGER_GRACE_SECONDS, abs=10)


def test_cleared_task_starts_nothing_beside_an_execution_that_runs(
    world: World,
) -> None:
    """Its own callback step keeps the earlier execution from being stopped."""
    task = deferred_task(
        pipeline_name="callback-lambda", pipeline_parameters={"Approver": "me"}
    )
    task.defer()
    world.time.sleep(120)
    task.clear()
    deferral = task.defer()
    assert deferral.method_name == "execute_after_end"

    run = task.end_deferral(deferral)

    assert "No new execution was started beside it." in str(run.error)
    assert world.calls(START) == [START]
    assert world.log.statuses == ["Stopping"]


def test_pause_for_want_of_capacity_ends(world: World) -> None:
    """The start is sent again, and the task waits for its execution."""
    world.control.add_fault("quota", START, count=1)
    task = deferred_task(wait_for_capacity=True)
    deferral = task.defer()
    assert deferral.method_name == "execute_after_pause"

    with pytest.raises(TaskDeferred) as deferred:
        task.end_deferral(deferral)

    assert deferred.value.method_name == "execute_complete"
    assert world.calls(START) == [START, START]
