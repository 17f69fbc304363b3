"""What the garbage collector is spared, and that it is left as it was."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator, Sized
from contextlib import AbstractContextManager, ExitStack

import pytest

from polysync_airflow.execution.waiter import LogLine, Wait
from polysync_airflow.tenure import tenure, tenured
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, poller
from polysync_airflow.triggers.subscription import Subscription

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/e{:011d}"


class Thing:
    """Something that the garbage collector looks at."""

    itself: Thing


def is_young(thing: Thing) -> bool:
    """Tell whether the next collections look at it."""
    return any(found is thing for generation in (0, 1) for found in gc.get_objects(generation))


@pytest.fixture
def frozen() -> Iterator[None]:
    """Somebody keeps objects frozen, as before a fork."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_what_is_young_counts_as_old() -> None:
    """No later collection of the young looks at it."""
    thing = Thing()
    assert is_young(thing)

    tenure()

    assert not is_young(thing)
    assert gc.get_freeze_count() == 0


def test_garbage_that_counts_as_old_is_found_all_the_same() -> None:
    """Later, by a collection of everything: nothing is lost for ever."""
    gc.collect()
    thing = Thing()
    thing.itself = thing
    del thing
    tenure()

    assert gc.collect(1) == 0
    assert gc.collect() >= 1


def test_what_somebody_has_frozen_stays_frozen(frozen: None) -> None:
    """It is the process's own decision, and thawing it would undo what it was for."""
    before = gc.get_freeze_count()

    with tenured():
        pass

    # Some of it goes by itself, when nobody refers to it any more.
    assert gc.get_freeze_count() > before // 2 > 0


def test_nothing_is_collected_meanwhile() -> None:
    """Not even the young, however many there are."""
    seen: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        seen.append(phase)

    gc.callbacks.append(note)
    with tenured():
        seen.clear()
        things = [Thing() for _ in range(100_000)]
        found = list(seen)
    gc.callbacks.remove(note)

    assert found == []
    assert not is_young(things[-1])
    assert gc.isenabled()


def test_who_has_switched_collections_off_finds_them_off() -> None:
    """What is not ours to switch on stays as it is."""
    gc.disable()
    try:
        with tenured():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_error_leaves_collections_on() -> None:
    """A process without a garbage collector would grow for ever."""
    with pytest.raises(ZeroDivisionError), tenured():
        raise ZeroDivisionError

    assert gc.isenabled()


def trigger(number: int) -> PolysyncPipelineExecutionTrigger:
    """Make the trigger of a wait whose first look is not due while a test runs."""
    return PolysyncPipelineExecutionTrigger(
        execution_arn=ARN.format(number),
        pipeline_name="fanout",
        polysync_conn_id="polysync_default",
        region_name=None,
        poll_interval=3600.0,
        since=0.0,
        deadline=2.0**40,
    )


async def until(count: int, waits: Sized) -> None:
    """Wait until so many waits are known to the poller."""
    async with asyncio.timeout(30):
        while len(waits) != count:
            await asyncio.sleep(0.01)


def test_a_wait_keeps_few_objects() -> None:
    """All that a deferred task keeps is gone through by each collection of everything: 5,000 times of it."""
    count = 200

    async def run(number: int) -> None:
        async for _ in trigger(number).run():
            pass

    async def kept() -> int:
        tasks = [asyncio.create_task(run(count))]
        await asyncio.sleep(0)
        waits = poller._POLLERS["polysync_default", None]._subscriptions
        await until(1, waits)
        gc.collect()
        before = len(gc.get_objects())
        tasks += [asyncio.create_task(run(number)) for number in range(count)]
        await until(count + 1, waits)
        gc.collect()
        after = len(gc.get_objects())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return after - before

    assert asyncio.run(kept()) / count < 25


def test_a_line_in_its_log_leaves_a_wait_nothing_to_keep() -> None:
    """Every wait writes one with its first look; a logger for each trigger would be twenty objects."""
    waits = [trigger(number) for number in range(200)]
    step = Wait(60.0, waits[0]._watch(), (LogLine(logging.INFO, "Executing"),))
    waits[0]._report(step)
    gc.collect()
    before = len(gc.get_objects())

    for wait in waits:
        wait._report(step)
    gc.collect()

    assert (len(gc.get_objects()) - before) / len(waits) < 0.5


def test_waits_count_as_old_where_there_are_more_than_ever_and_not_where_they_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand new waits provoke no collection of all that the process has; garbage is still looked for."""
    tenures: list[int] = []
    monkeypatch.setattr(poller, "TENURED_TOGETHER", 10)
    monkeypatch.setattr(poller, "tenure", lambda: tenures.append(1))

    async def story() -> None:
        def subscribe(number: int) -> AbstractContextManager[Subscription]:
            return poller.subscribe("polysync_default", None, trigger(number)._watch())

        with subscribe(0):
            waits = poller._POLLERS["polysync_default", None]._subscriptions
            for _ in range(3):
                with ExitStack() as others:
                    for number in range(1, 25):
                        others.enter_context(subscribe(number))
                    await until(25, waits)
                await until(1, waits)

    asyncio.run(story())

    assert len(tenures) == 2
