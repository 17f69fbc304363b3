"""
The trigger where Airflow has no ``on_kill`` for triggers: a cancellation may be a kill,
or only a restart.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.triggers import stopping, wait_triggers
from sagemaker_emulator import EmulatorServer
from tests.unit.operators.recovery.conftest import MakeSupervisor
from tests.unit.operators.recovery.fake_triggerer import make_trigger
from tests.unit.operators.recovery.harness import NEVER_ENDS, STOP, ExecutionLog, calls


@pytest.fixture(autouse=True)
def _without_on_kill(emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave as before Airflow 3.3, whichever version runs the tests."""
    monkeypatch.setattr(
        wait_triggers, "CAPABILITIES", CAPABILITIES._replace(trigger_on_kill=False)
    )
    emulator.control.put_scenario(NEVER_ENDS)


async def run_and_cancel(arn: str, **arguments: Any) -> None:
    """Run a trigger as a triggerer does, and cancel it."""
    trigger = make_trigger(arn, **arguments)

    async def run() -> None:
        async for _ in trigger.run():
            pass

    running = asyncio.create_task(run())
    await asyncio.sleep(0.1)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()


@pytest.mark.parametrize("state", ["failed", "success", "skipped", None])
def test_cancelled_trigger_of_an_ended_task_stops_the_execution(
    state: str | None,
    arn: str,
    make_supervisor: MakeSupervisor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """A user has ended the task, so Airflow cancels its trigger."""
    make_supervisor(state)

    asyncio.run(run_and_cancel(arn))
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]


def test_cancelled_trigger_of_a_deferred_task_stops_nothing(
    arn: str, make_supervisor: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """The triggerer ends, or the trigger moves to another one."""
    make_supervisor("deferred")

    asyncio.run(run_and_cancel(arn))

    assert calls(emulator, STOP) == []


def test_unreadable_state_stops_nothing(
    arn: str,
    make_supervisor: MakeSupervisor,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Without the task's state, a kill cannot be told from a restart. The trigger still
    ends as cancelled.
    """
    supervisor = make_supervisor("failed")
    supervisor.state_error = ConnectionError("no API server")
    monkeypatch.setattr(stopping, "STATE_RETRY_SECONDS", (0.01,))

    asyncio.run(run_and_cancel(arn))

    assert calls(emulator, STOP) == []


def test_stop_on_kill_false_stops_nothing(
    arn: str, make_supervisor: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """With ``stop_on_kill=False``, a cancellation is only a cancellation."""
    supervisor = make_supervisor("failed")

    asyncio.run(run_and_cancel(arn, stop_on_kill=False))

    assert supervisor.requests == []
    assert calls(emulator, STOP) == []
