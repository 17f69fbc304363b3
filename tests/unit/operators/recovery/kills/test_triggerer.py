"""
The end of a task that is deferred: its trigger stops the execution of a task that has
ended, and not that of one which only moves to another triggerer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.triggers import stopping, wait_triggers
from tests.fakes.airflow_service import MISSING
from tests.fakes.log_capture import capture_logs
from tests.unit.operators.recovery.conftest import MakeSupervisor
from tests.unit.operators.recovery.fake_triggerer import FakeSupervisor, make_trigger
from tests.world import NEVER_ENDS, STOP, World


async def run_and_cancel(trigger: Any) -> None:
    """Run a trigger as a triggerer does, and cancel it."""

    async def run() -> None:
        async for _ in trigger.run():
            pass

    running = asyncio.create_task(run())
    await asyncio.sleep(0.1)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()


NO_API_SERVER = ConnectionError("no API server")


@pytest.mark.parametrize(
    ("state", "stops"),
    [("failed", 1), (MISSING, 1), ("deferred", 0), (NO_API_SERVER, 0)],
)
@pytest.mark.usefixtures("gate")
def test_cancellation_is_a_kill_or_a_restart_before_airflow_3_3(
    state: Any, stops: int, arn: str, make_supervisor: MakeSupervisor, world: World
) -> None:
    """
    The state of the task tells which of them. The gate stays closed, so that the time
    of the wait does not pass before.
    """
    capabilities = CAPABILITIES._replace(trigger_on_kill=False)
    world.patch.setattr(wait_triggers, "CAPABILITIES", capabilities)
    world.patch.setattr(stopping, "STATE_RETRY_SECONDS", (0.01,))
    make_supervisor(state)

    with capture_logs() as logs:
        asyncio.run(run_and_cancel(make_trigger(arn)))

    assert len(world.tokens(STOP)) == stops
    errors = [line["event"] for line in logs if line["log_level"] == "error"]
    assert [arn in text for text in errors] == [True] * (state is NO_API_SERVER)


Later = Sequence[tuple[float, Any]]


def stop_times(
    supervisor: FakeSupervisor, arn: str, later: Later, world: World, **arguments: Any
) -> list[float]:
    """Return when a trigger sends stops; its task gets other states later."""
    begin = world.time.time()
    stops: list[float] = []
    world.requests.before(STOP, lambda _: stops.append(world.time.time() - begin))
    for seconds, then in later:
        world.time.after(seconds, partial(setattr, supervisor, "state", then))

    async def run() -> None:
        await make_trigger(arn, **arguments).on_kill()
        await asyncio.gather(*stopping.FOLLOWING)

    asyncio.run(run())
    return stops


@pytest.mark.parametrize(
    ("state", "later", "stopped"),
    [
        # It only gets another triggerer.
        ("deferred", [], []),
        # It goes on in the same try, or its next one begins.
        ("scheduled", [(9, "queued"), (60, "scheduled"), (99, "running")], []),
        ("queued", [(9, "deferred"), (20, "failed")], []),
        # Nobody else stops it.
        ("scheduled", [], [75]),
        ("queued", [(30, "scheduled")], [155]),
        ("queued", [(700, "failed")], [1275]),
        # At last, it is left to the process that begins.
        ("queued", [(1300, "failed")], []),
    ],
)
def test_task_that_waits_for_a_worker(
    state: str,
    later: Later,
    stopped: list[float],
    request: pytest.FixtureRequest,
    make_supervisor: MakeSupervisor,
    world: World,
) -> None:
    """
    Cleared, or to go on: its process knows, and decides. A trigger looks again until
    it begins.
    """
    world.control.put_scenario(NEVER_ENDS)
    arn = request.getfixturevalue("arn")
    supervisor = make_supervisor(state)

    stops = stop_times(supervisor, arn, later, world)

    assert stops == pytest.approx(stopped, abs=1)


@pytest.mark.parametrize(
    ("later", "stopped"),
    [
        ([(400, "failed")], [400]),
        ([(9, NO_API_SERVER), (300, "scheduled"), (400, "failed")], [400]),
        ([(400, "running")], []),
    ],
)
def test_group_that_was_cleared_is_left_to_its_next_try(
    later: Later,
    stopped: list[float],
    arn: str,
    make_supervisor: MakeSupervisor,
    world: World,
) -> None:
    """Until then, somebody may end the task, whose trigger goes on to look at it."""
    supervisor = make_supervisor(None)

    stops = stop_times(supervisor, arn, later, world, step_task_ids=["A"])

    assert stops == pytest.approx(stopped, abs=5)


def test_stop_does_not_wait_for_the_default_executor(
    arn: str, make_supervisor: MakeSupervisor, world: World
) -> None:
    """
    The threads of the event loop are busy with polls: a stop does not queue behind
    them.
    """
    make_supervisor("failed")

    async def kill_beside_polls() -> None:
        loop = asyncio.get_running_loop()
        finish = threading.Event()
        polls = [loop.run_in_executor(None, finish.wait) for _ in range(64)]
        try:
            async with asyncio.timeout(20):
                await make_trigger(arn).on_kill()
            assert world.calls(STOP) == [STOP]
            assert not any(poll.done() for poll in polls)
        finally:
            finish.set()

    asyncio.run(kill_beside_polls())
