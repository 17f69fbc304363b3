"""An outage of AWS in the logs of the tasks that wait: a line in each if it lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.log_capture import capture_logs
from tests.unit.triggers.test_poller import all_events, make_trigger, start_executions
from tests.world import World

Run = Callable[[list[Any]], list[str]]


@pytest.fixture
def run(gate: threading.Event) -> Run:
    """Return a function that runs triggers, and returns the lines about polls."""

    def run_all(triggers: list[Any]) -> list[str]:
        with capture_logs() as logs:
            all_events(triggers, gate)
        lines = [line["event"] for line in logs]
        return [line for line in lines if "retrying" in line or "again" in line]

    return run_all


def test_short_outage_is_not_in_the_logs_of_tasks(run: Run, world: World) -> None:
    """It would be a line in thousands of logs, also if the error changes."""
    arns = start_executions(world.emulator, 60)
    world.control.add_fault(
        "error", service="sagemaker", code="InternalFailure", message="A", count=1
    )
    world.control.add_fault("dropped", service="sagemaker", seconds=50)

    assert run([make_trigger(arn, world.time.time()) for arn in arns]) == []


def test_long_outage_is_in_the_log_of_each_task(run: Run, world: World) -> None:
    """
    After a minute each says how long nothing is known, and later that polls succeed
    again.
    """
    arns = start_executions(world.emulator, 20)
    world.control.add_fault("dropped", service="sagemaker", seconds=1200)

    lines = run([make_trigger(arn, world.time.time()) for arn in arns])

    succeed = "Polls succeed again: Execution arn:"
    assert len([line for line in lines if line.startswith(succeed)]) == 20
    failed = [line for line in lines if line.startswith("Poll failed, retrying for ")]
    assert len(failed) == 20
    assert all(" min" in line and "ConnectionClosedError" in line for line in failed)
