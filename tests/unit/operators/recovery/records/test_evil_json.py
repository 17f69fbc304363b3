"""
Texts that nobody can read, in place of the record and of the XCom ``run``: no stop, no
start and no retry fails because of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.exceptions import PipelineExecutionTimeoutError, StoredRecordError
from polysync_airflow.operators.failure_callback import stop_orphaned_execution
from polysync_airflow.records import KEY_PREFIX, from_stored, from_variable
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.fakes.evil_json import EVIL, NESTED, nested_value
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import EmulatedTime, TaskInstance
from tests.unit.operators.recovery.conftest import MakeSupervisor, MakeTask
from tests.unit.operators.recovery.fake_triggerer import call_on_kill, make_trigger
from tests.unit.operators.recovery.harness import (
    NEVER_ENDS,
    START,
    ExecutionLog,
    Task,
    calls,
    crash,
)

OVERWRITTEN_AFTER, ENDED_AFTER = 100, 300
Overwrite = Callable[[], None]


@pytest.fixture
def overwrite(monkeypatch: pytest.MonkeyPatch) -> Overwrite:
    """Returns a function after which each record is nested brackets."""
    stored = SimulatedAirflow.variable

    def read(airflow: SimulatedAirflow, key: str) -> str | None:
        return NESTED if key.startswith(KEY_PREFIX) else stored(airflow, key)

    return lambda: monkeypatch.setattr(SimulatedAirflow, "variable", read)


@pytest.mark.parametrize("kind", EVIL)
def test_variable_is_a_damaged_record(kind: str) -> None:
    """The error is that of each damaged record."""
    with pytest.raises(StoredRecordError, match="is damaged") as caught:
        from_variable(EVIL[kind], Task().key, place="the Variable")

    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize(
    "value", [nested_value(), {"request": nested_value()}], ids=["all", "request"]
)
def test_xcom_is_a_damaged_record(value: Any) -> None:
    """The task of a group keeps its record in one, which Airflow has decoded."""
    with pytest.raises(StoredRecordError, match="is damaged"):
        from_stored(value, Task().key, place="the XCom")


@IN_BOTH_MODES
@pytest.mark.parametrize("how", ["kill", "timeout"])
def test_execution_is_stopped(
    how: str,
    overwrite: Overwrite,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """A user has ended the task, or its time is up."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=1000, retries=0)
    emulated_time.after(OVERWRITTEN_AFTER, overwrite)
    if how == "kill":
        emulated_time.after(ENDED_AFTER, task.kill)

    run = task.next_try()
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]
    is_timeout = isinstance(run.error, PipelineExecutionTimeoutError)
    assert is_timeout is (how == "timeout")


def test_failure_callback_reads_it_as_damaged(
    overwrite: Overwrite,
    make_task: MakeTask,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without its record, an execution cannot be told to be that of the task."""
    task = make_task(retries=0)
    emulated_time.after(ENDED_AFTER, crash)
    run = task.next_try()
    overwrite()

    stop_orphaned_execution({"ti": run.ti, "task": task.prepare_try()})  # type: ignore[typeddict-item]

    assert "is damaged (it is nested too deeply)" in caplog.text


@IN_BOTH_MODES
def test_next_try_finds_the_execution(
    overwrite: Overwrite,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """It looks in AWS, as without a record."""
    task = make_task()
    emulated_time.after(ENDED_AFTER, crash)
    task.next_try()
    overwrite()

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert calls(emulator, START) == [START]


@IN_BOTH_MODES
def test_first_try_starts(
    overwrite: Overwrite, make_task: MakeTask, execution_log: ExecutionLog
) -> None:
    """Somebody has written the Variable before the task began."""
    overwrite()

    run = make_task().next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]


# ---- the XCom ``run``


def too_deep(*_: Any, **__: Any) -> Any:
    """Fail as Airflow does if an XCom is nested so deeply that it cannot decode it."""
    raise RecursionError


def nested(*_: Any, **__: Any) -> Any:
    """Return what Airflow can still decode, but Python cannot show."""
    return {"execution_arn": nested_value(), "parameters": nested_value()}


READS = pytest.mark.parametrize("read", [too_deep, nested])


@READS
@IN_BOTH_MODES
@pytest.mark.parametrize("how", ["kill", "timeout", "end"])
def test_run_that_is_nested_keeps_nothing_from_its_end(
    read: Callable[..., Any],
    how: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stop comes first; a task whose execution succeeds, succeeds."""
    if how != "end":
        emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=1000, retries=0)
    monkeypatch.setattr(TaskInstance, "xcom_pull", read)
    if how == "kill":
        emulated_time.after(ENDED_AFTER, task.kill)

    run = task.next_try()
    emulator.control.advance(60)

    assert execution_log.statuses == ["Succeeded" if how == "end" else "Stopped"]
    assert (run.error is None) is (how == "end")


@READS
def test_trigger_stops_beside_an_unreadable_run(
    read: Callable[..., Any],
    arn: str,
    overwrite: Overwrite,
    make_supervisor: MakeSupervisor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the record nor ``run`` can be read, and the user has ended the task."""
    supervisor = make_supervisor("failed")
    monkeypatch.setattr(supervisor, "variable", lambda *_: NESTED)
    monkeypatch.setattr(supervisor, "xcom", read)

    call_on_kill(make_trigger(arn))
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]
