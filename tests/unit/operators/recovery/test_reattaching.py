"""Reattaching: a retry continues with the execution of the earlier tries."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.links import PolysyncPipelineExecutionLink
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    DESCRIBE,
    MERGE_FAILS,
    NEVER_ENDS,
    RETRY,
    START,
    STOP,
    CrashError,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    crash,
    step_attempts,
)

MUCH_LATER = 7200
COMPLETED = {"end_as": "CompletedWithFailures", **MERGE_FAILS}


def crash_while_waiting(
    task: Task, time: EmulatedTime, emulator: EmulatorServer, *, later: float = 0
) -> None:
    """Let a try crash while it waits, and let time pass until the next try."""
    time.after(100, crash)
    assert isinstance(task.next_try().error, CrashError)
    emulator.control.advance(later)


@pytest.mark.parametrize("status", ["Succeeded", "CompletedWithFailures"])
def test_ended_execution_is_reattached_without_waiting(
    status: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    An ended execution needs one poll and no wait, and the try pushes the same XComs as
    an ordinary one.
    """
    emulator.control.put_scenario({} if status == "Succeeded" else COMPLETED)
    task = make_task(
        on_completed_with_failures="succeed", pipeline_parameters={"Shards": 4}
    )
    other = make_task(
        on_completed_with_failures="succeed", pipeline_parameters={"Shards": 4}
    )
    other.run_id = "manual__other"
    ordinary = other.next_try()
    crash_while_waiting(task, emulated_time, emulator, later=MUCH_LATER)
    emulated_time.slept.clear()
    emulator.control.clear_calls()

    run = task.next_try()

    assert emulated_time.slept == []
    assert run.trigger is None
    assert calls(emulator, DESCRIBE, START, STOP, RETRY) == [DESCRIBE]
    assert run.result == run.xcoms["execution_arn"] == execution_log.arns[-1]
    button = (
        {PolysyncPipelineExecutionLink().xcom_key}
        if CAPABILITIES.links_are_xcoms
        else set()
    )
    assert run.xcoms.keys() == ordinary.xcoms.keys() >= {"console_url", *button}
    record, ordinary_record = dict(run.xcoms["run"]), dict(ordinary.xcoms["run"])
    for values in (record, ordinary_record):
        assert values.pop("started_at") < values.pop("ended_at")
        assert values.pop("execution_arn") in execution_log.arns
    assert record == ordinary_record
    assert record["status"] == status
    assert record["parameters"] == {"Shards": "4"}


def test_reattaching_is_logged(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The log of a retry says that no new execution is started and which execution it
    continues with.
    """
    task = make_task()
    crash_while_waiting(task, emulated_time, emulator)

    with capture_logs() as logs:
        task.next_try()

    lines = [entry["event"] % entry.get("positional_args", ()) for entry in logs]
    (line,) = [line for line in lines if "Reattached" in line]
    assert line == (
        "Reattached to the execution of an earlier try (AWS status Executing); no new one is started: execution "
        f"{execution_log.arns[0]}"
    )


@IN_BOTH_MODES
def test_timeout_counts_from_the_start_of_the_execution(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    ``timeout`` counts from the start of the execution, so that a retry does not extend
    it.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=3600)
    crash_while_waiting(task, emulated_time, emulator, later=3000)

    run = task.next_try()

    created = execution_log.executions[0].engine.created_at
    assert "did not end before the timeout" in str(run.error)
    # Rounded, because the response has the creation time in microseconds only.
    assert 3600 <= round(emulated_time.time() - created, 3) < 3700
    assert calls(emulator, STOP) == [STOP]


def test_reattaching_without_waiting(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """With ``wait_for_completion=False``, the try after a crash only pushes XComs."""
    task = make_task(wait_for_completion=False)
    interceptor.after(START, crash)
    assert isinstance(task.next_try().error, CrashError)

    run = task.next_try()

    assert run.error is None
    assert run.result == execution_log.arns[0]
    assert run.xcoms["run"]["state"] == "Running"
    assert calls(emulator, START, STOP) == [START]
    assert execution_log.statuses == ["Executing"]
    assert emulated_time.slept == []


def test_result_is_reattached_if_pushing_xcoms_failed(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    If the API server is down at the end of the wait, the next try takes the result of
    the execution.
    """
    from tests.tasks import TaskInstance

    push = TaskInstance.xcom_push

    def unreachable(self: TaskInstance, key: str, value: Any) -> None:
        if self.try_number == 1 and value == "Success":
            raise ConnectionError("no API server")
        push(self, key, value)

    monkeypatch.setattr(TaskInstance, "xcom_push", unreachable)
    task = make_task()
    assert isinstance(task.next_try().error, ConnectionError)

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert step_attempts(execution_log.executions[0])["Merge"] == 1
