"""
``on_clear="resume"``: a cleared task continues a failed execution from its failed
steps.
"""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS_ONCE,
    MERGE_FAILS_TWICE,
    RETRY,
    START,
    STOP,
    ExecutionLog,
    Task,
    calls,
    step_attempts,
)
from tests.unit.operators.recovery.test_resuming import log_lines

COMPLETED_ONCE = {"end_as": "CompletedWithFailures", **MERGE_FAILS_ONCE}


def fail_and_clear(
    task: Task, emulator: EmulatorServer, scenario: dict[str, Any] = MERGE_FAILS_ONCE
) -> None:
    """
    Let the execution of the only try fail, and clear the task after its cause was
    mended.
    """
    emulator.control.put_scenario(scenario)
    assert "AlgorithmError" in str(task.next_try().error)
    task.clear()
    emulator.control.clear_calls()


@pytest.mark.parametrize("retry_mode", ["new", "resume"])
@pytest.mark.parametrize(
    "scenario", [MERGE_FAILS_ONCE, COMPLETED_ONCE], ids=["Failed", "Completed"]
)
def test_cleared_task_repeats_only_the_failed_step(
    scenario: dict[str, Any],
    retry_mode: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    The execution goes on from its failed step, in the epoch of the clear, whatever
    ``retry_mode`` says.
    """
    task = make_task(on_clear="resume", retry_mode=retry_mode, retries=0)
    fail_and_clear(task, emulator, scenario)
    emulator.control.put_scenario(MERGE_FAILS_ONCE)

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START, STOP, RETRY) == [RETRY]
    assert execution_log.statuses == ["Succeeded"]
    assert step_attempts(execution_log.executions[0]) == {
        "Shard0": 1,
        "Shard3": 1,
        "Merge": 2,
    }
    assert run.result == run.xcoms["execution_arn"] == execution_log.arns[0]
    assert run.xcoms["run"]["resumes"] == 1
    assert (task.last_record["epoch"], task.last_record["resumes"]) == (
        task.max_tries,
        1,
    )


def test_arguments_of_the_start_are_kept_and_the_others_are_logged(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    AWS resumes with the values of the start; the log names the arguments that have
    other values now.
    """
    task = make_task(
        on_clear="resume",
        retries=0,
        pipeline_parameters={"Shards": 5},
        max_parallel_steps=2,
    )
    fail_and_clear(task, emulator)

    with capture_logs() as logs:
        run = task.next_try(pipeline_parameters={"Shards": 4}, max_parallel_steps=7)

    assert run.error is None
    assert run.xcoms["run"]["parameters"] == {"Shards": "5"}
    (call,) = emulator.control.calls(RETRY)
    assert call["request"]["ParallelismConfiguration"] == {
        "MaxParallelExecutionSteps": 2
    }
    assert (
        "AWS resumes with the values of the start. The arguments that have other values now are not used: "
        f"max_parallel_steps, pipeline_parameters['Shards']: execution {execution_log.arns[0]}"
    ) in log_lines(logs, "warning")


def test_arguments_that_are_not_valid_do_not_prevent_the_resume(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    Arguments that are not used need not be valid; without changes, nothing is logged
    about them.
    """
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
