"""
What a triggerer does for a row of a listener: it stops the execution of a task that has
ended while none of its processes ran.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.hooks import PolysyncSageMakerHook, executions
from polysync_airflow.records.keys import RECORD_KEY
from polysync_airflow.triggers.stopping import FOLLOWING
from polysync_airflow.watch import callback
from polysync_airflow.watch.callback import stop_if_left
from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine import execution
from tests.fakes.simulated_airflow import AIRFLOW
from tests.tasks import EmulatedTime
from tests.unit.jobs.catalogue.builders import put_pipelines
from tests.unit.operators.recovery.harness import Task, crash
from tests.unit.sensors.sessions import start_execution
from tests.world import DESCRIBE, LIST, LIST_STEPS, NEVER_ENDS, START, STOP, World

pytestmark = pytest.mark.usefixtures("_endless")
Lost = Callable[..., Task]


@pytest.fixture
def _endless(world: World) -> None:
    world.control.put_scenario(NEVER_ENDS)


@pytest.fixture
def lost(emulated_time: EmulatedTime) -> Lost:
    """Return a task that has ended in a state, after its process had died."""

    def make(state: Any = "failed") -> Task:
        task = Task()
        emulated_time.after(60, crash)
        task.next_try()
        assert task.state == "up_for_retry"
        task.state = state
        return task

    return make


def lost_at_start(world: World, **arguments: Any) -> Task:
    """Return a task whose process has died before it knew what it had started."""
    task = Task(arguments=arguments)
    world.requests.after(START, crash)
    task.next_try()
    return task


def look_after(task: Task) -> str:
    """Let a triggerer do what the row of a listener says."""
    return asyncio.run(stop_if_left(**asdict(task.key)))


def look_after_and_wait(task: Task) -> str:
    """Let a triggerer also follow the stop to its end."""

    async def look() -> str:
        finding = await stop_if_left(**asdict(task.key))
        await asyncio.gather(*FOLLOWING)
        return finding

    return asyncio.run(look())


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed"])
def test_task_that_was_ended_is_stopped(lost: Lost, world: World, state: str) -> None:
    """A mark of the task or of its DAG run, or dagrun_timeout, stops the execution."""
    task = lost(state)

    assert look_after(task) == "stop"

    assert world.log.statuses == ["Stopping"]
    stop = task.ti.xcoms["run"]["stop"]
    assert (stop["process"], stop["result"]) == ("triggerer", "accepted")
    assert task.record["stop_requested_by"] == 1


def test_deleted_task_is_stopped(
    lost: Lost,
    world: World,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A DAG run that was marked and deleted leaves nothing: nobody reads its record, and
    its XComs are not asked for.
    """
    task = lost("up_for_retry")
    task.delete()
    monkeypatch.delattr(callback, "read_xcom")

    assert look_after(task) == "stop"

    assert world.log.statuses == ["Stopping"]
    assert "stop_requested_by" not in task.record
    assert [each.levelname for each in caplog.records] == ["INFO"]


@pytest.mark.parametrize(
    "state", ["up_for_retry", "scheduled", "queued", "running", "deferred", None]
)
def test_live_retry_is_left_alone(lost: Lost, world: World, state: Any) -> None:
    """A try that runs, or is on its way, decides itself. AWS is not asked."""
    task = lost(state)
    calls = world.calls()

    assert look_after(task) == "keep"

    assert world.log.statuses == ["Executing"]
    assert world.calls() == calls


def test_two_triggerers_stop_once(world: World, lost: Lost) -> None:
    """Airflow 3.2 and 3.3 call the function in each triggerer."""
    task = lost()

    assert [look_after(task), look_after(task)] == ["stop", "over"]

    assert world.calls(STOP) == [STOP]


def test_two_triggerers_at_the_same_time(world: World, lost: Lost) -> None:
    """Both see that it runs: their requests are one for AWS, by its token."""
    task = lost()
    world.requests.before(STOP, lambda _: look_after(task))

    look_after(task)

    requests = [call for call in world.control.calls() if call["operation"] == STOP]
    assert len({call["request"]["ClientRequestToken"] for call in requests}) == 1
    assert len(requests) == 2


@pytest.mark.parametrize(
    "change", [Task.clear, lambda task: task.store.set(RECORD_KEY, None)]
)
def test_execution_of_a_task_that_was_cleared_meanwhile_is_not_stopped(
    change: Callable[[Task], Any], lost: Lost, world: World
) -> None:
    """
    Airflow is asked again after AWS: the execution of a cleared task is its own, and a
    record that another try has written since is not that which was examined.
    """
    task = lost()
    world.requests.after(DESCRIBE, lambda _: change(task))

    look_after(task)

    assert world.log.statuses == ["Executing"]


@pytest.mark.parametrize(
    ("announced", "is_cleared", "left"),
    [(None, False, None), (1, False, 1), (None, True, 1)],
)
def test_refused_stop_leaves_the_record_as_it_was(
    announced: int | None, is_cleared: bool, left: int | None, world: World
) -> None:
    """
    With the announcement of a worker that has died before its request. The record of a
    task that was cleared meanwhile is that of its next try.
    """
    task = Task(arguments={"timeout": 3600})
    if announced:
        world.requests.before(STOP, crash)
    else:
        world.time.after(60, crash)
    task.next_try()
    task.state = "failed"
    assert task.record.get("stop_requested_by") == announced
    world.deny(STOP)
    if is_cleared:
        world.requests.after(STOP, lambda _: task.clear())

    assert look_after_and_wait(task) == "stop"

    assert task.record.get("stop_requested_by") == left
    stop = task.ti.xcoms["run"]["stop"]
    assert (stop["result"], stop["seen_at"]) == ("failed", None)


@pytest.mark.parametrize(
    ("arguments", "state", "status"),
    [
        ({"stop_on_kill": False}, "failed", "Executing"),
        ({"wait_for_completion": False}, "failed", "Stopping"),
        ({"wait_for_completion": False}, "success", "Executing"),
    ],
)
def test_stop_follows_the_choices_of_the_author(
    world: World, arguments: dict[str, Any], state: str, status: str
) -> None:
    """The record says what the author has chosen."""
    task = lost_at_start(world, **arguments)
    task.state = state

    look_after(task)

    assert world.log.statuses == [status]


def test_start_without_a_response_behind_those_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its execution is on one of several pages, of which AWS throttles some."""
    monkeypatch.setattr(executions, "PAGE_SIZE", 1)
    start_execution()
    world.time.sleep(60)
    task = lost_at_start(world)
    task.state = "failed"
    world.time.sleep(60)
    for _ in range(2):
        start_execution()
    world.control.add_fault("throttle", LIST, count=2)

    assert look_after(task) == "stop"

    assert world.log.statuses == ["Executing", "Stopping", "Executing", "Executing"]


@pytest.mark.parametrize(
    ("times", "finding", "status"), [(5, "stop", "Stopping"), (99, "over", "Executing")]
)
def test_execution_that_aws_does_not_know_yet(
    times: int, finding: str, status: str, lost: Lost, world: World
) -> None:
    """It may have been started a moment ago, so AWS is asked again for a minute."""
    task = lost()
    world.control.add_fault(
        "error", DESCRIBE, code="ResourceNotFound", message="No such", count=times
    )

    assert look_after(task) == finding

    assert world.log.statuses == [status]


def test_execution_whose_status_is_refused_is_stopped(lost: Lost, world: World) -> None:
    """It may run, and its task has ended."""
    task = lost()
    world.deny(DESCRIBE)

    assert look_after(task) == "stop"

    assert world.log.statuses == ["Stopping"]


@pytest.mark.parametrize("is_known", [True, False])
def test_execution_in_another_region_is_stopped_there(
    is_known: bool, world: World
) -> None:
    """It is looked for, stopped and followed in its own region."""
    churn = json.loads(definition(step("A")))
    put_pipelines(world.emulator, {"churn": churn}, region="eu-west-1")
    task = Task(arguments={"pipeline_name": "churn", "region_name": "eu-west-1"})
    if is_known:
        world.time.after(5, crash)
    else:
        world.requests.after(START, crash)
    task.next_try()
    task.state = "failed"

    assert look_after_and_wait(task) == "stop"

    assert world.log.statuses == ["Stopped"]
    run = task.ti.xcoms.get("run")
    assert (run and run["status"]) == ("Stopped" if is_known else None)


def test_start_that_was_never_sent(world: World) -> None:
    """AWS lists nothing: the request is not sent in order to stop what it starts."""
    task = Task()
    world.requests.before(START, crash)
    task.next_try()
    task.state = "failed"

    assert look_after(task) == "over"

    assert world.calls(START, STOP) == []


def test_record_that_is_not_proven(
    lost: Lost, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever may edit Variables decides nothing."""
    task = lost()
    task.store.set(RECORD_KEY, {**task.record, "try_number": 2})

    assert look_after(task) == "keep"

    assert world.log.statuses == ["Executing"]
    assert "its signature is not that of this task" in caplog.text
    assert "retrying" not in caplog.text


def test_airflow_that_does_not_respond_at_first(
    lost: Lost, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again, for more than a minute."""
    task = lost()
    variable = AIRFLOW.variable
    answers = iter(4 * [PolysyncError("down")])

    def read(key: str) -> Any:
        error = next(answers, None)
        if error:
            raise error
        return variable(key)

    monkeypatch.setattr(AIRFLOW, "variable", read)

    assert look_after(task) == "stop"

    assert world.log.statuses == ["Stopping"]


def test_listener_names_the_function_by_its_public_path() -> None:
    """The listener names the function by the path at which a triggerer imports it."""
    from polysync_airflow.watch.listeners import CALLBACK

    module, _, name = CALLBACK.rpartition(".")

    assert getattr(callback, name) is stop_if_left
    assert module == callback.__name__
    assert asyncio.iscoroutinefunction(stop_if_left)


def test_end_of_the_stop_is_followed_and_stored(
    lost: Lost, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is followed for minutes, although the function has returned, and stored."""
    monkeypatch.setattr(execution, "STOPPING", 600.0)
    task = lost()

    look_after_and_wait(task)

    assert world.log.statuses == ["Stopped"]
    run = task.ti.xcoms["run"]
    assert (run["state"], run["status"]) == ("Cancelled", "Stopped")
    assert run["stop"]["seen_at"] is not None


def test_end_is_stored_also_if_the_stop_was_requested_before(
    lost: Lost, world: World
) -> None:
    """After a timeout, the task has requested it, and waits for no end."""
    task = lost()
    arn = task.ti.xcoms["execution_arn"]
    PolysyncSageMakerHook().stop_pipeline_execution(arn)

    assert look_after_and_wait(task) == "over"
    lists = len(world.calls(LIST_STEPS))
    assert look_after_and_wait(task) == "over"

    assert len(world.calls(LIST_STEPS)) == lists
    assert world.calls(STOP) == [STOP]
    assert task.ti.xcoms["run"]["status"] == "Stopped"
    assert {step["state"] for step in task.ti.xcoms["steps"]} >= {"Cancelled"}


def test_record_that_was_found_in_aws(lost: Lost, world: World) -> None:
    """A retry that has found its execution by the name writes all that is needed."""
    task = lost("up_for_retry")
    task.store.delete(RECORD_KEY)
    world.time.after(60, crash)
    task.next_try()
    task.state = "failed"

    assert look_after(task) == "stop"

    assert world.log.statuses == ["Stopping"]
    assert task.record["try_number"] == 2
