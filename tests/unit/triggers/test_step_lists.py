"""
Lists of steps: they are made after the polls, few at a time, and their errors end no
wait.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import Any

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, poller
from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs
from tests.unit.triggers.test_poller import (
    accept_short_intervals,
    all_events,
    events_of,
    make_trigger,
    start_executions,
)
from tests.world import DESCRIBE, LIST_STEPS, World


def test_unexpected_error_of_a_list_repeats_no_line(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The log says what happened, and has each line about a step once; the wait goes on
    without lists.
    """
    (arn,) = start_executions(world.emulator, 1, "churn-tuning")
    call = PolysyncSageMakerHook.call
    lists = []

    def fail_once(self: PolysyncSageMakerHook, operation: str, **request: Any) -> Any:
        lists.extend([1] if operation == LIST_STEPS else [])
        if operation == LIST_STEPS and len(lists) == 2:
            raise ZeroDivisionError("a bug")
        return call(self, operation, **request)

    monkeypatch.setattr(PolysyncSageMakerHook, "call", fail_once)
    trigger = make_trigger(
        arn, world.time.time(), poll_interval=10.0, progress_interval=30.0
    )

    with capture_logs() as logs:
        ((event,),) = all_events([trigger], gate)

    lines = [entry["event"] for entry in logs if "tep" in entry["event"]]
    assert event["status"] == "Succeeded"
    assert len(lists) == 2
    assert lines[-1] == "The log has no lines about steps: ZeroDivisionError('a bug')"
    assert len(lines) > 1
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    ("awaits_step", "at_once", "pause"),
    [
        (True, poller.MAX_CALLS_WITH_STEP_LIST, poller.STEP_LIST_PAUSE_SECONDS),
        (False, 1, poller.SHOWN_STEPS_PAUSE_SECONDS),
    ],
)
def test_few_lists_run_at_the_same_time(
    awaits_step: bool,
    at_once: int,
    pause: float,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    There is a pause between two of them, and half of the calls are left to the polls.
    """
    monkeypatch.setattr(PolysyncPipelineExecutionTrigger, "awaits_step", awaits_step)
    monkeypatch.setattr(
        "polysync_airflow.execution.waiter.FIRST_POLL_DELAY_SECONDS", 0.0
    )
    accept_short_intervals(monkeypatch)
    arns = start_executions(emulator, 3 * at_once, "churn-tuning")
    call = PolysyncSageMakerHook.call
    lock = threading.Lock()
    begun: list[float] = []
    running: list[int] = [0]

    def slow_list(self: PolysyncSageMakerHook, operation: str, **request: Any) -> Any:
        if operation != LIST_STEPS:
            return call(self, operation, **request)
        with lock:
            begun.append(time.monotonic())
            running.append(running[-1] + 1)
        time.sleep(0.1)
        result = call(self, operation, **request)
        with lock:
            running.append(running[-1] - 1)
        return result

    monkeypatch.setattr(PolysyncSageMakerHook, "call", slow_list)

    async def run() -> None:
        triggers = [
            make_trigger(arn, time.time(), poll_interval=1.0, progress_interval=0.1)
            for arn in arns
        ]
        waits = [asyncio.create_task(events_of(trigger)) for trigger in triggers]
        async with asyncio.timeout(20):
            while len(begun) < 3 * at_once:
                await asyncio.sleep(0.05)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    asyncio.run(run())

    assert max(running) == at_once
    pauses = [later - before for before, later in itertools.pairwise(begun)]
    assert sorted(pauses)[1] > pause / 2


@pytest.mark.parametrize("throttled", [DESCRIBE, LIST_STEPS])
def test_no_wait_lists_steps_in_the_minute_after_a_throttled_call(
    throttled: str, world: World, gate: threading.Event
) -> None:
    """Polls come first."""
    fanout = start_executions(world.emulator, 1)
    tuning = start_executions(world.emulator, 1, "churn-tuning")
    world.control.add_fault("throttle", throttled, skip=8, count=1)
    times = {"poll_interval": 10.0, "progress_interval": 10.0}
    triggers = [
        make_trigger(arn, world.time.time(), **times) for arn in (*fanout, *tuning)
    ]

    all_events(triggers, gate)

    (at,) = [call["time"] for call in world.control.calls(throttled) if call["fault"]]
    lists = [call["time"] for call in world.control.calls(LIST_STEPS)]
    assert len([each for each in lists if each <= at]) > 4
    assert min(each for each in lists if each > at) >= at + 60
