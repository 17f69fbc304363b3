"""A pipeline that AWS manages: killed at each call, the task has one execution, which is followed or stopped."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.managed_pipelines import FAILS_ONCE, MANAGED, NEEDS_ROLE, NEVER_ENDS, ROLE, START_MANAGED
from tests.operators.recovery.conftest import MakeSupervisor, MakeTask
from tests.operators.recovery.fake_triggerer import call_on_kill, make_trigger
from tests.operators.recovery.harness import (
    DESCRIBE,
    LIST_STEPS,
    START,
    STOP,
    CrashError,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    crash,
    tokens,
)
from tests.operators.recovery.kills.test_failure_callback import run_failure_callbacks
from tests.operators.recovery.test_crashes import CRASH_POINTS, RESUME_CRASH_POINTS, CrashPoint
from tests.tasks import EmulatedTime

pytestmark = NEEDS_ROLE

LIST, DEFINITION = "ListPipelineExecutions", "DescribePipelineDefinitionForExecution"


@IN_BOTH_MODES
@pytest.mark.parametrize("crash_point", CRASH_POINTS, ids=lambda crash_point: crash_point.name)
def test_crash_at_any_point_leaves_one_execution(
    crash_point: CrashPoint,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The next try finds it by the ARN of the pipeline, although its own ARN has the account, and follows it."""
    emulator.control.put_scenario({"steps": {"Evaluate": {"duration": 450}}})
    task = make_task(**START_MANAGED, poll_interval=3600 if "ended" in crash_point.name else 60)
    crash_point.stage(task, interceptor, emulated_time)
    assert isinstance(task.next_try().error, CrashError)

    run = task.next_try()

    assert run.error is None
    requests = [call["request"] for call in emulator.control.calls(START)]
    assert requests == crash_point.starts * [requests[0]]
    assert (requests[0]["PipelineName"], requests[0]["RoleArn"]) == (MANAGED, ROLE)
    listed = [call["request"]["PipelineName"] for call in emulator.control.calls(LIST)]
    assert set(listed) <= {MANAGED}
    assert execution_log.statuses == ["Succeeded"]
    (arn,) = execution_log.arns
    assert run.result == run.xcoms["execution_arn"] == arn
    assert (run.xcoms["run"]["pipeline_name"], run.xcoms["run"]["state"]) == (MANAGED, "Success")
    assert run.xcoms["console_url"].endswith(f"#/pipelines/model-eval/executions/{arn}")


@IN_BOTH_MODES
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("operation", [START, DEFINITION, DESCRIBE, LIST_STEPS])
def test_kill_at_each_call_stops_the_execution(
    operation: str,
    moment: str,
    deferrable: bool,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    make_supervisor: MakeSupervisor,
) -> None:
    """A user ends the task: the worker, or the triggerer if the task is deferred then, stops its one execution."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = Task(deferrable, {**START_MANAGED, "progress_interval": 60, "timeout": 7200})
    is_deferred = deferrable and operation in (DESCRIBE, LIST_STEPS)

    def kill(_: Any) -> None:
        if is_deferred:
            crash()
        task.kill()

    getattr(interceptor, moment)(operation, kill)

    task.next_try()
    if is_deferred:
        make_supervisor("failed")
        call_on_kill(make_trigger(execution_log.arns[0], pipeline_name=MANAGED))
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]
    assert len(set(tokens(emulator, START))) == len(set(tokens(emulator, STOP))) == 1


def test_last_try_that_crashed_before_it_knew_the_arn_is_stopped(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """The failure callback finds the execution in the list of the managed pipeline, and starts none."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(**START_MANAGED, retries=0)
    interceptor.after(START, crash)
    run = task.next_try()

    run_failure_callbacks(task.prepare_try(), run.ti)
    emulator.control.advance(60)

    assert calls(emulator, START, LIST, STOP) == [START, LIST, STOP]
    assert execution_log.statuses == ["Stopped"]


@IN_BOTH_MODES
@pytest.mark.parametrize("crash_point", RESUME_CRASH_POINTS, ids=lambda crash_point: crash_point.name)
def test_crash_around_a_resume_leaves_one_execution(
    crash_point: CrashPoint,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The failed execution is resumed once; its role is that of the start."""
    emulator.control.put_scenario(FAILS_ONCE)
    task = make_task(**START_MANAGED, retry_mode="resume")
    task.next_try()
    crash_point.stage(task, interceptor, emulated_time)
    assert isinstance(task.next_try().error, CrashError)

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert len(execution_log.finished_attempts) == 2
