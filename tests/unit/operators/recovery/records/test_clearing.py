"""Clearing: in a new epoch a new execution starts, after the old one has ended."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.exceptions import PipelineExecutionTimeoutError, SageMakerApiError
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS,
    RETRY,
    START,
    STOP,
    CrashError,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    crash,
)


def crash_while_waiting(task: Task, time: EmulatedTime, **arguments: Any) -> None:
    """Let a try crash while it waits."""
    time.after(100, crash)
    assert isinstance(task.next_try(**arguments).error, CrashError)


@IN_BOTH_MODES
def test_running_execution_is_stopped_before_a_new_one_starts(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The running execution is stopped, and the new one starts only after its end."""
    task = make_task()
    crash_while_waiting(task, emulated_time, pipeline_parameters={"Shards": 4})
    task.clear()

    run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1
    assert (
        run.result
        == run.xcoms["execution_arn"]
        == run.xcoms["run"]["execution_arn"]
        == execution_log.arns[1]
    )
    assert run.xcoms["run"]["parameters"] == {"Shards": "3"}
    assert (task.last_record["epoch"], task.last_record.get("execution_arn")) == (
        task.max_tries,
        execution_log.arns[1],
    )


@pytest.mark.parametrize(
    ("scenario", "status"),
    [
        ({}, "Succeeded"),
        (MERGE_FAILS, "Failed"),
        ({"end_as": "CompletedWithFailures"}, "CompletedWithFailures"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("retry_mode", ["new", "resume"])
def test_ended_execution_is_neither_reattached_nor_resumed(
    retry_mode: str,
    scenario: dict[str, Any],
    status: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """However the old execution ended, a clear runs the whole pipeline again."""
    emulator.control.put_scenario(scenario)
    task = make_task(
        retry_mode=retry_mode, on_completed_with_failures="succeed", retries=0
    )
    task.next_try()
    task.clear()
    emulator.control.put_scenario({})
    emulator.control.clear_calls()

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == [status, "Succeeded"]
    assert calls(emulator, START, STOP, RETRY) == [START]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_unknown_arn_is_requested_before_a_new_start(
    moment: str,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If the old try crashed around its start, the request is resent to get the ARN, and
    that execution is stopped.

    If AWS had not received the request, the resend starts an execution, which is then
    stopped too.
    """
    task = make_task()
    (interceptor.before if moment == "before" else interceptor.after)(START, crash)
    task.next_try(pipeline_parameters={"Shards": 4})
    task.clear()

    run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1
    assert run.xcoms["run"]["parameters"] == {"Shards": "3"}


def test_unknown_arn_that_cannot_be_read_blocks_the_start(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If AWS does not tell whether the old execution runs (AccessDenied), no new one is
    started.
    """
    task = make_task()
    interceptor.before(START, crash)
    task.next_try()
    request = task.last_record["request"]
    task.clear()
    emulator.control.add_fault(
        "error", START, code="AccessDeniedException", message="not you"
    )

    run = task.next_try()

    assert isinstance(run.error, SageMakerApiError)
    assert execution_log.arns == []
    assert (task.last_record["request"], task.last_record.get("execution_arn")) == (
        request,
        None,
    )


def test_refused_stop_blocks_the_start(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    If the old execution runs and cannot be stopped, the task fails and no new one is
    started.
    """
    task = make_task()
    crash_while_waiting(task, emulated_time)
    task.clear()
    emulator.control.add_fault(
        "error", STOP, code="AccessDeniedException", message="not you"
    )

    run = task.next_try()

    assert "sagemaker:StopPipelineExecution" in str(run.error)
    assert execution_log.statuses == ["Executing"]


def test_old_execution_that_does_not_end_fails_the_try(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    If a callback step delays the stop beyond ``timeout``, the error names the old
    execution.
    """
    task = make_task(
        pipeline_name="callback-lambda",
        pipeline_parameters={"Approver": "me"},
        timeout=1800,
    )
    emulated_time.after(400, crash)
    task.next_try()
    task.clear()

    run = task.next_try()

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert (
        "This is the execution of an earlier try. No new execution was started beside it."
        in str(run.error)
    )
    assert task.state == "up_for_retry"
    assert execution_log.statuses == ["Stopping"]


def test_wait_behind_the_old_execution_does_not_use_the_timeout(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    After the wait behind the old execution, the start and the wait have the whole
    ``timeout``.
    """
    task = make_task(stop_on_kill=False, timeout=550)
    crash_while_waiting(task, emulated_time)
    task.clear()
    # The throttling lasts longer than the time that a wait of 400 s behind the old
    # execution would leave.
    emulator.control.add_fault("throttle", START, count=9)

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded", "Succeeded"]
