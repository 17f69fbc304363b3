"""Clearing: in a new epoch a new execution starts, after the old one has ended."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.exceptions import PipelineExecutionTimeoutError, SageMakerApiError
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.harness import (
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
)
from tests.tasks import EmulatedTime


def crash_while_waiting(task: Task, time: EmulatedTime, **arguments: Any) -> None:
    """Let a try crash while it waits."""
    time.after(100, crash)
    assert isinstance(task.next_try(**arguments).error, CrashError)


@IN_BOTH_MODES
def test_running_execution_is_stopped_before_a_new_one_starts(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
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
        run.result == run.xcoms["execution_arn"] == run.xcoms["run"]["execution_arn"] == execution_log.arns[1]
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
    task = make_task(retry_mode=retry_mode, on_completed_with_failures="succeed", retries=0)
    task.next_try()
    task.clear()
    emulator.control.put_scenario({})
    emulator.control.clear_calls()

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == [status, "Succeeded"]
    assert calls(emulator, START, STOP, RETRY) == [START]


def test_two_clears_run_three_executions_in_sequence(
    make_task: MakeTask, execution_log: ExecutionLog, emulated_time: EmulatedTime
) -> None:
    """After two clears, three executions have run, one after the other."""
    task = make_task()
    crash_while_waiting(task, emulated_time, poll_interval=90)
    task.clear()
    crash_while_waiting(task, emulated_time, poll_interval=90)
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1


def test_retry_after_a_clear_reattaches_to_the_new_execution(
    make_task: MakeTask, execution_log: ExecutionLog, emulated_time: EmulatedTime
) -> None:
    """A retry after a clear is in the same epoch as the cleared try and reattaches to its execution."""
    task = make_task()
    crash_while_waiting(task, emulated_time)
    task.clear()
    emulated_time.after(200, crash)
    assert isinstance(task.next_try().error, CrashError)

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Succeeded"]


def test_stopping_execution_is_not_stopped_again(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """If the old execution is stopping already, the try only waits for its end."""
    task = make_task()
    crash_while_waiting(task, emulated_time)
    task.operator.hook.stop_pipeline_execution(execution_log.arns[0])
    emulator.control.clear_calls()
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START, STOP) == [START]
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1


def test_execution_that_ends_before_the_stop_is_replaced(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """If AWS refuses the stop because the execution has just ended, the new one starts."""
    task = make_task()
    crash_while_waiting(task, emulated_time)
    task.clear()
    interceptor.before(STOP, lambda _: emulator.control.advance(3600))

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded", "Succeeded"]
    assert run.result == execution_log.arns[1]


def test_stop_on_kill_false_waits_for_the_end(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """With ``stop_on_kill=False``, the old execution runs to its own end before the new one starts."""
    task = make_task(stop_on_kill=False)
    crash_while_waiting(task, emulated_time)
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded", "Succeeded"]
    assert run.result == execution_log.arns[1]
    assert execution_log.max_concurrent == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_unknown_arn_is_requested_before_a_new_start(
    moment: str,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If the old try crashed around its start, the request is resent to get the ARN, and that execution is
    stopped.

    If AWS had not received the request, the resend starts an execution, which is then stopped too.
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


@pytest.mark.parametrize("code", ["ValidationException", "ResourceNotFound"])
def test_old_request_refused_for_its_content_is_dropped(
    code: str,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """If AWS refuses the old request for its content, no execution has its token, and the new one starts."""
    task = make_task()
    interceptor.before(START, crash)
    task.next_try()
    task.clear()
    emulator.control.add_fault("error", START, code=code, message="no", count=1)

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert task.last_record["epoch"] == task.max_tries


def test_unknown_arn_that_cannot_be_read_blocks_the_start(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """If AWS does not tell whether the old execution runs (AccessDenied), no new one is started."""
    task = make_task()
    interceptor.before(START, crash)
    task.next_try()
    request = task.last_record["request"]
    task.clear()
    emulator.control.add_fault("error", START, code="AccessDeniedException", message="not you")

    run = task.next_try()

    assert isinstance(run.error, SageMakerApiError)
    assert execution_log.arns == []
    assert (task.last_record["request"], task.last_record.get("execution_arn")) == (request, None)


def test_refused_stop_blocks_the_start(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """If the old execution runs and cannot be stopped, the task fails and no new one is started."""
    task = make_task()
    crash_while_waiting(task, emulated_time)
    task.clear()
    emulator.control.add_fault("error", STOP, code="AccessDeniedException", message="not you")

    run = task.next_try()

    assert "sagemaker:StopPipelineExecution" in str(run.error)
    assert execution_log.statuses == ["Executing"]


def test_old_execution_that_does_not_end_fails_the_try(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """If a callback step delays the stop beyond ``timeout``, the error names the old execution."""
    task = make_task(pipeline_name="callback-lambda", pipeline_parameters={"Approver": "me"}, timeout=1800)
    emulated_time.after(400, crash)
    task.next_try()
    task.clear()

    run = task.next_try()

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert "This is the execution of an earlier try. No new execution was started beside it." in str(
        run.error
    )
    assert task.state == "up_for_retry"
    assert execution_log.statuses == ["Stopping"]


def test_wait_behind_the_old_execution_does_not_use_the_timeout(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """After the wait behind the old execution, the start and the wait have the whole ``timeout``."""
    task = make_task(stop_on_kill=False, timeout=550)
    crash_while_waiting(task, emulated_time)
    task.clear()
    # The throttling lasts longer than the time that a wait of 400 s behind the old execution would leave.
    emulator.control.add_fault("throttle", START, count=9)

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded", "Succeeded"]


def test_transient_errors_after_a_clear_are_retried(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Throttling and lost responses are retried for each call that follows a clear."""
    task = make_task()
    crash_while_waiting(task, emulated_time)
    task.clear()
    for operation in (DESCRIBE, STOP, START):
        emulator.control.add_fault("throttle", operation, count=2)
        emulator.control.add_fault("lost_response", operation, count=1)

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1


def test_deleted_old_execution_is_replaced(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """If AWS no longer knows the old execution, the new one starts without a stop."""
    task = make_task()
    crash_while_waiting(task, emulated_time)
    (record,) = execution_log.executions
    record.pipeline.executions.clear()
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded"]


def test_clear_without_waiting_still_waits_for_the_old_execution(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """With ``wait_for_completion=False``, the try waits for the end of the old execution only."""
    task = make_task(wait_for_completion=False)
    task.next_try()
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Executing"]
    assert execution_log.max_concurrent == 1
    assert run.result == execution_log.arns[1]


def test_resumed_execution_is_stopped_with_its_own_token(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The stop token names the attempt: with the first attempt's token, AWS would not stop the second."""
    emulator.control.put_scenario({"steps": {"Merge": {"fail": {"times": 1}, "duration": 230}}})
    task = make_task(retry_mode="resume", poll_interval=20)
    emulated_time.after(460, crash)
    task.next_try()
    # The stop of the first attempt comes too late: the last step fails while the execution is stopping.
    task.operator.hook.stop_pipeline_execution(execution_log.arns[0], attempt=0)
    emulator.control.advance(60)
    assert execution_log.statuses == ["Failed"]
    emulator.control.put_scenario(NEVER_ENDS)
    crash_while_waiting(task, emulated_time)
    assert calls(emulator, RETRY) == [RETRY]
    assert execution_log.statuses == ["Executing"]
    emulator.control.put_scenario({})
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert [status for *_, status in execution_log.finished_attempts] == ["Failed", "Stopped", "Succeeded"]
    assert execution_log.statuses == ["Stopped", "Succeeded"]
