"""
What goes wrong: messages that nobody can read, and calls that fail. The reader goes on,
and logs one line.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest

from polysync_airflow.auth import base_hook
from polysync_airflow.events import queue as event_queue
from polysync_airflow.events import trigger
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution import waiter
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.unit.events.conftest import Queue, Triggerer, until
from tests.unit.execution.events.samples import event, execution

LOG = "polysync_airflow.events.trigger"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines that the reader has logged."""
    return [record.getMessage() for record in caplog.records if record.name == LOG]


async def test_poison_messages_go_to_the_dead_letter_queue(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    They are not deleted, so SQS moves them; each is logged once; the others are
    delivered.
    """
    monkeypatch.setattr(trigger, "VISIBILITY_SECONDS", 1)
    caplog.set_level("INFO", LOG)
    poison = [
        "no JSON",
        event("Object Created", {"secret": "s3cret"}, source="aws.s3"),
        "x" * 300_000,
    ]
    queue.send(*poison, execution())
    async with Triggerer(queue) as triggerer:
        await until(lambda: triggerer.fired)
        triggerer.store()
        await until(lambda: queue.dead_letters == len(poison), seconds=30)
        assert queue.size == (0, 0)

    logged = lines(caplog)
    assert len(logged) == len(poison)
    assert all("SQS moves it to the dead-letter queue" in line for line in logged)
    assert {line.partition(" dead-letter queue: ")[2] for line in logged} == {
        "it is not JSON: Expecting value: line 1 column 1 (char 0).",
        "it is an event 'Object Created' of 'aws.s3', for which there are no watchers.",
        "it has more than 262,144 bytes.",
    }


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            {
                "kind": "error",
                "code": "AWS.SimpleQueueService.NonExistentQueue",
                "message": "gone",
            },
            "There is no queue http",
        ),
        (
            {"kind": "error", "code": "AccessDenied", "message": "no"},
            "Allow sqs:ReceiveMessage on arn:aws:sqs:us-east-1:123456789012:changes-",
        ),
        ({"kind": "dropped"}, "ConnectionClosedError"),
    ],
)
async def test_failed_calls_are_repeated(
    fault: dict[str, Any],
    text: str,
    emulator: EmulatorServer,
    queue: Queue,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    An outage is one line, and its end another; the message that came meanwhile is
    delivered then.
    """
    caplog.set_level("INFO", LOG)
    emulator.control.add_fault(operation="ReceiveMessage", **fault)
    queue.send(execution())
    async with Triggerer(queue) as triggerer:
        await until(lambda: len(queue.calls("ReceiveMessage")) >= 4)
        assert triggerer.fired == []
        emulator.control.remove_faults()
        await until(lambda: triggerer.fired)
        (failed, worked) = lines(caplog)
        assert failed.startswith(
            f"Messages of the queue {queue.url} cannot be received, retrying: "
        )
        assert text in failed
        assert worked.startswith("It works again after ")


async def test_a_deleted_connection_is_not_used_until_it_is_added_again(
    emulator: EmulatorServer,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    The reader stops to receive with the keys that it had, with one line, and goes on
    with the new connection.
    """
    monkeypatch.setattr(event_queue, "READ_SECONDS", 0.1)
    monkeypatch.setattr(base_hook, "READ_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(waiter, "DELETED_AFTER_SECONDS", 0.3)
    monkeypatch.setattr(trigger, "WAIT_SECONDS", 0)
    stored = connection(endpoint_url=emulator.endpoint_url)
    async with Triggerer(queue) as triggerer:
        await until(lambda: queue.calls("ReceiveMessage"))
        monkeypatch.delenv("AIRFLOW_CONN_POLYSYNC_DEFAULT")
        await until(lambda: lines(caplog))
        received = len(queue.calls("ReceiveMessage"))
        queue.send(execution())
        await asyncio.sleep(0.3)
        assert len(queue.calls("ReceiveMessage")) == received
        monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", stored)
        await until(lambda: triggerer.fired)
        (failed,) = [
            line for line in lines(caplog) if "cannot be received, retrying" in line
        ]
        assert "the connection was deleted or renamed" in failed


async def test_messages_that_cannot_be_deleted_are_deleted_later(
    emulator: EmulatorServer,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They come again, and are then deleted without another event."""
    monkeypatch.setattr(trigger, "VISIBILITY_SECONDS", 1)
    emulator.control.add_fault("throttle", "DeleteMessageBatch", count=1)
    async with Triggerer(queue) as triggerer:
        queue.send(execution())
        await until(lambda: triggerer.fired)
        triggerer.store()
        await until(lambda: queue.size == (0, 0))
        assert len(triggerer.fired) == 1
        failed = [
            line for line in lines(caplog) if "cannot be deleted, retrying" in line
        ]
        assert len(failed) == 1


async def test_the_event_loop_is_never_blocked(
    emulator: EmulatorServer, queue: Queue
) -> None:
    """
    Neither slow calls nor large messages stop the other triggers of the triggerer.
    """
    large = json.loads(execution())
    large["detail"]["more"] = ["x"] * 50_000
    queue.send(*[json.dumps(large)] * 10)
    emulator.control.add_fault("latency", "ReceiveMessage", service="sqs", delay=0.8)
    longest = 0.0
    last = time.monotonic()
    async with Triggerer(queue) as triggerer:
        end = last + 15
        while last < end and not triggerer.fired:
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - last)
            last = time.monotonic()
        assert triggerer.fired
        # Less than a call takes, but more than a busy machine may keep this thread
        # waiting.
        assert longest < 0.6
        emulator.control.remove_faults()


async def test_threads_end_with_the_reader(
    emulator: EmulatorServer, queue: Queue
) -> None:
    """
    A receive that is still waiting gives back what it gets, and its thread keeps no
    process from ending.
    """

    def threads() -> list[threading.Thread]:
        return [
            thread
            for thread in threading.enumerate()
            if thread.name == "polysync-airflow"
        ]

    before = set(threads())
    triggerer = Triggerer()
    triggerer.start(1, queue)
    await until(lambda: set(threads()) - before)
    await asyncio.sleep(0.3)
    assert all(thread.daemon for thread in threads())
    await triggerer.stop()
    queue.send(execution())

    await until(lambda: not set(threads()) - before)
    assert queue.size == (1, 0)


def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause after a failed call doubles up to a minute, with a random part."""
    monkeypatch.setattr(trigger, "MIN_BACKOFF_SECONDS", 1.0)
    outage = trigger.FailureLog("It fails")
    pauses = []
    for _ in range(20):
        outage.failed(
            SageMakerApiError("x", error_code="X", operation="Y", permanent=False)
        )
        pauses.append(outage.pause)

    assert 0.5 <= pauses[0] <= 1
    assert 30 <= pauses[-1] <= 60
    assert len(set(pauses)) == len(pauses)
