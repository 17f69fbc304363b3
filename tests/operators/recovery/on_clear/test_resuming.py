"""``on_clear="resume"``: a cleared task continues a failed execution from its failed steps."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.harness import (
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    MERGE_FAILS_TWICE,
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
    tokens,
)
from tests.operators.recovery.test_resuming import log_lines
from tests.tasks import EmulatedTime

COMPLETED_ONCE = {"end_as": "CompletedWithFailures", **MERGE_FAILS_ONCE}
# The last step fails at its first attempt, while the execution is being stopped.
FAILS_WHILE_STOPPING = {"steps": {"Merge": {"fail": {"times": 1}, "duration": 230}}}
ALMOST_AT_THE_END = 460


def fail_and_clear(task: Task, emulator: EmulatorServer, scenario: dict[str, Any] = MERGE_FAILS_ONCE) -> None:
    """Let the execution of the only try fail, and clear the task after its cause was mended."""
    emulator.control.put_scenario(scenario)
    assert "AlgorithmError" in str(task.next_try().error)
    task.clear()
    emulator.control.clear_calls()


def clear_almost_at_the_end(
    task: Task, emulator: EmulatorServer, emulated_time: EmulatedTime, scenario: dict[str, Any]
) -> None:
    """Let the first try die shortly before its execution ends, and clear the task while the execution runs."""
    emulator.control.put_scenario(scenario)
    emulated_time.after(ALMOST_AT_THE_END, crash)
    assert isinstance(task.next_try().error, CrashError)
    emulator.control.put_scenario({})
    task.clear()


@pytest.mark.parametrize("retry_mode", ["new", "resume"])
@pytest.mark.parametrize("scenario", [MERGE_FAILS_ONCE, COMPLETED_ONCE], ids=["Failed", "Completed"])
def test_cleared_task_repeats_only_the_failed_step(
    scenario: dict[str, Any],
    retry_mode: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """The execution goes on from its failed step, in the epoch of the clear, whatever ``retry_mode`` says."""
    task = make_task(on_clear="resume", retry_mode=retry_mode, retries=0)
    fail_and_clear(task, emulator, scenario)
    emulator.control.put_scenario(MERGE_FAILS_ONCE)

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START, STOP, RETRY) == [RETRY]
    assert execution_log.statuses == ["Succeeded"]
    assert step_attempts(execution_log.executions[0]) == {"Shard0": 1, "Shard3": 1, "Merge": 2}
    assert run.result == run.xcoms["execution_arn"] == execution_log.arns[0]
    assert run.xcoms["run"]["resumes"] == 1
    assert (task.last_record["epoch"], task.last_record["resumes"]) == (task.max_tries, 1)


@pytest.mark.parametrize(
    ("scenario", "arguments", "status"),
    [
        ({}, {}, "Succeeded"),
        (COMPLETED_ONCE, {"on_completed_with_failures": "succeed"}, "CompletedWithFailures"),
        (MERGE_FAILS, {"on_clear": "new", "retry_mode": "resume"}, "Failed"),
    ],
    ids=["Succeeded", "CompletedWithFailures, succeed", "Failed, new"],
)
def test_other_ended_executions_are_replaced(
    scenario: dict[str, Any],
    arguments: dict[str, Any],
    status: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """After an execution that counts as succeeded, and with ``on_clear="new"``, a new one starts."""
    emulator.control.put_scenario(scenario)
    task = make_task(**{"on_clear": "resume", "retries": 0, **arguments})
    task.next_try()
    task.clear()
    emulator.control.put_scenario({})
    emulator.control.clear_calls()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START, STOP, RETRY) == [START]
    assert execution_log.statuses == [status, "Succeeded"]


def test_stopped_execution_is_replaced(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Whoever stopped the execution did not want its rest, so a new one starts."""
    task = make_task(on_clear="resume", retries=0)
    hook = task.operator.hook
    emulated_time.after(100, lambda: hook.stop_pipeline_execution(execution_log.arns[0]))
    assert task.next_try().error
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert tokens(emulator, RETRY) == []
    assert execution_log.statuses == ["Stopped", "Succeeded"]


@pytest.mark.parametrize("scenario", [{}, FAILS_WHILE_STOPPING], ids=["Stopped", "Failed"])
def test_running_execution_is_stopped_and_replaced(
    scenario: dict[str, Any],
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """An execution that still runs is replaced, even if it fails while it is being stopped."""
    task = make_task(on_clear="resume", poll_interval=20)
    clear_almost_at_the_end(task, emulator, emulated_time, scenario)

    run = task.next_try()

    assert run.error is None
    assert tokens(emulator, RETRY) == []
    assert execution_log.statuses == ["Failed" if scenario else "Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1
    assert run.result == execution_log.arns[1]


@pytest.mark.parametrize("crash_after", [0, 10], ids=["at once", "while waiting"])
def test_retry_does_not_resume_an_execution_that_failed_while_it_was_stopped(
    crash_after: int,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """If the try that stops the execution dies, its retry knows that the execution is to be replaced."""
    task = make_task(on_clear="resume", poll_interval=20)
    clear_almost_at_the_end(task, emulator, emulated_time, FAILS_WHILE_STOPPING)
    if crash_after:
        emulated_time.after(crash_after, crash)
    else:
        interceptor.after(STOP, crash)
    assert isinstance(task.next_try().error, CrashError)
    emulator.control.advance(600)
    assert execution_log.statuses == ["Failed"]

    run = task.next_try()

    assert run.error is None
    assert tokens(emulator, RETRY) == []
    assert execution_log.statuses == ["Failed", "Succeeded"]
    assert run.result == execution_log.arns[1]


def test_execution_that_is_not_stopped_is_resumed_if_it_fails(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """With ``stop_on_kill=False``, the task waits for the end of the execution, and resumes it if it failed."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(on_clear="resume", stop_on_kill=False)
    emulated_time.after(100, crash)
    task.next_try()
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START, STOP, RETRY) == [START, RETRY]
    assert execution_log.statuses == ["Succeeded"]


def test_execution_with_unknown_arn_that_failed_is_resumed(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """If the first try crashed before it received the ARN, the cleared task finds the failed execution by its token."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(on_clear="resume", retries=0)
    interceptor.after(START, crash)
    task.next_try()
    emulator.control.advance(7200)
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert len(set(tokens(emulator, START))) == 1
    assert execution_log.statuses == ["Succeeded"]
    assert step_attempts(execution_log.executions[0])["Merge"] == 2


def test_arguments_of_the_start_are_kept_and_the_others_are_logged(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """AWS resumes with the values of the start; the log names the arguments that have other values now."""
    task = make_task(on_clear="resume", retries=0, pipeline_parameters={"Shards": 5}, max_parallel_steps=2)
    fail_and_clear(task, emulator)

    with capture_logs() as logs:
        run = task.next_try(pipeline_parameters={"Shards": 4}, max_parallel_steps=7)

    assert run.error is None
    assert run.xcoms["run"]["parameters"] == {"Shards": "5"}
    (call,) = emulator.control.calls(RETRY)
    assert call["request"]["ParallelismConfiguration"] == {"MaxParallelExecutionSteps": 2}
    assert (
        "AWS resumes with the values of the start. The arguments that have other values now are not used: "
        f"max_parallel_steps, pipeline_parameters['Shards']: execution {execution_log.arns[0]}"
    ) in log_lines(logs, "warning")


def test_arguments_that_are_not_valid_do_not_prevent_the_resume(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """Arguments that are not used need not be valid; without changes, nothing is logged about them."""
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, emulator, MERGE_FAILS_TWICE)
    with capture_logs() as unchanged:
        assert task.next_try().error
    task.clear()

    with capture_logs() as logs:
        run = task.next_try(pipeline_parameters={"Shards": None})

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    (warning,) = [line for line in log_lines(logs, "warning") if "arguments" in line]
    assert "The arguments of this try are not valid, and are not used: " in warning
    assert [line for line in log_lines(unchanged) if "arguments" in line] == []


@pytest.mark.parametrize("code", ["AccessDeniedException", "ValidationException", "ResourceNotFound"])
def test_refused_resume_starts_a_new_execution(
    code: str, make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """If AWS refuses the resume, the cleared task starts a new execution with its own arguments."""
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, emulator)
    emulator.control.add_fault("error", RETRY, code=code, message="not again")
    emulator.control.put_scenario({})

    with capture_logs() as logs:
        run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert execution_log.statuses == ["Failed", "Succeeded"]
    assert (run.xcoms["run"]["parameters"], run.xcoms["run"]["resumes"]) == ({"Shards": "3"}, 0)
    warnings = "\n".join(log_lines(logs, "warning"))
    assert f"cannot be resumed: RetryPipelineExecution failed: {code}: not again" in warnings
    assert "A new execution, which repeats every step, is started in place of execution " in warnings
