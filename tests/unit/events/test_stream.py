"""
Watchers share one reader; each change makes one event; a message is deleted after its
events are stored.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from polysync_airflow.events import trigger
from polysync_airflow.events.queue import EventQueue
from sagemaker_emulator import EmulatorServer
from tests.unit.events.conftest import Queue, Triggerer, until
from tests.unit.execution.events.samples import EXECUTION_ARN, execution, of_step
from tests.unit.sensors.sessions import start_execution

ABALONE = {"InputDataUrl": "s3://ml-bucket/abalone.csv"}


def deletes(queue: Queue) -> int:
    """Return the number of calls that delete messages."""
    return len(queue.calls("DeleteMessageBatch"))


async def test_every_watcher_gets_what_it_wants(
    emulator: EmulatorServer, queue: Queue
) -> None:
    """
    Three watchers, one reader: the end of an execution, of a step, and a registered
    model; then all is deleted.
    """
    async with Triggerer() as triggerer:
        triggerer.start(1, queue, pipelines=["abalone"])
        triggerer.start(2, queue, steps=["AbaloneTrain"], pipelines=["abalone"])
        triggerer.start(3, queue, model_package_groups=["*"])
        triggerer.start(4, queue, pipelines=["other"])
        arn = await asyncio.to_thread(start_execution, "abalone", **ABALONE)
        await asyncio.to_thread(emulator.control.advance, 4 * 3600)
        await until(lambda: len(triggerer.fired) == 3)

        ((execution_end,), (step_end,), (package,)) = (
            triggerer.payloads(i) for i in (1, 2, 3)
        )
        assert execution_end["execution_arn"] == arn
        assert execution_end["state"] == "Success"
        assert execution_end["console_url"].endswith(
            f"/pipelines/abalone/executions/{arn}"
        )
        assert step_end["execution_arn"] == arn
        assert step_end["step_name"] == "AbaloneTrain"
        assert step_end["state"] == "Success"
        assert package["execution_arn"] == arn
        assert package["approval_status"] == "PendingManualApproval"
        assert triggerer.payloads(4) == []
        assert len(triggerer.manager._groups) == 1
        triggerer.store()
        await until(lambda: queue.size == (0, 0))
        assert len(triggerer.fired) == 3


async def test_watchers_that_start_together_miss_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Airflow starts them one after the other, so what the queue has by then is not
    received at once.
    """
    monkeypatch.setattr(trigger, "JOIN_SECONDS", 0.4)
    # The first receive of a process imports modules for longer than that.
    EventQueue("polysync_default", None, queue.url).receive(wait_seconds=0)
    queue.send(execution())
    begin = time.monotonic()
    async with Triggerer(queue) as triggerer:
        await until(lambda: len(queue.calls("ReceiveMessage")) > 1)
        assert time.monotonic() - begin >= 0.4
        triggerer.start(2, queue)
        await until(lambda: len(triggerer.fired) == 2)


async def test_nothing_is_deleted_before_it_is_stored(queue: Queue) -> None:
    """
    What no watcher wants is deleted at once; what one wants when Airflow says that it
    is stored.
    """
    async with Triggerer(queue) as triggerer:
        queue.send(execution())
        await until(lambda: triggerer.fired)
        await asyncio.sleep(0.2)
        assert (queue.size, deletes(queue)) == ((0, 1), 0)

        triggerer.store()
        await until(lambda: queue.size == (0, 0))
        queue.send(of_step())
        await until(lambda: deletes(queue) == 2 and queue.size == (0, 0))
        assert len(triggerer.fired) == 1


async def test_duplicates_make_one_event(
    emulator: EmulatorServer, queue: Queue
) -> None:
    """
    Copies before and after the storage are the same change; their messages stay as
    long, and no longer.
    """
    emulator.control.put_scenario({"event_copies": 3})
    async with Triggerer() as triggerer:
        triggerer.start(1, queue, states=["Running"])
        await asyncio.to_thread(start_execution, "abalone", **ABALONE)
        await until(lambda: triggerer.fired and queue.size == (0, 3))
        assert deletes(queue) == 0

        triggerer.store()
        await until(lambda: queue.size == (0, 0))
        queue.send(execution("Executing"), execution("Executing"))
        await until(lambda: len(triggerer.fired) == 2)
        triggerer.store()
        await until(lambda: queue.size == (0, 0))
        # A watcher that joins later gets no copy of what was stored before.
        triggerer.start(2, queue, states=["Running"])
        await asyncio.sleep(0.1)
        queue.send(execution("Executing"))
        await until(lambda: queue.size == (0, 0) and deletes(queue) >= 3)
        assert len(triggerer.fired) == 2


async def test_an_event_that_is_not_stored_comes_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Airflow ends the watcher whose event it could not store. Its successor gets it; the
    other one does not again.
    """
    monkeypatch.setattr(trigger, "VISIBILITY_SECONDS", 10)
    async with Triggerer(queue, ack_timeout=0.4) as triggerer:
        triggerer.start(2, queue)
        queue.send(execution())
        await until(lambda: len(triggerer.fired) == 2)
        triggerer.store(1)
        await until(triggerer.tasks[2].done)
        triggerer.start(2, queue)
        await until(lambda: len(triggerer.payloads(2)) == 2)
        triggerer.store()
        await until(lambda: queue.size == (0, 0))
        assert len(triggerer.payloads(1)) == 1


async def test_an_event_that_is_not_stored_holds_no_other(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    All others are stored and deleted, several in a call, also more than may be in
    flight. Its message stays.
    """
    monkeypatch.setattr(trigger, "MAX_IN_FLIGHT", 10)
    arns = [EXECUTION_ARN.replace("p4jn", f"p{number:03}") for number in range(40)]
    queue.send(*(execution(pipelineExecutionArn=arn) for arn in arns))
    loop = asyncio.get_running_loop()

    def others_are_deleted() -> bool:
        seqs = [seq for _, _, seq in triggerer.fired[1:] if seq is not None]
        loop.call_soon_threadsafe(lambda: triggerer.manager.confirm_persisted(seqs))
        return queue.size == (0, 1)

    async with Triggerer(queue) as triggerer:
        await until(others_are_deleted)
        assert (
            sorted(payload["execution_arn"] for payload in triggerer.payloads()) == arns
        )
        assert deletes(queue) <= 20

        triggerer.store()
        await until(lambda: queue.size == (0, 0))


async def test_messages_in_flight_are_held(queue: Queue, monkeypatch: Any) -> None:
    """
    While Airflow stores an event, its messages stay invisible, with one call for each
    time of the hold.
    """
    monkeypatch.setattr(trigger, "VISIBILITY_SECONDS", 20)
    monkeypatch.setattr(trigger, "HOLD_AFTER_SECONDS", 0.3)
    monkeypatch.setattr(trigger, "WAIT_SECONDS", 0)
    held = list[Any]()
    hold = EventQueue.hold

    def hold_and_count(self: EventQueue, handles: Any, *seconds: int) -> None:
        if not seconds:
            held.append(handles)
        hold(self, handles, *seconds)

    monkeypatch.setattr(EventQueue, "hold", hold_and_count)
    queue.send(execution(), execution())
    begin = time.monotonic()
    holds: list[Any] = []

    def held_again() -> bool:
        # The first call gives the message back, to find out whether others take it.
        holds[:] = queue.calls("ChangeMessageVisibilityBatch")[1:]
        return len(holds) >= 2

    async with Triggerer(queue):
        await until(held_again)
        assert len(holds) <= (time.monotonic() - begin) / 0.3
        assert {len(each) for each in held} == {2}
        assert queue.size == (0, 2)


async def test_the_reader_waits_for_airflow(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more changes are read than may wait for their storage."""
    monkeypatch.setattr(trigger, "MAX_IN_FLIGHT", 10)
    queue.send(
        *(
            execution(pipelineExecutionArn=EXECUTION_ARN.replace("p4jn", f"p{i:03}"))
            for i in range(25)
        )
    )
    async with Triggerer(queue) as triggerer:
        await until(lambda: len(triggerer.fired) == 10)
        await asyncio.sleep(0.3)
        assert queue.size == (15, 10)

        for count in (20, 25):
            triggerer.store()
            await until(lambda count=count: len(triggerer.fired) == count)  # type: ignore[misc]
