"""What is held for the next burst is told at an end, a cancellation and a move."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from polysync_airflow.execution import clock
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, bursts
from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs, texts_of
from tests.unit.triggers.test_poller import (
    all_events,
    events_of,
    make_trigger,
    start_executions,
)
from tests.world import World

SECONDS = 20.0


@pytest.fixture
def _polls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits that run in real time poll as soon as they begin."""
    monkeypatch.setattr(
        "polysync_airflow.execution.waiter.FIRST_POLL_DELAY_SECONDS", 0.0
    )


def hold_results(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so many seconds pass between two bursts."""
    monkeypatch.setattr(bursts, "PAUSE_SECONDS", seconds)


async def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, in real time."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a trigger as Airflow does, and wait for its end."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def run_in_triggerer(run: Callable[[bursts.Bursts], Awaitable[None]]) -> list[str]:
    """Run triggers in an event loop of their own; return what they have logged."""

    async def run_all() -> None:
        shared = bursts.bursts_of_loop()
        # Something has just gone out, so that all else is held.
        shared.send_all(clock.monotonic())
        await run(shared)

    with capture_logs() as logs:
        asyncio.run(run_all())
    return texts_of(logs)


@pytest.mark.usefixtures("_polls_at_once")
@pytest.mark.parametrize("stops_all", [False, True])
def test_cancelled_wait_writes_the_lines_that_are_held(
    stops_all: bool, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its task was ended; or the triggerer shuts down, which cancels all of its triggers.
    """
    hold_results(monkeypatch, 3600.0)
    arns = start_executions(emulator, 2)

    async def run(shared: bursts.Bursts) -> None:
        tasks = [
            asyncio.create_task(events_of(make_trigger(arn, clock.time())))
            for arn in arns
        ]
        await wait_for(lambda: len(shared._held) == len(arns))
        await cancelled(tasks[0])
        if stops_all:
            await cancelled(tasks[1])
        else:
            assert len(shared._held) == 1
            shared.send_all(clock.monotonic())
            await asyncio.sleep(0)
            await cancelled(tasks[1])

    lines = run_in_triggerer(run)

    for arn in arns:
        (line,) = [line for line in lines if arn in line]
        assert line.startswith("Executing: ")


def test_end_is_told_after_all_that_was_held_before_it(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line of a wait is lost or late when bursts are rare, nor is its event."""
    hold_results(monkeypatch, 900.0)
    arns = start_executions(world.emulator, 3, "churn-tuning")
    triggers = [
        make_trigger(arn, world.time.time(), poll_interval=30.0, progress_interval=60.0)
        for arn in arns
    ]

    with capture_logs() as logs:
        events = all_events(triggers, gate)

    assert [event[0]["status"] for event in events] == 3 * ["Succeeded"]
    lines = texts_of(logs)
    for arn in arns:
        (own,) = [line for line in lines if arn in line]
        assert own.startswith("Executing: ")
    assert lines.count("Executing -> Succeeded") == 3
    steps = [line for line in lines if line.startswith("Step ")]
    assert steps
    assert all(steps.count(line) == len(arns) for line in steps)


def test_triggerer_that_takes_over_stores_the_steps_that_were_owed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first one had no credit for is in the first list of the second one."""
    world.control.put_scenario({"statuses": [{"status": "Executing", "until": 20_000}]})
    (arn,) = start_executions(world.emulator, 1, "churn-tuning")
    begin = world.time.time()
    stored: list[str] = []

    def note(trigger: PolysyncPipelineExecutionTrigger, *_: object) -> None:
        stored.append(trigger.execution_arn)

    monkeypatch.setattr(PolysyncPipelineExecutionTrigger, "_push", note)
    monkeypatch.setattr(bursts, "XCOMS_PER_SECOND", 0.0)
    _, arguments = make_trigger(arn, begin, progress_interval=60.0).serialize()

    def assigned() -> asyncio.Task[list[Any]]:
        trigger = PolysyncPipelineExecutionTrigger(**arguments)
        task_instance: Any = SimpleNamespace(task_id="wait")
        trigger.task_instance = task_instance
        return asyncio.create_task(events_of(trigger))

    async def run_without_credit(shared: bursts.Bursts) -> None:
        shared.credit = 0.0
        task = assigned()
        await wait_for(lambda: world.time.time() > begin + 600)
        await cancelled(task)

    async def run(_: bursts.Bursts) -> None:
        task = assigned()
        await wait_for(lambda: bool(stored))
        await cancelled(task)

    lines = run_in_triggerer(run_without_credit)
    assert stored == []
    # The log has all.
    assert any(line.startswith("Step ") for line in lines)
    run_in_triggerer(run)
    assert set(stored) == {arn}


def test_steps_that_are_owed_are_stored_without_a_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list after the last change stores what there was no credit for."""
    world.control.put_scenario({"statuses": [{"status": "Executing", "until": 40_000}]})
    (arn,) = start_executions(world.emulator, 1, "churn-tuning")
    begin = world.time.time()
    stored: list[str] = []

    def note(trigger: PolysyncPipelineExecutionTrigger, *_: object) -> None:
        stored.append(trigger.execution_arn)

    monkeypatch.setattr(PolysyncPipelineExecutionTrigger, "_push", note)
    monkeypatch.setattr(bursts, "XCOMS_PER_SECOND", 0.0)

    async def run(shared: bursts.Bursts) -> None:
        shared.credit = 0.0
        trigger = make_trigger(arn, begin, poll_interval=120.0, progress_interval=120.0)
        task_instance: Any = SimpleNamespace(task_id="wait")
        trigger.task_instance = task_instance
        task = asyncio.create_task(events_of(trigger))
        await wait_for(lambda: world.time.time() > begin + 10_000)
        assert stored == []
        shared.credit = bursts.MAX_CREDIT
        await wait_for(lambda: bool(stored) or task.done())
        assert not task.done()
        await cancelled(task)

    run_in_triggerer(run)

    assert stored == [arn]
