"""
A try that Airflow does not run any longer writes no record, and so sends nothing to
AWS.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.records.store import RecordStore
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import Task, crash
from tests.world import START, World


@pytest.fixture
def task(emulated_time: EmulatedTime) -> Task:
    """A task that waits on the worker."""
    return Task(deferrable=False)


@pytest.mark.parametrize(
    "moment", ["before it reads its record", "before its first write"]
)
def test_process_that_comes_back_while_a_later_one_has_no_record_either_starts_nothing(
    moment: str, make_task: MakeTask, world: World
) -> None:
    """
    Airflow has the task as running, and nothing is stored: only its id is that of the
    later try.
    """
    task = make_task(validate_parameters=True)
    store_get = task.store.get

    def freeze(*_: Any) -> None:
        world.patch.setattr(task.store, "get", store_get)
        task.lose_heartbeat()
        # The later try is frozen, too.
        world.requests.before("DescribePipeline", crash)
        task.next_try()
        task.state = "running"

    if moment == "before its first write":
        world.requests.before("DescribePipeline", freeze)
    else:
        world.patch.setattr(task.store, "get", freeze)

    late = task.next_try()

    text = "Airflow does not run try 1 of this task any longer, so it ends."
    assert str(late.error) == text
    assert world.calls(START) == []
    assert task.last_record is None
    task.lose_heartbeat()
    assert task.next_try().error is None
    assert world.calls(START) == [START]


def test_process_that_comes_back_right_before_its_write_sends_nothing(
    make_task: MakeTask, world: World
) -> None:
    """Airflow had confirmed its try; before the request, it is asked again."""
    task = make_task()
    store_set = task.store.set

    def freeze(*arguments: Any) -> None:
        world.patch.setattr(task.store, "set", store_set)
        task.lose_heartbeat()
        assert task.next_try().error is None
        store_set(*arguments)

    world.patch.setattr(task.store, "set", freeze)

    late = task.next_try()

    assert "Airflow does not run try 1 of this task any longer" in str(late.error)
    assert world.calls(START) == [START]


@pytest.mark.parametrize(("number", "is_kept"), [(0, True), (1, False)])
def test_success_of_a_resumed_try_keeps_the_record_of_a_later_one(
    number: int, is_kept: bool, task: Task, world: World
) -> None:
    """A process that Airflow resumes after a deferral has read no record before."""
    tries = []
    for _ in range(2):
        task.crash_while_waiting(world.time)
        tries.append(task.ti)
    task.state = "running"

    context = tries[number].context(task.operator)
    RecordStore.on_worker(context).forget()

    assert (task.record is not None) is is_kept


def test_process_that_comes_back_deletes_no_record_of_a_later_try(
    task: Task, world: World
) -> None:
    """
    AWS refuses the start of a frozen process, whose record another try has replaced.
    """
    world.control.add_fault(
        "error", START, code="ValidationException", message="no such thing", count=1
    )

    def freeze(_: Any) -> None:
        task.lose_heartbeat()
        task.crash_while_waiting(world.time)

    world.requests.after(START, freeze)

    task.next_try()

    assert task.record["execution_arn"] == world.log.arns[0]
