"""
Fixtures of the tests of the reader: a queue that a rule fills, and what a triggerer
does with triggers.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import boto3
import moto.sqs.models
import pytest
from moto.core.utils import unix_time

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.events import PolysyncSageMakerEventTrigger
from sagemaker_emulator import EmulatorServer

if TYPE_CHECKING or CAPABILITIES.shared_event_streams:
    from airflow.triggers.shared_stream import SharedStreamManager

    from polysync_airflow.events import trigger

# Before Airflow 3.3, there are no shared streams.
collect_ignore_glob = [] if CAPABILITIES.shared_event_streams else ["test_*.py"]

_NUMBERS = count()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@dataclass
class Queue:
    """A queue of the emulator, which a rule fills with all events of SageMaker."""

    sqs: Any
    url: str
    emulator: EmulatorServer

    @property
    def name(self) -> str:
        """
        Its name, which no other test's queue has: a reader that has ended may still be
        receiving from its own.
        """
        return self.url.rpartition("/")[2]

    def calls(self, operation: str) -> list[dict[str, Any]]:
        """Return the calls of an operation for this queue."""
        return [
            call
            for call in self.emulator.control.calls(operation)
            if call["request"].get("QueueUrl") == self.url
        ]

    def send(self, *bodies: str) -> None:
        """Send messages."""
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    @property
    def size(self) -> tuple[int, int]:
        """How many messages are visible, and how many are not."""
        return self._size(self.url)

    @property
    def dead_letters(self) -> int:
        """How many messages SQS has moved to the dead-letter queue."""
        return sum(self._size(f"{self.url}-dead-letters"))

    def _size(self, url: str) -> tuple[int, int]:
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        values = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[*names])[
            "Attributes"
        ]
        return int(values[names[0]]), int(values[names[1]])


def client(emulator: EmulatorServer, service: str) -> Any:
    """Return a boto3 client of the emulator."""
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=emulator.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="secret",
    )


@pytest.fixture
def queue(emulator: EmulatorServer) -> Queue:
    """
    A queue with a dead-letter queue, to which a message goes after three receives.
    """
    return make_queue(emulator)


def make_queue(emulator: EmulatorServer) -> Queue:
    """Make a queue with a dead-letter queue, and the rule that fills it."""
    sqs = client(emulator, "sqs")
    events = client(emulator, "events")
    arns: list[str] = []
    changes = f"changes-{next(_NUMBERS)}"
    for name in (f"{changes}-dead-letters", changes):
        redrive = (
            {"deadLetterTargetArn": arns[0], "maxReceiveCount": 3} if arns else None
        )
        attributes = {"RedrivePolicy": json.dumps(redrive)} if redrive else {}
        url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        arns.append(
            sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])[
                "Attributes"
            ]["QueueArn"]
        )
    events.put_rule(
        Name="changes", EventPattern=json.dumps({"source": ["aws.sagemaker"]})
    )
    events.put_targets(Rule="changes", Targets=[{"Id": "queue", "Arn": arns[1]}])
    return Queue(sqs, url, emulator)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """
    Wait for less time: before the first receive, in a receive, for other consumers, and
    after a failed call.

    A second of a queue is a tenth of a second, and a receive finds messages that become
    visible again at once.
    """
    monkeypatch.setattr(moto.sqs.models, "unix_time", lambda: 10 * unix_time())
    monkeypatch.setattr(
        moto.sqs.models, "unix_time_millis", lambda: 10_000 * unix_time()
    )
    wait_for_messages: Any = moto.sqs.models.Queue.wait_for_messages
    monkeypatch.setattr(
        moto.sqs.models.Queue,
        "wait_for_messages",
        lambda queue, _: wait_for_messages(queue, 0.02),
    )
    monkeypatch.setattr(trigger, "JOIN_SECONDS", 0.05)
    monkeypatch.setattr(trigger, "OTHERS_SECONDS", 0.05)
    monkeypatch.setattr(trigger, "WAIT_SECONDS", 1)
    monkeypatch.setattr(trigger, "MIN_BACKOFF_SECONDS", 0.02)
    yield
    # A receive that goes on by the quick clock would never end by the other one.
    end = time.monotonic() + 10
    while (
        any(each.name == "polysync-airflow" for each in threading.enumerate())
        and time.monotonic() < end
    ):
        time.sleep(0.01)


class Triggerer:
    """
    Runs event triggers as Airflow's triggerer does (``TriggerRunner.run_trigger``),
    with its own manager.

    ``fired`` has what each trigger has fired: its id, the payload, and the number that
    confirms its storage.

    :param queue: what the first trigger watches, which starts with the triggerer.
    """

    def __init__(self, queue: Queue | None = None, ack_timeout: float = 60.0) -> None:
        self.queue = queue
        self.manager = SharedStreamManager(ack_timeout=ack_timeout)
        self.fired: list[tuple[int, dict[str, Any], int | None]] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Triggerer:
        if self.queue:
            self.start(1, self.queue)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self, trigger_id: int, queue: Queue, **arguments: Any) -> None:
        """Start a trigger with these arguments."""
        self.run(
            trigger_id, PolysyncSageMakerEventTrigger(queue_url=queue.url, **arguments)
        )

    def run(self, trigger_id: int, made: PolysyncSageMakerEventTrigger) -> None:
        """Start a trigger."""
        # As Airflow makes it: from what it has stored.
        _, stored = made.serialize()
        trigger = PolysyncSageMakerEventTrigger(**json.loads(json.dumps(stored)))
        self.tasks[trigger_id] = asyncio.create_task(self._run(trigger_id, trigger))

    async def _run(
        self, trigger_id: int, trigger: PolysyncSageMakerEventTrigger
    ) -> None:
        key = trigger.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=trigger_id, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                seq = self.manager.bind_pending_event(trigger_id=trigger_id, key=key)
                self.fired.append((trigger_id, event.payload, seq))
        finally:
            await self.manager.unsubscribe(trigger_id, key)

    def payloads(self, trigger_id: int = 1) -> list[dict[str, Any]]:
        """Return the payloads that a trigger has fired."""
        return [payload for fired, payload, _ in self.fired if fired == trigger_id]

    def store(self, *trigger_ids: int) -> None:
        """Confirm that the events of triggers, by default of all, are stored."""
        self.manager.confirm_persisted(
            [
                seq
                for fired, _, seq in self.fired
                if seq is not None and (not trigger_ids or fired in trigger_ids)
            ]
        )

    async def stop(self) -> None:
        """End all triggers."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await self.manager.stop_all()


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until a condition is true. It may block for a moment."""
    for _ in range(round(seconds / 0.02)):
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the condition did not become true in time")
