"""
A try that Airflow does not run any longer writes no record, and so sends nothing to
AWS.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.records import CONFIRMED_SECONDS, RecordStore
from tests.tasks import EmulatedTime, Run
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import MERGE_FAILS_ONCE, Task, crash
from tests.world import DESCRIBE, RETRY, START, STOP, World


@pytest.fixture
def task(emulated_time: EmulatedTime) -> Task:
    """A task that waits on the worker."""
    return Task(deferrable=False)


def test_clear_while_the_start_is_in_flight(make_task: MakeTask, world: World) -> None:
    """
    The try does not store the ARN and fails; it has retries, but the user wanted its
    execution gone.
    """
    task = make_task()

    def clear(_: Any) -> None:
        task.clear_while_running()
        world.time.sleep(CONFIRMED_SECONDS + 1)

    world.requests.after(START, clear)

    task.next_try()
    world.control.advance(60)

    assert world.log.statuses == ["Stopped"]


@pytest.mark.parametrize("later_try_fails", [False, True])
def test_process_that_comes_back_before_its_first_write_starts_nothing(
    later_try_fails: bool, task: Task, world: World
) -> None:
    """
    A later try has an execution, or the task has ended: no record is overwritten, and
    no start is sent.
    """
    task.arguments = {"validate_parameters": True}
    later: list[Run] = []

    def freeze(_: Any) -> None:
        task.lose_heartbeat()
        later.append(task.next_try(max_parallel_steps=0 if later_try_fails else 1))
        task.state = "failed" if later_try_fails else task.state

    world.requests.before("DescribePipeline", freeze)

    late = task.next_try()

    assert bool(later[0].error) is later_try_fails
    assert "Airflow does not run try 1 of this task any longer, so it ends." in str(
        late.error
    )
    assert world.log.statuses == ([] if later_try_fails else ["Succeeded"])
    assert world.calls(STOP) == []


@pytest.mark.parametrize(
    "moment", ["before it reads its record", "before its first write"]
)
def test_process_that_comes_back_while_a_later_one_has_no_record_either_starts_nothing(
    moment: str, make_task: MakeTask, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Airflow has the task as running, and nothing is stored: only its id is that of the
    later try.
    """
    task = make_task(validate_parameters=True)
    store_get = task.store.get

    def freeze(*_: Any) -> None:
        monkeypatch.setattr(task.store, "get", store_get)
        task.lose_heartbeat()
        # The later try is frozen, too.
        world.requests.before("DescribePipeline", crash)
        task.next_try()
        task.state = "running"

    if moment == "before its first write":
        world.requests.before("DescribePipeline", freeze)
    else:
        monkeypatch.setattr(task.store, "get", freeze)

    late = task.next_try()

    assert (
        str(late.error)
        == "Airflow does not run try 1 of this task any longer, so it ends."
    )
    assert world.calls(START) == []
    assert task.last_record is None
    task.lose_heartbeat()
    assert task.next_try().error is None
    assert world.calls(START) == [START]


def test_process_that_comes_back_right_before_its_write_sends_nothing(
    make_task: MakeTask, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow had confirmed its try; before the request, it is asked again."""
    task = make_task()
    store_set = task.store.set

    def freeze(*arguments: Any) -> None:
        monkeypatch.setattr(task.store, "set", store_set)
        task.lose_heartbeat()
        assert task.next_try().error is None
        store_set(*arguments)

    monkeypatch.setattr(task.store, "set", freeze)

    late = task.next_try()

    assert "Airflow does not run try 1 of this task any longer" in str(late.error)
    assert world.calls(START) == [START]


@pytest.mark.parametrize("is_later", [True, False])
def test_success_of_a_resumed_try_keeps_the_record_of_a_later_one(
    is_later: bool, task: Task, world: World
) -> None:
    """A process that Airflow resumes after a deferral has read no record before."""
    tries = []
    for _ in range(2):
        world.time.after(100, crash)
        task.next_try()
        tries.append(task.ti)
    task.state = "running"

    RecordStore(tries[0 if is_later else 1].context(task.operator)).forget()

    assert (task.record is not None) is is_later


@pytest.mark.parametrize("operation", [START, RETRY])
def test_process_that_comes_back_after_the_end_of_the_task_stops_what_it_has_begun(
    operation: str, make_task: MakeTask, world: World
) -> None:
    """The last try has died when it knew of the request, but not of a response."""
    task = make_task(retries=1 if operation == START else 2, retry_mode="resume")
    if operation == RETRY:
        world.control.put_scenario(MERGE_FAILS_ONCE)
        assert task.next_try().error

    def freeze(_: Any) -> None:
        task.lose_heartbeat()
        world.requests.before(
            "ListPipelineExecutions" if operation == START else DESCRIBE, crash
        )
        task.next_try()

    world.requests.before(operation, freeze)

    task.next_try()
    world.control.advance(60)

    assert task.state == "failed"
    assert world.log.statuses == ["Stopped"]


def test_process_that_comes_back_deletes_no_record_of_a_later_try(
    task: Task, world: World
) -> None:
    """
    AWS refuses the start of a frozen process, whose record another try has replaced.
    """
    world.control.add_fault(
        "error", START, code="ValidationException", message="no such thing", count=1
    )
    later: list[Run] = []

    def freeze(_: Any) -> None:
        task.lose_heartbeat()
        later.append(task.next_try())

    world.requests.after(START, freeze)

    task.next_try()

    assert later[0].error is None
    assert task.last_record["execution_arn"] == later[0].result
