"""
What the XCom ``run`` says of a stop: that it was requested, when and by which way, and
how it ended.
"""

from __future__ import annotations

import asyncio
import threading
import time
from copy import deepcopy
from datetime import datetime
from typing import Any

import pytest

from polysync_airflow.exceptions import PipelineExecutionCancelledError
from polysync_airflow.execution.outcome import RunSummary
from polysync_airflow.execution.steps.descriptions import STEPS_KEY
from polysync_airflow.operators import PolysyncStartPipelineOperator, worker_stop
from polysync_airflow.states import DELETED
from polysync_airflow.triggers import stopping, threads
from sagemaker_emulator.engine import execution
from tests.fakes.airflow_service import MISSING
from tests.fakes.log_capture import capture_logs
from tests.tasks import EmulatedTime, TaskInstance, run_task
from tests.unit.operators.recovery.conftest import MakeSupervisor
from tests.unit.operators.recovery.fake_triggerer import (
    FakeSupervisor,
    call_on_kill,
    make_trigger,
)
from tests.unit.operators.recovery.harness import Task
from tests.world import NEVER_ENDS, STOP, World

DENIED = {"code": "AccessDeniedException", "message": "not you"}


def started(arn: str) -> dict[str, Any]:
    """Return the XCom ``run`` of an execution that has just started."""
    run = RunSummary(
        execution_arn=arn,
        pipeline_name="fanout",
        state="Running",
        parameters={"Shards": "3"},
    )
    return run.model_dump(mode="json")


def told(run: dict[str, Any]) -> tuple[str, str | None, str]:
    """Return the state and the status of the execution, and what became of the stop."""
    return run["state"], run["status"], run["stop"]["result"]


def follow_on_kill(arn: str, **changes: Any) -> None:
    """Call ``on_kill`` in a triggerer that goes on running."""

    async def run() -> None:
        await make_trigger(arn, **changes).on_kill()
        await asyncio.gather(*stopping.FOLLOWING)

    asyncio.run(run())


@pytest.fixture
def supervisor(
    arn: str, make_supervisor: MakeSupervisor, emulated_time: EmulatedTime
) -> FakeSupervisor:
    """The task of a running execution was marked as failed while it was deferred."""
    supervisor = make_supervisor("failed")
    supervisor.xcoms["run"] = started(arn)
    # The first steps run.
    emulated_time.sleep(30)
    return supervisor


def test_deferred_task_stores_how_its_stop_ended(
    arn: str, supervisor: FakeSupervisor, emulated_time: EmulatedTime
) -> None:
    """
    Before the request, after the answer, and at the end, which comes after Airflow has
    forgotten the trigger: first how it is, and then what it has cost.
    """
    now = emulated_time.time()

    with capture_logs() as logs:
        follow_on_kill(arn)

    requested, accepted, ended, added_up = supervisor.runs
    stop = requested["stop"]
    requested_at = datetime.fromisoformat(stop.pop("requested_at")).timestamp()
    assert requested_at == pytest.approx(now, abs=0.01)
    assert stop == {
        "reason": "ended_task",
        "process": "triggerer",
        "result": "requested",
        "seen_at": None,
        "error": None,
    }
    assert told(accepted) == ("Running", "Stopping", "accepted")
    assert told(ended) == ("Cancelled", "Stopped", "accepted")
    assert supervisor.xcoms["state"] == "Cancelled"
    assert ended["ended_at"] > accepted["stop"]["requested_at"]
    assert ended["seconds"] > 0
    assert ended["parameters"] == {"Shards": "3"}
    assert ended["added_up_at"] is None
    assert added_up["added_up_at"] > ended["ended_at"]
    assert told(added_up) == told(ended)
    assert {step["state"] for step in supervisor.xcoms[STEPS_KEY]} == {"Cancelled"}
    assert any(
        "the execution has ended (AWS status Stopped)" in line["event"] for line in logs
    )


def test_stop_that_takes_too_long_says_until_when_somebody_looked(
    arn: str,
    supervisor: FakeSupervisor,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A callback step may keep an execution for days; the triggerer looks for 15 minutes.
    """
    monkeypatch.setattr(execution, "STOPPING", 7 * 24 * 3600.0)
    begin = emulated_time.time()

    follow_on_kill(arn)

    last = supervisor.runs[-1]
    assert told(last) == ("Running", "Stopping", "accepted")
    seen = datetime.fromisoformat(last["stop"]["seen_at"]).timestamp()
    assert seen - begin == pytest.approx(stopping.FOLLOW_SECONDS, abs=1)


@pytest.mark.parametrize(
    "state", ["running", "deferred", "queued", "up_for_retry", DELETED]
)
def test_later_try_keeps_its_xcoms(
    state: str, arn: str, supervisor: FakeSupervisor, world: World
) -> None:
    """
    The task was cleared while its execution was being stopped: what the new try stores
    is not replaced.
    """

    def begin_later_try() -> None:
        supervisor.state = MISSING if state == DELETED else state

    world.time.after(6, begin_later_try)

    follow_on_kill(arn)

    assert [told(run)[2] for run in supervisor.runs] == ["requested", "accepted"]
    assert STEPS_KEY not in supervisor.xcoms


def test_on_kill_ends_before_a_slow_airflow_has_answered(
    arn: str, make_supervisor: MakeSupervisor, world: World
) -> None:
    """
    Airflow gives up after 30 s, and would say so at the end of the log. The stop
    follows.
    """
    assert stopping.ON_KILL_SECONDS < 25
    world.patch.setattr(stopping, "ON_KILL_SECONDS", 0.05)
    supervisor, answered = make_supervisor("failed"), threading.Event()
    read_state = supervisor.task_state

    def read_late(*key: Any, **named_key: Any) -> Any:
        answered.wait(20)
        return read_state(*key, **named_key)

    world.patch.setattr(supervisor, "task_state", read_late)

    with capture_logs() as logs:
        call_on_kill(make_trigger(arn))

    assert "still on its way" in logs[-1]["event"]
    assert world.calls(STOP) == []
    answered.set()
    until = time.monotonic() + 20
    while not world.calls(STOP) and time.monotonic() < until:
        time.sleep(0.02)
    assert world.calls(STOP) == [STOP]


def test_stops_do_not_wait_for_the_ends_of_others(
    arn: str, make_supervisor: MakeSupervisor, world: World
) -> None:
    """
    To see how stops end takes no thread: with more of them than threads, all are
    requested at once.
    """
    # No end is seen before the last request, however slow this host is.
    world.patch.setattr(execution, "STOPPING", 24 * 3600.0)
    world.patch.setattr(stopping, "FOLLOW_SECONDS", 6 * 3600.0)
    arns = [arn]
    for number in range(threads.MAX_THREADS + 1):
        # Of a task with another id, but without a name that says so.
        operator = PolysyncStartPipelineOperator(
            task_id=f"t{number}",
            pipeline_name="fanout",
            execution_display_name="mine",
            execution_description=3072 * "x",
            wait_for_completion=False,
        )
        arns.append(run_task(operator).result)
    make_supervisor("failed")

    async def kill_all() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*(make_trigger(each).on_kill() for each in arns))
        assert len(stopping.FOLLOWING) == len(arns)

    asyncio.run(kill_all())

    assert len(world.calls(STOP)) == len(arns)


@pytest.mark.parametrize("resumes", [0, 1])
def test_task_on_a_worker_stores_the_request_first(resumes: int, world: World) -> None:
    """
    Its process may be killed after each request. If it lives until the end of the stop,
    ``run`` has that, too. The stop is no cancellation, after which no retry would
    follow.
    """
    world.patch.setattr(execution, "STOPPING", 1.0)
    failure = {"duration": 1, "fail": {"times": resumes}}
    world.control.put_scenario({"steps": {**NEVER_ENDS["steps"], "Shard0": failure}})
    task, seen = Task(arguments={"retry_mode": "resume"}), list[Any]()
    for _ in range(resumes):
        task.next_try()
    task.prepare_try()

    def note(*_: Any) -> None:
        seen.append(deepcopy(task.ti.xcoms["run"]))

    def kill() -> None:
        task.kill()
        note()

    world.requests.before(STOP, note)
    world.time.after(300, kill)

    ended = task.run_prepared_try()

    assert type(ended.error) is PipelineExecutionCancelledError
    requested, run = seen
    assert told(requested)[::2] == ("Running", "requested")
    stop = requested["stop"]
    assert (stop["reason"], stop["process"]) == ("ended_task", "worker")
    assert told(run) == ("Cancelled", "Stopped", "accepted")
    assert run["stop"]["requested_at"] == stop["requested_at"]
    assert run["resumes"] == resumes
    assert run["attempt_started_at"] == requested["attempt_started_at"]


def test_slow_airflow_does_not_hold_the_stop_back(world: World) -> None:
    """A process that shall end has seconds, and the execution costs money."""
    world.control.put_scenario(NEVER_ENDS)
    world.patch.setattr(worker_stop, "STORE_TIMEOUT_SECONDS", 0.05)
    released, push, task = threading.Event(), TaskInstance.xcom_push, Task()
    hung: list[str] = []

    def push_slowly(ti: TaskInstance, key: str, value: Any) -> None:
        if key == "state" and task.state == "failed" and not world.calls(STOP):
            hung.append(key)
            released.wait(20)
        push(ti, key, value)

    world.patch.setattr(TaskInstance, "xcom_push", push_slowly)
    task.prepare_try()
    world.time.after(300, task.kill)
    world.time.after(400, released.set)

    run = task.run_prepared_try()

    assert hung == ["state"]
    assert world.calls(STOP) == [STOP]
    assert run.xcoms["state"] == "Cancelled"
