"""
A task with ``wait_for_capacity``: AWS refuses its start for a quota, or fails its steps
for want of instances.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from polysync_airflow.exceptions import SageMakerApiError
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs, texts_of
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import Task, step_attempts
from tests.world import CHANGES, RETRY, START, World

CAPACITY_ERROR = "CapacityError: Unable to provision requested ML compute capacity."
NO_QUOTA = "The account-level service limit 'executions' is 0 Executions, with"
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


@IN_BOTH_MODES
@pytest.mark.parametrize("retry_mode", ["new", "resume"])
def test_execution_without_capacity_is_resumed_in_the_same_try(
    retry_mode: str, task: Task, world: World
) -> None:
    """Also where AWS refuses the resume for a quota; what has succeeded is kept."""
    failure = {"reason": CAPACITY_ERROR, "times": 1}
    world.control.put_scenario({"steps": {"Merge": {"fail": failure}}})
    world.control.add_fault("quota", RETRY, count=2)
    task.arguments["retry_mode"] = retry_mode

    run = task.next_try()

    assert run.error is None
    assert world.calls(*CHANGES) == [START, RETRY, RETRY, RETRY]
    (execution,) = world.log.executions
    assert step_attempts(execution) == {"Shard0": 1, "Shard3": 1, "Merge": 2}


@IN_BOTH_MODES
@pytest.mark.parametrize(
    ("quota", "starts", "hours"), [({"message": NO_QUOTA}, 1, 0), ({}, 8, 1)]
)
def test_start_fails_at_once_for_a_quota_of_zero_and_else_at_the_timeout(
    quota: dict[str, str], starts: int, hours: int, task: Task, world: World
) -> None:
    """The error is AWS's, and no record is left."""
    world.control.add_fault("quota", START, **quota)
    before = world.time.time()

    run = task.next_try()

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.error_code == "ResourceLimitExceeded"
    assert len(world.calls(START)) == starts
    assert round((world.time.time() - before) / HOUR) == hours
    assert task.record is None


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
