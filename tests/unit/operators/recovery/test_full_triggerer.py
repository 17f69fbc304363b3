"""
A deferred task whose trigger never runs, because no triggerer has a free slot: long
after the deadline, Airflow's scheduler returns the task to a worker.
"""

from __future__ import annotations

from polysync_airflow.execution.lifecycle.ending import TRIGGER_GRACE_SECONDS
from polysync_airflow.triggers.stopping import BEFORE_EVENT_SECONDS
from tests.fakes.log_capture import capture_logs, texts_of
from tests.unit.operators.recovery.harness import Task
from tests.world import START, World


def test_cleared_task_starts_nothing_beside_an_execution_that_runs(
    world: World,
) -> None:
    """Its own callback step keeps the earlier execution from being stopped."""
    arguments = {
        "pipeline_name": "callback-lambda",
        "pipeline_parameters": {"Approver": "me"},
        "timeout": 3600.0,
    }
    task = Task(deferrable=True, arguments=arguments)
    task.defer()
    world.time.sleep(120)
    task.clear()
    deferral = task.defer()
    assert deferral.method_name == "execute_after_end"

    with capture_logs() as logs:
        run = task.end_deferral(deferral)

    # A quarter of an hour is left to the trigger, which may take ten minutes.
    assert BEFORE_EVENT_SECONDS < TRIGGER_GRACE_SECONDS
    assert any("No trigger has ended the wait" in text for text in texts_of(logs))
    assert "No new execution was started beside it." in str(run.error)
    assert world.calls(START) == [START]
    assert world.log.statuses == ["Stopping"]
