"""
Tasks of a team: the DAG processor, the triggerer and the process of a replaced try do
not see the Variable with their record.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.records import RECORD_KEY, variable_key
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeSupervisor, MakeTask
from tests.unit.operators.recovery.fake_triggerer import (
    TASK,
    call_on_kill,
    make_trigger,
)
from tests.unit.operators.recovery.harness import (
    NEVER_ENDS,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    crash,
    tokens,
)

if not CAPABILITIES.variable_keys:
    pytest.skip("teams are tested from Airflow 3.3 on", allow_module_level=True)


@pytest.fixture(autouse=True)
def _teams(
    monkeypatch: pytest.MonkeyPatch, simulated_airflow: SimulatedAirflow
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    simulated_airflow.has_teams = True


def run_failure_callbacks(task: Task) -> None:
    """Run the failure callbacks of a new copy of the task, as the DAG processor does."""
    operator: Any = task.prepare_try()
    for callback in operator.on_failure_callback:
        callback({"ti": task.ti, "task": operator, "dag": None, "params": {}})


@IN_BOTH_MODES
def test_execution_of_a_dead_process_is_stopped_once(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """The failure callback finds the record in the XCom, also before the first poll."""
    emulator.control.put_scenario(NEVER_ENDS)
    interceptor.after(START, crash)
    task = make_task(retries=0)
    task.next_try()
    assert task.state == "failed"
    assert execution_log.statuses == ["Executing"]

    run_failure_callbacks(task)
    run_failure_callbacks(task)
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]
    assert len(set(tokens(emulator, STOP))) == 1


def test_process_that_died_in_its_wait(
    make_task: MakeTask, execution_log: ExecutionLog, emulated_time: EmulatedTime
) -> None:
    """The copy has the ARN, too."""
    emulated_time.after(60, crash)
    task = make_task(retries=0)
    task.next_try()

    assert task.ti.xcoms[RECORD_KEY] == task.record
    run_failure_callbacks(task)
    emulated_time.sleep(60)

    assert execution_log.statuses == ["Stopped"]


def test_retry_writes_the_copy_again(
    make_task: MakeTask, execution_log: ExecutionLog, emulated_time: EmulatedTime
) -> None:
    """Airflow deletes the XComs of a task when its next try begins."""
    emulated_time.after(60, crash)
    task = make_task(retries=1)
    task.next_try()
    assert task.state == "up_for_retry"
    emulated_time.after(60, crash)
    task.next_try()
    assert task.state == "failed"

    run_failure_callbacks(task)
    emulated_time.sleep(60)

    assert execution_log.statuses == ["Stopped"]


def test_retry_that_died_before_it_wrote_the_copy(
    make_task: MakeTask,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The callback cannot read the record, but knows that there is one."""
    emulated_time.after(60, crash)
    task = make_task(retries=0)
    task.next_try()
    task.ti.xcoms.clear()

    run_failure_callbacks(task)

    assert calls(emulator, STOP) == []
    (text,) = [line for line in caplog.messages if "The task has failed." in line]
    assert "may still be running" in text
    assert f"{variable_key(task.key)!r} of a team" in text
    assert "the pipeline 'fanout'" in text


@IN_BOTH_MODES
def test_success_deletes_the_copy(make_task: MakeTask) -> None:
    """A task that has succeeded has no record."""
    task = make_task()

    run = task.next_try()

    assert run.error is None
    assert task.record is None
    assert RECORD_KEY not in run.xcoms


def test_start_that_aws_refuses_leaves_no_copy(
    make_task: MakeTask, emulator: EmulatorServer
) -> None:
    """From the copy of a request, the failure callback would start an execution."""
    emulator.control.add_fault(
        "error", START, code="ValidationException", message="no", count=1
    )
    task = make_task(retries=0)
    run = task.next_try()

    run_failure_callbacks(task)

    assert RECORD_KEY not in run.xcoms
    assert len(calls(emulator, START)) == 1


@pytest.mark.parametrize("state", ["restarting", None])
def test_clear_of_the_running_task(
    state: str | None,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A clear gives the task a new id at once, so Airflow knows no team of the process
    that it kills. That stops its execution all the same.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task()
    task.prepare_try()

    def clear_and_kill() -> None:
        task.clear_while_running()
        task.state = state or task.state
        task.operator.on_kill()

    emulated_time.after(200, clear_and_kill)

    task.run_prepared_try()

    assert execution_log.statuses == ["Stopped"]
    emulator.control.put_scenario({})
    run = task.next_try()
    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1


def test_replaced_try_whose_record_is_gone(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """A later try has succeeded, so nothing may be stopped."""
    task = make_task()
    first = task.prepare_try()

    def come_back() -> None:
        task.lose_heartbeat()
        task.next_try()
        assert task.state == "success"
        first.on_kill()

    emulated_time.after(100, come_back)

    task.operator = first
    task.run_prepared_try()

    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded"]


@pytest.mark.parametrize("is_hidden", [True, False])
def test_trigger_of_an_earlier_try_stops_nothing(
    is_hidden: bool,
    make_supervisor: MakeSupervisor,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A triggerer that was suspended finds out from the copy that a later try has gone on
    with the execution. Of the current try, it stops the execution once.
    """
    task = Task(deferrable=True, task_id=TASK)
    emulated_time.after(100, crash)
    task.next_try()
    arn = task.record["execution_arn"]
    emulated_time.after(100, crash)
    task.next_try()
    supervisor = make_supervisor("failed")
    supervisor.hides_record = is_hidden
    supervisor.record = task.record
    supervisor.xcoms[RECORD_KEY] = task.ti.xcoms[RECORD_KEY]

    call_on_kill(make_trigger(arn))
    assert calls(emulator, STOP) == []

    call_on_kill(make_trigger(arn, try_number=2))
    assert calls(emulator, STOP) == [STOP]


def test_edited_copy_is_not_believed(
    make_task: MakeTask,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Users can edit XComs, and the record is signed."""
    emulated_time.after(60, crash)
    task = make_task(retries=0)
    task.next_try()
    task.ti.xcoms[RECORD_KEY]["try_number"] = 7

    run_failure_callbacks(task)

    assert calls(emulator, STOP) == []
    assert any("is ignored" in line for line in caplog.messages)


def test_without_teams_there_is_no_copy(
    make_task: MakeTask,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    simulated_airflow: SimulatedAirflow,
) -> None:
    """It would cost two requests of each task."""
    monkeypatch.delenv("AIRFLOW__CORE__MULTI_TEAM")
    simulated_airflow.has_teams = False
    emulated_time.after(60, crash)
    task = make_task()

    task.next_try()

    assert task.record
    assert RECORD_KEY not in task.ti.xcoms
