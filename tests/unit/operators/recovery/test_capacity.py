"""
A task with ``wait_for_capacity``: AWS refuses its start for a quota, or fails its steps
for want of instances.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs, texts_of
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import Task
from tests.world import START, World

HOUR = 3600.0


def note_starts(world: World) -> list[dict[str, Any]]:
    """Return the list to which the next start requests are added."""
    requests: list[dict[str, Any]] = []
    for _ in range(5):
        world.requests.before(START, requests.append)
    return requests


@pytest.fixture
def task(make_task: MakeTask) -> Task:
    """Return a task that waits for capacity; its first pause is about three minutes."""
    return make_task(wait_for_capacity=True, timeout=HOUR)


@IN_BOTH_MODES
def test_start_is_sent_again_with_its_token_until_the_quota_is_free(
    task: Task, world: World
) -> None:
    """One try, one execution, one token; the log says why it waits, and until when."""
    world.control.add_fault("quota", START, count=3)
    requests = note_starts(world)

    with capture_logs() as logs:
        run = task.next_try()

    assert run.error is None
    assert world.log.statuses == ["Succeeded"]
    assert requests == 4 * requests[:1]
    assert run.xcoms["run"]["capacity"] is None
    waits = [text for text in texts_of(logs) if "and asks again at 20" in text]
    assert len(waits) == 3
    assert "20 Executions, with current utilization" in waits[0]


def test_execution_timeout_in_a_pause_ends_with_the_reason(world: World) -> None:
    """On a worker, Airflow's own timer ends the pause."""
    task = Task(arguments={"wait_for_capacity": True})
    task.arguments["execution_timeout"] = timedelta(seconds=60)
    world.control.add_fault("quota", START)

    def time_out() -> None:
        raise AirflowTaskTimeout

    world.time.after(59, time_out)

    error = task.next_try().error

    assert isinstance(error, AirflowTaskTimeout)
    assert "20 Executions, with current utilization" in str(error)
    assert world.calls(START) == [START]
