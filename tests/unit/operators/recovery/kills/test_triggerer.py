"""
The end of a task that is deferred: its trigger stops the execution of a task that has
ended, and not that of one which only moves to another triggerer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.triggers import stopping, wait_triggers
from tests.fakes.airflow_service import MISSING
from tests.fakes.log_capture import capture_logs
from tests.unit.operators.recovery.conftest import MakeSupervisor
from tests.unit.operators.recovery.fake_triggerer import (
    DAG,
    RUN,
    TASK,
    call_on_kill,
    make_trigger,
    start_execution,
)
from tests.unit.operators.recovery.harness import Task, crash
from tests.world import CHANGES, DESCRIBE, NEVER_ENDS, START, STOP, World

End = Callable[..., None]


async def run_and_cancel(trigger: Any) -> None:
    """Run a trigger as a triggerer does, and cancel it."""

    async def run() -> None:
        async for _ in trigger.run():
            pass

    running = asyncio.create_task(run())
    await asyncio.sleep(0.1)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()


@pytest.fixture(params=["on_kill", "cancellation"])
def end(
    request: pytest.FixtureRequest,
    world: World,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> End:
    """
    End the trigger of an execution that never ends, as Airflow does: before 3.3, by a
    cancellation, which may be a kill or only a restart. The gate stays closed, so that
    the time of the wait does not pass before.
    """
    world.control.put_scenario(NEVER_ENDS)
    has_on_kill = request.param == "on_kill"
    capabilities = CAPABILITIES._replace(trigger_on_kill=has_on_kill)
    monkeypatch.setattr(wait_triggers, "CAPABILITIES", capabilities)

    def end_trigger(arn: str, **arguments: Any) -> None:
        trigger = make_trigger(arn, **arguments)
        asyncio.run(trigger.on_kill() if has_on_kill else run_and_cancel(trigger))

    return end_trigger


@pytest.mark.parametrize(
    ("state", "stops"),
    [("failed", 1), ("skipped", 1), (None, 1), (MISSING, 1), ("deferred", 0)],
)
def test_state_of_the_task_decides(
    end: End,
    state: Any,
    stops: int,
    arn: str,
    make_supervisor: MakeSupervisor,
    world: World,
) -> None:
    """
    A user has marked, cleared or deleted the task, or its DAG run has failed; a task
    that is still deferred only gets another triggerer.
    """
    supervisor = make_supervisor(state)

    end(arn)
    world.control.advance(60)

    assert len(world.tokens(STOP)) == stops
    assert world.log.statuses == ["Stopped" if stops else "Executing"]
    assert set(supervisor.requests) == {(DAG, RUN, TASK, -1)}


def test_stop_on_kill_false_stops_nothing(
    end: End, arn: str, make_supervisor: MakeSupervisor, world: World
) -> None:
    """The trigger does not read the task's state."""
    supervisor = make_supervisor("failed")

    end(arn, stop_on_kill=False)

    assert world.calls(STOP) == []
    assert supervisor.requests == []


Later = Sequence[tuple[float, Any]]


@pytest.mark.parametrize(
    ("state", "later", "stopped_at"),
    [
        # It goes on in the same try, or its next one begins.
        ("queued", [(9, "running")], None),
        ("scheduled", [(70, "queued"), (300, "running")], None),
        ("scheduled", [(9, "queued"), (60, "scheduled"), (99, "running")], None),
        ("queued", [(9, "deferred"), (20, "failed")], None),
        ("queued", [(9, "up_for_retry"), (20, "failed")], None),
        # Nobody else stops it.
        ("scheduled", [], 75),
        ("queued", [(30, "scheduled")], 155),
        ("queued", [(9, "failed")], 15),
        ("scheduled", [(9, None)], 15),
        ("queued", [(20, MISSING)], 35),
        ("queued", [(700, "failed")], 1275),
        # At last, it is left to the process that begins.
        ("queued", [(1300, "failed")], None),
    ],
)
def test_task_that_waits_for_a_worker(
    state: str,
    later: Later,
    stopped_at: float | None,
    request: pytest.FixtureRequest,
    make_supervisor: MakeSupervisor,
    world: World,
) -> None:
    """
    Cleared, or to go on: its process knows, and decides. A trigger looks again until
    it begins.
    """
    world.control.put_scenario(NEVER_ENDS)
    arn = request.getfixturevalue("arn")
    supervisor = make_supervisor(state)
    begin = world.time.time()
    stops: list[float] = []
    world.requests.before(STOP, lambda _: stops.append(world.time.time() - begin))
    for seconds, then in later:
        world.time.after(seconds, partial(setattr, supervisor, "state", then))

    async def run() -> None:
        await make_trigger(arn).on_kill()
        await asyncio.gather(*stopping.FOLLOWING)

    asyncio.run(run())

    assert stops == ([pytest.approx(stopped_at, abs=1)] if stopped_at else [])


def test_task_resumed_without_an_event_goes_on(world: World) -> None:
    """
    ``airflow tasks test`` does that to the task of a DAG run, in both of its waits.
    """
    task = Task(deferrable=True)
    resumed = list[str]()
    for clear in (False, True):
        if clear:
            task.clear()
        deferral = task.defer()
        with pytest.raises(TaskDeferred) as again:
            task.resume(deferral, None)
        arguments, before = (
            each.trigger.serialize()[1] for each in (again.value, deferral)
        )
        assert arguments["execution_arn"] == before["execution_arn"]
        assert arguments["deadline"] == pytest.approx(before["deadline"], abs=0.01)
        resumed.append(deferral.method_name)
    # The stop of the execution before the clear has ended.
    with pytest.raises(TaskDeferred) as last:
        task.resume(again.value, task.fire(again.value))
    run = task.resume(last.value, task.fire(last.value))

    assert resumed == ["execute_complete", "execute_after_end"]
    assert run.error is None
    assert world.calls(*CHANGES) == [START, STOP, START]
    assert world.log.statuses == ["Stopped", "Succeeded"]


@pytest.mark.parametrize("unreadable", ["state_error", "variable_error"])
def test_airflow_that_does_not_answer_stops_nothing(
    unreadable: str,
    end: End,
    arn: str,
    make_supervisor: MakeSupervisor,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Without the state, a kill cannot be told from a restart, and without the record, the
    execution of another deployment from an own one. An error names the execution.
    """
    supervisor = make_supervisor("failed")
    setattr(supervisor, unreadable, ConnectionError("no API server"))
    monkeypatch.setattr(stopping, "STATE_RETRY_SECONDS", (0.01,))

    with capture_logs() as logs:
        end(arn)

    assert world.calls(STOP) == []
    assert any(arn in line["event"] for line in logs if line["log_level"] == "error")


@pytest.mark.parametrize(("state", "stops"), [("deferred", 0), ("failed", 1)])
def test_mapped_task_is_requested_by_its_map_index(
    state: str, stops: int, make_supervisor: MakeSupervisor, world: World
) -> None:
    """The keys of the response end with the map index."""
    arn = start_execution(map_index=7)
    supervisor = make_supervisor(state, map_index=7)

    call_on_kill(make_trigger(arn, map_index=7))

    assert len(world.tokens(STOP)) == stops
    assert set(supervisor.requests) == {(DAG, RUN, TASK, 7)}


def test_trigger_without_task_instance_stops_nothing(arn: str, world: World) -> None:
    """
    ``dag.test()`` gives triggers no task instance, so the reason for the kill is not
    known.
    """
    trigger = make_trigger(arn)
    trigger.task_instance = None

    call_on_kill(trigger)

    assert world.calls(STOP) == []


def test_stop_that_cannot_be_announced_is_requested(
    make_supervisor: MakeSupervisor, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else stops the execution of a task that has ended."""
    task = Task(deferrable=True, task_id=TASK)
    task.defer()
    supervisor = make_supervisor("failed")
    supervisor.record = task.record

    def refuse(*_: Any) -> None:
        raise ConnectionError("no API server")

    monkeypatch.setattr(supervisor, "put_variable", refuse)

    call_on_kill(make_trigger(task.record["execution_arn"]))

    assert world.calls(STOP) == [STOP]


def test_start_passes_stop_on_kill_to_its_triggers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of both waits, for the old and for the new execution."""
    task = Task(deferrable=True, arguments={"stop_on_kill": False})
    world.time.after(100, crash)
    task.next_try()
    task.clear()
    deferred: list[tuple[str, bool]] = []
    defer = PolysyncStartPipelineOperator.defer

    def recording_defer(self: Any, **arguments: Any) -> None:
        deferred.append((arguments["method_name"], arguments["trigger"].stop_on_kill))
        defer(self, **arguments)

    monkeypatch.setattr(PolysyncStartPipelineOperator, "defer", recording_defer)

    task.next_try()

    assert deferred == [("execute_after_end", False), ("execute_complete", False)]


# ---- the request


def test_stop_continues_after_on_kill_is_cancelled(
    arn: str, make_supervisor: MakeSupervisor, world: World
) -> None:
    """
    Airflow cancels ``on_kill`` after about a second; a stop request to a slow AWS is
    still sent.
    """
    make_supervisor("failed")
    world.control.add_fault("latency", STOP, delay=0.4)

    async def cancel_on_kill() -> None:
        killing = asyncio.create_task(make_trigger(arn).on_kill())
        await asyncio.sleep(0.05)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing

    asyncio.run(cancel_on_kill())
    assert world.calls(STOP) == [], "the cancellation comes before the response"

    until = time.monotonic() + 10
    while not world.calls(STOP) and time.monotonic() < until:
        time.sleep(0.02)
    world.control.advance(60)
    assert world.log.statuses == ["Stopped"]


def test_stop_does_not_wait_for_the_default_executor(
    arn: str, make_supervisor: MakeSupervisor, world: World
) -> None:
    """
    The threads of the event loop are busy with polls: a stop does not queue behind
    them.
    """
    make_supervisor("failed")

    async def kill_beside_polls() -> None:
        loop = asyncio.get_running_loop()
        finish = threading.Event()
        polls = [loop.run_in_executor(None, finish.wait) for _ in range(64)]
        try:
            async with asyncio.timeout(20):
                await make_trigger(arn).on_kill()
            assert world.calls(STOP) == [STOP]
            assert not any(poll.done() for poll in polls)
        finally:
            finish.set()

    asyncio.run(kill_beside_polls())


def test_refused_stop_of_an_ended_execution_is_no_error(
    arn: str, make_supervisor: MakeSupervisor, world: World
) -> None:
    """AWS refuses the stop because the execution has ended."""
    make_supervisor("failed")
    world.control.advance(3600)

    call_on_kill(make_trigger(arn))

    assert world.calls(STOP, DESCRIBE)[-2:] == [STOP, DESCRIBE]


@pytest.mark.parametrize("kind", ["throttle", "http", "dropped", "lost_response"])
def test_stop_is_retried_after_transient_errors(
    kind: str, arn: str, make_supervisor: MakeSupervisor, world: World
) -> None:
    """The thread keeps retrying for minutes after Airflow has cancelled ``on_kill``."""
    make_supervisor("failed")
    world.control.add_fault(kind, STOP, count=5)

    call_on_kill(make_trigger(arn))
    world.control.advance(60)

    assert world.log.statuses == ["Stopped"]
