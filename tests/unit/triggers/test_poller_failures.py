"""
The poller and the process around it: no thread can be started, a loop is closed, there
are several loops.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from polysync_airflow.triggers import poller
from polysync_airflow.triggers.poller import WORKERS
from tests.unit.triggers.test_poller import (
    all_events,
    events_of,
    make_trigger,
    start_executions,
    threads_named,
    wait_until_no_thread_is_left,
)
from tests.world import LIST, World


def test_error_of_the_schedule_backs_off_and_fails_no_wait(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """
    If the host starts no thread for a while, the polls go on afterwards, with all of
    their threads.
    """
    arns = start_executions(world.emulator, 2) + start_executions(
        world.emulator, 1, "churn-tuning"
    )
    submit = ThreadPoolExecutor.submit
    failures = WORKERS + 2
    failed_at: list[float] = []

    def fail_at_first(self: Any, *arguments: Any) -> Future[Any]:
        if len(failed_at) < failures:
            failed_at.append(world.time.time())
            raise RuntimeError("can't start new thread")
        return submit(self, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", fail_at_first)

    events = all_events([make_trigger(arn, world.time.time()) for arn in arns], gate)

    assert [event[0]["status"] for event in events] == 3 * ["Succeeded"]
    pauses = [round(later - before) for before, later in itertools.pairwise(failed_at)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    lines = [
        record
        for record in caplog.records
        if "The schedule of the calls failed" in record.getMessage()
    ]
    assert len(lines) == failures
    assert all(record.exc_info for record in lines)


def test_lines_of_the_poller_are_not_those_of_its_first_task(
    world: World, gate: threading.Event
) -> None:
    """
    Airflow finds the log of a task by the context, which an asyncio task inherits from
    the one that makes it.
    """
    world.deny(LIST)
    arns = start_executions(world.emulator, 2)
    task: ContextVar[str | None] = ContextVar("task", default=None)
    tasks_of_lines: list[str | None] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tasks_of_lines.append(task.get())

    async def run(number: int) -> Any:
        task.set(f"task {number}")
        return await events_of(make_trigger(arns[number], world.time.time()))

    async def run_both() -> None:
        waits = [asyncio.create_task(run(number)) for number in range(2)]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*waits)

    handler = Handler()
    poller.log.addHandler(handler)
    try:
        asyncio.run(run_both())
    finally:
        poller.log.removeHandler(handler)

    assert tasks_of_lines == [None]


def test_event_loops_of_a_process_have_their_own_pollers(
    world: World, gate: threading.Event
) -> None:
    """Two loops in two threads wait with the same connection at the same time."""
    first, second = start_executions(world.emulator, 2)
    events: list[Any] = []

    def other_loop() -> None:
        events.extend(asyncio.run(events_of(make_trigger(first, world.time.time()))))

    thread = threading.Thread(target=other_loop)
    thread.start()
    while not poller._POLLERS:
        time.sleep(0.01)

    async def run() -> list[Any]:
        wait = asyncio.create_task(events_of(make_trigger(second, world.time.time())))
        await asyncio.sleep(0.05)
        assert len({id(each) for each in poller._POLLERS.values()}) == 2
        gate.set()
        return await wait

    events += asyncio.run(run())
    thread.join(30)

    assert [event["status"] for event in events] == 2 * ["Succeeded"]
    assert poller._POLLERS == {}


def test_process_ends_while_a_wait_goes_on(world: World, caplog: Any) -> None:
    """
    The event loop is left in the middle of a call: its threads end, and nothing is
    reported.
    """
    # What event loops of other tests have left reports itself when it is deleted.
    gc.collect()
    caplog.clear()
    (arn,) = start_executions(world.emulator, 1)
    world.control.add_fault("latency", delay=0.3)

    async def run_for_a_moment() -> None:
        wait = asyncio.create_task(events_of(make_trigger(arn, world.time.time())))
        while not threads_named("polysync-poll"):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not wait.done()

    asyncio.run(run_for_a_moment())

    wait_until_no_thread_is_left()
    assert poller._POLLERS == {}
    assert [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ] == []


def test_closed_event_loop_does_not_affect_other_loops(
    world: World, gate: threading.Event
) -> None:
    """
    A subscription whose event loop was closed is dropped; the waits of other loops go
    on.
    """
    abandoned, awaited = start_executions(world.emulator, 2)
    subscribed = threading.Event()

    def other_loop() -> None:
        loop = asyncio.new_event_loop()

        async def begin() -> None:
            events = make_trigger(abandoned, world.time.time()).run()
            references.append(events)
            asyncio.ensure_future(anext(events))  # noqa: RUF006 # never awaited, as the loop is closed
            await asyncio.sleep(0.05)

        loop.run_until_complete(begin())
        loop.close()
        subscribed.set()

    # Without a reference, the generator would end its subscription.
    references: list[Any] = []
    thread = threading.Thread(target=other_loop)
    thread.start()
    assert subscribed.wait(10)
    thread.join()

    (event,) = all_events([make_trigger(awaited, world.time.time())], gate)

    assert event[0]["status"] == "Succeeded"
    # The abandoned subscription does not keep the poller.
    assert poller._POLLERS == {}
