"""
How many objects a wait keeps: the garbage collector goes through all of them, 5,000
times in a large triggerer.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sized

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.waiter import LogLine, Wait
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, poller
from tests.conftest import leave_out_of_collections

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/{}/execution/e{:011d}"


@pytest.fixture(autouse=True, scope="module")
def _few_objects() -> None:
    """
    Leave out what other tests have made: all objects are counted and collected several
    times.
    """
    leave_out_of_collections()


def make_trigger(
    number: int, pipeline: str = "fanout"
) -> PolysyncPipelineExecutionTrigger:
    """Return the trigger of a wait whose first poll is not due while a test runs."""
    return PolysyncPipelineExecutionTrigger(
        execution_arn=ARN.format(pipeline, number),
        pipeline_name="fanout",
        polysync_conn_id="polysync_default",
        region_name=None,
        poll_interval=3600.0,
        since=1e9,
        deadline=1e10,
    )


async def run(number: int, pipeline: str = "fanout") -> None:
    """Run a trigger, as a triggerer does."""
    async for _ in make_trigger(number, pipeline).run():
        pass


async def wait_for_size(collection: Sized, size: int) -> None:
    """Wait until a collection has a number of members."""
    async with asyncio.timeout(30):
        while len(collection) != size:
            await asyncio.sleep(0.01)


def test_a_wait_keeps_few_objects_and_leaves_none() -> None:
    """
    A deferred task keeps so few objects that thousands of them do not slow down garbage
    collections. When it has ended, a poller keeps nothing of it, although other waits
    go on.
    """
    count = 200

    async def count_objects() -> list[tuple[int, int]]:
        last = asyncio.create_task(run(count))
        await asyncio.sleep(0)
        subscriptions = next(iter(poller._POLLERS.values()))._schedule.waits
        await wait_for_size(subscriptions, 1)
        counts = []
        for _ in range(4):
            gc.collect()
            before = len(gc.get_objects())
            tasks = [asyncio.create_task(run(number)) for number in range(count)]
            await wait_for_size(subscriptions, count + 1)
            gc.collect()
            counts.append((before, len(gc.get_objects())))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            del tasks, task
            await wait_for_size(subscriptions, 1)
            # Until its next step, the event loop itself refers to the tasks that were
            # gathered.
            await asyncio.sleep(0.01)
        last.cancel()
        await asyncio.gather(last, return_exceptions=True)
        return counts

    first, second, _, last = asyncio.run(count_objects())

    assert (first[1] - first[0]) / count <= 14
    assert last[0] - second[0] < count / 10


@pytest.mark.skipif(
    not CAPABILITIES.task_sdk,
    reason="the loggers of Airflow 2 keep what pytest captures",
)
def test_a_log_line_leaves_no_objects() -> None:
    """
    Each wait logs a line after its first poll; a logger for each trigger would be
    twenty objects.
    """
    triggers = [make_trigger(number) for number in range(200)]
    step = Wait(60.0, triggers[0]._waiter(), (LogLine(logging.INFO, "Executing"),))
    triggers[0]._handle(step)
    gc.collect()
    before = len(gc.get_objects())

    for trigger in triggers:
        trigger._handle(step)
    gc.collect()

    assert (len(gc.get_objects()) - before) / len(triggers) < 0.5
