"""The metrics of a queue's reader."""

from __future__ import annotations

import asyncio

from tests.fakes.metrics import StatsdServer
from tests.unit.events.conftest import Queue, Triggerer, until
from tests.unit.execution.events.samples import execution
from tests.unit.metrics.conftest import server, statsd

__all__ = ["server", "statsd"]  # fixtures


async def test_messages_are_counted(queue: Queue, statsd: StatsdServer) -> None:
    """
    Those that can be read and those that cannot, at the latest when the last watcher
    has ended.
    """
    triggerer = Triggerer()
    triggerer.start(1, queue)
    queue.send(execution())
    queue.send("no event")
    await until(lambda: triggerer.fired)
    await until(lambda: queue.size[0] == 0)
    await triggerer.stop()

    place = {"connection": "polysync_default", "region": "default"}

    def counted() -> bool:
        received, unreadable = (
            statsd.total(f"polysync.events.{name}", **place)
            for name in ("received", "unreadable")
        )
        # One that cannot be read comes again. The other one is given back once.
        return unreadable >= 1 and received == unreadable + 2

    await asyncio.to_thread(statsd.wait_for, counted)
