"""The trigger's ``on_kill``: a stop when the task was ended, none when only the trigger has moved."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom
from structlog.testing import capture_logs

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, pipeline_execution
from tests.operators.recovery.histories import DESCRIBE, NEVER_ENDS, STOP, Ledger, Task, calls, die, tokens
from tests.operators.recovery.supervisor import DAG, MISSING, RUN, TASK, Supervisor
from tests.tasks import EmulatedTime, run_task

MakeSupervisor = Callable[..., Supervisor]


@pytest.fixture
def supervise(monkeypatch: pytest.MonkeyPatch) -> MakeSupervisor:
    """Give the triggerer its way to Airflow."""

    def make(state: Any, map_index: int = -1) -> Supervisor:
        supervisor = Supervisor(state, map_index)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
        return supervisor

    return make


@pytest.fixture
def arn(ledger: Ledger) -> str:
    """An execution that runs, on the ledger."""
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", wait_for_completion=False
    )
    return str(run_task(operator).result)


def trigger_of(arn: str, *, map_index: int = -1, **changes: Any) -> PolysyncPipelineExecutionTrigger:
    """Return the trigger as a triggerer has it: made of JSON, with its task instance."""
    stored = {
        "execution_arn": arn,
        "pipeline_name": "fanout",
        "polysync_conn_id": "polysync_default",
        "region_name": "us-east-1",
        "poll_interval": 30.0,
        "since": 1_750_000_000.0,
        "deadline": 1_750_600_000.0,
        "attempt": 0,
        "stop_on_kill": True,
        **changes,
    }
    trigger = PolysyncPipelineExecutionTrigger(**json.loads(json.dumps(stored)))
    trigger.task_instance = SimpleNamespace(  # type: ignore[assignment]
        dag_id=DAG, task_id=TASK, run_id=RUN, map_index=map_index
    )
    return trigger


def on_kill(trigger: PolysyncPipelineExecutionTrigger) -> None:
    """Do what Airflow does when a user, or the DAG run, has ended the task."""
    asyncio.run(trigger.on_kill())


def test_a_task_that_is_still_deferred_keeps_its_execution(
    arn: str, supervise: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """Airflow calls ``on_kill`` also when triggers move to another triggerer; nothing may be stopped then."""
    supervisor = supervise("deferred")

    on_kill(trigger_of(arn))

    assert calls(emulator, STOP) == []
    (asked,) = supervisor.asked
    assert (asked.dag_id, asked.task_ids, asked.run_ids, asked.map_index) == (DAG, [TASK], [RUN], -1)


@pytest.mark.parametrize(
    "state",
    [
        "failed",
        "success",
        "skipped",
        "removed",
        "scheduled",
        "queued",
        "running",
        "up_for_retry",
        None,
        MISSING,
    ],
    ids=lambda state: "unknown to Airflow" if state is MISSING else str(state),
)
def test_a_task_that_is_no_longer_deferred_gives_its_execution_up(
    state: Any, arn: str, supervise: MakeSupervisor, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Marked, cleared, failed with its DAG run, deleted: one stop."""
    supervise(state)

    on_kill(trigger_of(arn))
    emulator.control.advance(60)

    assert len(tokens(emulator, STOP)) == 1
    assert ledger.statuses == ["Stopped"]


@pytest.mark.parametrize(("state", "stops"), [("deferred", 0), ("failed", 1)])
def test_a_mapped_task_is_asked_for_by_its_index(
    state: str, stops: int, arn: str, supervise: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """The answer's keys end in the index; another index of the same task is another task."""
    supervisor = supervise(state, map_index=7)

    on_kill(trigger_of(arn, map_index=7))

    assert len(tokens(emulator, STOP)) == stops
    assert supervisor.asked[0].map_index == 7


def test_who_wants_no_stop_gets_none(arn: str, supervise: MakeSupervisor, emulator: EmulatorServer) -> None:
    """``stop_on_kill=False`` is carried in the trigger; Airflow is not even asked."""
    supervisor = supervise("failed")

    on_kill(trigger_of(arn, stop_on_kill=False))

    assert calls(emulator, STOP) == []
    assert supervisor.asked == []


def test_without_a_task_instance_nothing_is_stopped(arn: str, emulator: EmulatorServer) -> None:
    """``dag.test()`` gives triggers no task instance: whose end it is cannot be known."""
    trigger = trigger_of(arn)
    trigger.task_instance = None

    on_kill(trigger)

    assert calls(emulator, STOP) == []


def test_a_cancellation_after_a_moment_does_not_stop_the_stop(
    arn: str, supervise: MakeSupervisor, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Airflow cancels ``on_kill`` after about a second; a slow AWS still gets the request."""
    supervise("failed")
    emulator.control.add_fault("latency", STOP, delay=0.4)

    async def cancelled() -> None:
        killing = asyncio.create_task(trigger_of(arn).on_kill())
        await asyncio.sleep(0.05)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing

    asyncio.run(cancelled())
    assert calls(emulator, STOP) == [], "the cancellation came before the answer"

    until = time.monotonic() + 10
    while not calls(emulator, STOP) and time.monotonic() < until:
        time.sleep(0.02)
    emulator.control.advance(60)
    assert ledger.statuses == ["Stopped"]


def test_a_cancellation_while_still_waiting_for_a_thread(
    arn: str, supervise: MakeSupervisor, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """More kills at once than threads: those that wait their turn when they are cancelled still stop."""
    supervise("failed")
    emulator.control.add_fault("latency", STOP, delay=0.2)
    arns = [arn]
    for number in range(11):
        operator = PolysyncStartPipelineOperator(
            task_id=f"t{number}", pipeline_name="fanout", wait_for_completion=False
        )
        arns.append(run_task(operator).result)

    async def all_at_once() -> None:
        killing = [asyncio.create_task(trigger_of(each).on_kill()) for each in arns]
        await asyncio.sleep(0.05)
        for each in killing:
            each.cancel()
        await asyncio.gather(*killing, return_exceptions=True)

    asyncio.run(all_at_once())

    until = time.monotonic() + 20
    while len(calls(emulator, STOP)) < len(arns) and time.monotonic() < until:
        time.sleep(0.05)
    emulator.control.advance(60)
    assert set(ledger.statuses) == {"Stopped"}


def test_a_crowd_of_looks_is_not_in_the_way(
    arn: str, supervise: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """Looks use the event loop's threads; a stop must not queue behind them."""
    supervise("failed")

    async def crowded() -> None:
        loop = asyncio.get_running_loop()
        looks = [loop.run_in_executor(None, time.sleep, 0.5) for _ in range(64)]
        begun = time.monotonic()
        await trigger_of(arn).on_kill()
        assert time.monotonic() - begun < 0.5
        assert calls(emulator, STOP) == [STOP]
        for look in looks:
            look.cancel()

    asyncio.run(crowded())


def test_twice_is_one_stop(arn: str, supervise: MakeSupervisor, emulator: EmulatorServer) -> None:
    """Two triggerers may be told of the same end during a failover: their stops bear the same token."""
    supervise("failed")

    on_kill(trigger_of(arn))
    on_kill(trigger_of(arn))

    assert len(tokens(emulator, STOP)) == 2
    assert len(set(tokens(emulator, STOP))) == 1


def test_worker_and_triggerer_ask_for_the_same_stop(
    supervise: MakeSupervisor, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """On a clear, the new try stops the old execution before the old trigger does: one stop for AWS."""
    supervise("deferred")
    task = Task(deferrable=True)
    emulated_time.after(100, die)
    task.next_try()
    (arn,) = ledger.arns
    task.clear()
    task.next_try()
    supervise("running")

    on_kill(trigger_of(arn))

    assert ledger.statuses == ["Stopped", "Succeeded"]
    assert len(set(tokens(emulator, STOP))) == 1


def test_a_resumed_execution_is_not_stopped_by_the_trigger_of_an_earlier_try(
    arn: str, supervise: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """A triggerer that slept through the failure learns late that its trigger is gone."""
    supervisor = supervise("running")
    supervisor.run = {"execution_arn": arn, "resumes": 1}

    on_kill(trigger_of(arn, attempt=0))
    assert calls(emulator, STOP) == []
    on_kill(trigger_of(arn, attempt=1))
    assert calls(emulator, STOP) == [STOP]


def test_a_resumed_attempt_is_stopped_though_the_first_one_was(
    supervise: MakeSupervisor, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The trigger's stop is its own attempt's: with the first one's token, AWS would take it for done."""
    emulator.control.put_scenario({"steps": {"Merge": {"fail": {"times": 1}, "duration": 230}}})
    task = Task(deferrable=True, arguments={"retry_mode": "resume", "poll_interval": 20})
    emulated_time.after(460, die)
    task.next_try()
    # Too late: the last step fails while the stop is under way.
    (arn,) = ledger.arns
    supervise("failed")
    on_kill(trigger_of(arn))
    emulator.control.advance(60)
    emulator.control.put_scenario(NEVER_ENDS)
    emulated_time.after(100, die)
    task.next_try()
    assert [status for *_, status in ledger.spans] == ["Failed"]
    assert ledger.statuses == ["Executing"]

    on_kill(trigger_of(arn, attempt=1))
    emulator.control.advance(60)

    assert ledger.statuses == ["Stopped"]


def test_xcoms_that_cannot_be_read_do_not_keep_it_running(
    arn: str, supervise: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """Whether a later try has resumed it is a rare question; that the task has ended is known."""
    supervisor = supervise("failed")
    supervisor.errors[GetXCom] = ConnectionError("no API server")

    on_kill(trigger_of(arn))

    assert calls(emulator, STOP) == [STOP]


def test_what_has_ended_meanwhile_needs_no_stop(
    arn: str, supervise: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """A refusal because it is over is no error."""
    supervise("failed")
    emulator.control.advance(3600)

    on_kill(trigger_of(arn))

    assert calls(emulator, STOP, DESCRIBE) == [STOP, DESCRIBE]


@pytest.mark.parametrize("kind", ["throttle", "http", "dropped", "lost_response"])
def test_passing_faults_do_not_keep_it_running(
    kind: str,
    arn: str,
    supervise: MakeSupervisor,
    ledger: Ledger,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The thread goes on for minutes after Airflow has lost interest."""
    supervise("failed")
    emulator.control.add_fault(kind, STOP, count=5)

    on_kill(trigger_of(arn))
    emulator.control.advance(60)

    assert ledger.statuses == ["Stopped"]


def test_what_an_older_version_stored_still_loads(
    arn: str, supervise: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """Tasks that were deferred before there was ``on_kill`` go on as they were: nothing is stopped."""
    supervise("failed")
    full = trigger_of(arn).serialize()[1]
    old = {key: value for key, value in full.items() if key not in ("attempt", "stop_on_kill")}
    trigger = PolysyncPipelineExecutionTrigger(**old)
    trigger.task_instance = trigger_of(arn).task_instance

    on_kill(trigger)

    assert trigger.serialize()[1] == {**old, "attempt": 0, "stop_on_kill": False}
    assert calls(emulator, STOP) == []


@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_what_a_start_defers_to_knows_what_to_stop(
    stop_on_kill: bool, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trigger of a Start carries its wish; of the waiting kind and of the one behind an older execution."""
    task = Task(deferrable=True, arguments={"stop_on_kill": stop_on_kill})
    emulated_time.after(100, die)
    task.next_try()
    task.clear()
    deferred: list[tuple[str, bool]] = []
    defer = PolysyncStartPipelineOperator.defer

    def watched(self: Any, **arguments: Any) -> None:
        deferred.append((arguments["method_name"], arguments["trigger"].stop_on_kill))
        defer(self, **arguments)

    monkeypatch.setattr(PolysyncStartPipelineOperator, "defer", watched)

    task.next_try()

    assert deferred == [("execute_after_end", stop_on_kill), ("execute_complete", stop_on_kill)]


def test_cleaning_up_stops_nothing(arn: str, supervise: MakeSupervisor, emulator: EmulatorServer) -> None:
    """``cleanup`` runs whenever a trigger leaves a triggerer, also when that is shut down."""
    supervise("failed")

    asyncio.run(trigger_of(arn).cleanup())

    assert calls(emulator, STOP) == []


@pytest.mark.parametrize("comes_back", [True, False])
def test_an_airflow_that_does_not_tell_the_state_is_asked_again(
    comes_back: bool,
    arn: str,
    supervise: MakeSupervisor,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stops once Airflow tells; if it never does, nothing is stopped, and an error names the execution."""
    supervisor = supervise("failed")
    supervisor.errors[GetTaskStates] = ConnectionError("no API server")
    trigger = trigger_of(arn)
    monkeypatch.setattr(pipeline_execution, "STATE_PAUSES", (0.01, 0.01))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if comes_back and len(pauses) == 2:
            supervisor.errors.clear()

    monkeypatch.setattr(pipeline_execution, "time", SimpleNamespace(sleep=pause))

    with capture_logs() as logs:
        if comes_back:
            on_kill(trigger)
        else:
            with pytest.raises(ConnectionError):
                on_kill(trigger)

    assert len(calls(emulator, STOP)) == comes_back
    assert any(arn in line["event"] for line in logs if line["log_level"] == "error") is not comes_back
