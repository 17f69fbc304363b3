"""
``on_kill`` of the trigger: it stops the execution of an ended task, not that of a
deferred one.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.execution import clock
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.triggers import stopping
from sagemaker_emulator import EmulatorServer
from tests.fakes.airflow_service import MISSING
from tests.fakes.log_capture import capture_logs
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeSupervisor
from tests.unit.operators.recovery.fake_triggerer import (
    DAG,
    RUN,
    TASK,
    call_on_kill,
    make_trigger,
)
from tests.unit.operators.recovery.harness import (
    STOP,
    ExecutionLog,
    Task,
    calls,
    crash,
    tokens,
)


def test_deferred_task_keeps_its_execution(
    arn: str, make_supervisor: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """
    Airflow also calls ``on_kill`` when a trigger moves to another triggerer: nothing is
    stopped then.
    """
    supervisor = make_supervisor("deferred")

    call_on_kill(make_trigger(arn))

    assert calls(emulator, STOP) == []
    assert supervisor.requests == [(DAG, RUN, TASK, -1)]


@pytest.mark.parametrize(
    "state",
    [
        "failed",
        "success",
        "skipped",
        "removed",
        "scheduled",
        "queued",
        "up_for_retry",
        None,
        MISSING,
    ],
    ids=lambda state: "not found" if state is MISSING else str(state),
)
def test_task_in_another_state_loses_its_execution(
    state: Any,
    arn: str,
    make_supervisor: MakeSupervisor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If the task was marked, cleared, deleted or failed with its DAG run, its execution
    is stopped once.
    """
    make_supervisor(state)

    call_on_kill(make_trigger(arn))
    emulator.control.advance(60)

    assert len(tokens(emulator, STOP)) == 1
    assert execution_log.statuses == ["Stopped"]


@pytest.mark.parametrize(("state", "stops"), [("deferred", 0), ("failed", 1)])
def test_mapped_task_is_requested_by_its_map_index(
    state: str,
    stops: int,
    arn: str,
    make_supervisor: MakeSupervisor,
    emulator: EmulatorServer,
) -> None:
    """
    The state of a mapped task is read by its map index, which the keys of the response
    end with.
    """
    supervisor = make_supervisor(state, map_index=7)

    call_on_kill(make_trigger(arn, map_index=7))

    assert len(tokens(emulator, STOP)) == stops
    assert set(supervisor.requests) == {(DAG, RUN, TASK, 7)}


def test_stop_on_kill_false_stops_nothing(
    arn: str, make_supervisor: MakeSupervisor, emulator: EmulatorServer
) -> None:
    """
    With ``stop_on_kill=False``, the trigger does not read the task's state and stops
    nothing.
    """
    supervisor = make_supervisor("failed")

    call_on_kill(make_trigger(arn, stop_on_kill=False))

    assert calls(emulator, STOP) == []
    assert supervisor.requests == []


def test_trigger_without_task_instance_stops_nothing(
    arn: str, emulator: EmulatorServer
) -> None:
    """
    ``dag.test()`` gives triggers no task instance, so the reason for the kill is not
    known.
    """
    trigger = make_trigger(arn)
    trigger.task_instance = None

    call_on_kill(trigger)

    assert calls(emulator, STOP) == []


@pytest.mark.parametrize(
    "record", ["cannot be read", None, "a text", {"execution_arn": "x"}]
)
@pytest.mark.parametrize(("state", "stops"), [("failed", [STOP]), ("running", [])])
def test_without_a_proven_record_the_state_decides(
    state: str,
    stops: list[str],
    record: Any,
    arn: str,
    make_supervisor: MakeSupervisor,
    emulator: EmulatorServer,
) -> None:
    """
    Nobody else stops the execution of a task that has ended; a try that is at work
    decides itself.
    """
    supervisor = make_supervisor(state)
    supervisor.record = record
    if record == "cannot be read":
        supervisor.variable_error = ConnectionError("no API server")

    call_on_kill(make_trigger(arn))

    assert calls(emulator, STOP) == stops


@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_start_passes_stop_on_kill_to_its_triggers(
    stop_on_kill: bool, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The triggers of both waits, for the old and for the new execution, have the task's
    ``stop_on_kill``.
    """
    task = Task(deferrable=True, arguments={"stop_on_kill": stop_on_kill})
    emulated_time.after(100, crash)
    task.next_try()
    task.clear()
    deferred: list[tuple[str, bool]] = []
    defer = PolysyncStartPipelineOperator.defer

    def recording_defer(self: Any, **arguments: Any) -> None:
        deferred.append((arguments["method_name"], arguments["trigger"].stop_on_kill))
        defer(self, **arguments)

    monkeypatch.setattr(PolysyncStartPipelineOperator, "defer", recording_defer)

    task.next_try()

    assert deferred == [
        ("execute_after_end", stop_on_kill),
        ("execute_complete", stop_on_kill),
    ]


@pytest.mark.parametrize("recovers", [True, False])
def test_unreadable_task_state_is_retried(
    recovers: bool,
    arn: str,
    make_supervisor: MakeSupervisor,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The stop follows once the state can be read; if it never can, an error names the
    execution.
    """
    supervisor = make_supervisor("failed")
    supervisor.state_error = ConnectionError("no API server")
    trigger = make_trigger(arn)
    monkeypatch.setattr(stopping, "STATE_RETRY_SECONDS", (0.01, 0.01))
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if recovers and len(sleeps) == 2:
            supervisor.state_error = None

    monkeypatch.setattr(clock, "sleep", sleep)

    with capture_logs() as logs:
        call_on_kill(trigger)

    assert len(calls(emulator, STOP)) == recovers
    assert (
        any(arn in line["event"] for line in logs if line["log_level"] == "error")
        is not recovers
    )
