"""
Several consumers of a queue: each gets a part of the events, and one of them says so in
its log.
"""

from __future__ import annotations

import asyncio

import pytest

from polysync_airflow.events import trigger
from polysync_airflow.execution import events as consumers
from sagemaker_emulator import EmulatorServer
from tests.unit.events.conftest import Queue, Triggerer, until
from tests.unit.execution.events.samples import EXECUTION_ARN, execution

LOG = "polysync_airflow.events.trigger"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a message be missing when one receive after another does not bring it."""
    monkeypatch.setattr(consumers, "RETURN_SECONDS", 0.3)
    monkeypatch.setattr(consumers, "MIN_RECEIVES", 2)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the readers have logged as errors."""
    return [
        each.getMessage()
        for each in caplog.records
        if (each.name, each.levelname) == (LOG, "ERROR")
    ]


async def test_two_triggerers_are_an_error(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    One of their readers says it after the first message, once, with what to do. The
    message makes an event.
    """
    monkeypatch.setattr(trigger, "OTHERS_SECONDS", 0.3)
    async with Triggerer(queue) as first, Triggerer(queue) as second:
        await until(lambda: len(queue.calls("ReceiveMessage")) >= 2)
        await asyncio.to_thread(queue.send, execution())
        await until(lambda: first.fired or second.fired)
        for triggerer in (first, second):
            triggerer.store()
        await until(lambda: errors(caplog), seconds=20)
        await until(lambda: queue.size == (0, 0))
        (line,) = errors(caplog)
        assert line.startswith(
            f"Another consumer receives messages of the queue {queue.url}: it has taken 1"
        )
        assert "Give each watcher a queue of its own" in line
        assert len(first.fired) + len(second.fired) == 1


async def test_a_reader_that_is_alone_gets_each_message_and_logs_no_error(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It gives back what was new at its start, gets it again, and is content; later
    messages it gets once.
    """
    async with Triggerer(queue) as triggerer:
        arns = [EXECUTION_ARN.replace("p4jn", f"p{number:03}") for number in range(3)]
        await asyncio.to_thread(
            queue.send, *(execution(pipelineExecutionArn=arn) for arn in arns[:2])
        )
        await until(lambda: len(triggerer.fired) == 2)
        await asyncio.to_thread(queue.send, execution(pipelineExecutionArn=arns[2]))
        await until(lambda: len(triggerer.fired) == 3)
        triggerer.store()
        before = len(queue.calls("ReceiveMessage"))
        await until(lambda: len(queue.calls("ReceiveMessage")) >= before + 3)
        assert queue.size == (0, 0)
        assert len(queue.calls("ChangeMessageVisibilityBatch")) <= 2
        assert errors(caplog) == []


async def test_a_reader_that_may_not_give_back_uses_messages_at_once(
    emulator: EmulatorServer, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Without sqs:ChangeMessageVisibility, it uses messages at once, and says in one line
    what it may not do.
    """
    emulator.control.add_fault(
        "error", "ChangeMessageVisibilityBatch", code="AccessDenied", message="no"
    )
    async with Triggerer(queue) as triggerer:
        await asyncio.to_thread(queue.send, execution())
        await until(lambda: triggerer.fired)
        triggerer.store()
        await until(lambda: queue.size == (0, 0))
        (line,) = [each.getMessage() for each in caplog.records if each.name == LOG]
        assert "Allow sqs:ChangeMessageVisibility" in line
        emulator.control.remove_faults()
