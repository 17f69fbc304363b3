"""
The stop that ``on_kill`` of the trigger requests: threads, cancellation, tokens and
transient errors.
"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, run_task
from tests.unit.operators.recovery.conftest import MakeSupervisor
from tests.unit.operators.recovery.fake_triggerer import (
    TASK,
    call_on_kill,
    make_trigger,
)
from tests.unit.operators.recovery.harness import (
    DESCRIBE,
    STOP,
    ExecutionLog,
    Task,
    calls,
    crash,
)


def test_stop_continues_after_on_kill_is_cancelled(
    arn: str,
    make_supervisor: MakeSupervisor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    Airflow cancels ``on_kill`` after about a second; a stop request to a slow AWS is
    still sent.
    """
    make_supervisor("failed")
    emulator.control.add_fault("latency", STOP, delay=0.4)

    async def cancel_on_kill() -> None:
        killing = asyncio.create_task(make_trigger(arn).on_kill())
        await asyncio.sleep(0.05)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing

    asyncio.run(cancel_on_kill())
    assert calls(emulator, STOP) == [], "the cancellation comes before the response"

    until = time.monotonic() + 10
    while not calls(emulator, STOP) and time.monotonic() < until:
        time.sleep(0.02)
    emulator.control.advance(60)
    assert execution_log.statuses == ["Stopped"]


def test_queued_stops_continue_after_on_kill_is_cancelled(
    arn: str,
    make_supervisor: MakeSupervisor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    With more kills than threads, the queued kills still stop their executions when
    cancelled.
    """
    make_supervisor("failed")
    emulator.control.add_fault("latency", STOP, delay=0.2)
    arns = [arn]
    for number in range(11):
        operator = PolysyncStartPipelineOperator(
            task_id=f"t{number}", pipeline_name="fanout", wait_for_completion=False
        )
        arns.append(run_task(operator).result)

    async def cancel_all() -> None:
        killing = [asyncio.create_task(make_trigger(each).on_kill()) for each in arns]
        await asyncio.sleep(0.05)
        for each in killing:
            each.cancel()
        await asyncio.gather(*killing, return_exceptions=True)

    asyncio.run(cancel_all())

    until = time.monotonic() + 20
    while len(calls(emulator, STOP)) < len(arns) and time.monotonic() < until:
        time.sleep(0.05)
    emulator.control.advance(60)
    assert set(execution_log.statuses) == {"Stopped"}


def test_stop_does_not_wait_for_the_default_executor(
    arn: str, make_supervisor: MakeSupervisor, emulator: EmulatorServer
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
            assert calls(emulator, STOP) == [STOP]
            assert not any(poll.done() for poll in polls)
        finally:
            finish.set()

    asyncio.run(kill_beside_polls())


@pytest.mark.parametrize("state", ["running", "failed"])
@pytest.mark.parametrize("key_is_configured", [True, False])
def test_trigger_of_an_earlier_try_stops_nothing(
    state: str,
    key_is_configured: bool,
    make_supervisor: MakeSupervisor,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A triggerer that was suspended may call ``on_kill`` after a later try has gone on
    with the execution.
    """
    if not key_is_configured:
        monkeypatch.delenv("AIRFLOW__CORE__FERNET_KEY")
    task = Task(deferrable=True, task_id=TASK)
    emulated_time.after(100, crash)
    task.next_try()
    supervisor = make_supervisor("running")
    supervisor.record = task.record
    arn = supervisor.record["execution_arn"]
    emulated_time.after(100, crash)
    task.next_try()
    supervisor.state = state
    supervisor.record = task.record

    call_on_kill(make_trigger(arn))
    assert calls(emulator, STOP) == []
    call_on_kill(make_trigger(arn, try_number=2))
    # A try that is at work decides itself.
    assert calls(emulator, STOP) == ([STOP] if state == "failed" else [])


def test_refused_stop_of_an_ended_execution_is_no_error(
    arn: str, make_supervisor: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """
    If AWS refuses the stop because the execution has ended, ``on_kill`` raises no
    error.
    """
    make_supervisor("failed")
    emulator.control.advance(3600)

    call_on_kill(make_trigger(arn))

    assert calls(emulator, STOP, DESCRIBE) == [STOP, DESCRIBE]


@pytest.mark.parametrize("kind", ["throttle", "http", "dropped", "lost_response"])
def test_stop_is_retried_after_transient_errors(
    kind: str,
    arn: str,
    make_supervisor: MakeSupervisor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The thread keeps retrying for minutes after Airflow has cancelled ``on_kill``."""
    make_supervisor("failed")
    emulator.control.add_fault(kind, STOP, count=5)

    call_on_kill(make_trigger(arn))
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]
