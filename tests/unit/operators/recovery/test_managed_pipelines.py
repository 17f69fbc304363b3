"""
A pipeline that AWS manages: killed at each call, the task has one execution, which is
followed or stopped.
"""

from __future__ import annotations

import pytest

from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.managed_pipelines import MANAGED, NEEDS_ROLE, NEVER_ENDS, ROLE, START_MANAGED
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    START,
    STOP,
    CrashError,
    ExecutionLog,
    RequestInterceptor,
    calls,
    crash,
)
from tests.unit.operators.recovery.kills.test_failure_callback import (
    run_failure_callbacks,
)
from tests.unit.operators.recovery.test_crashes import CRASH_POINTS, CrashPoint

pytestmark = NEEDS_ROLE

LIST = "ListPipelineExecutions"


@IN_BOTH_MODES
@pytest.mark.parametrize(
    "crash_point",
    [CRASH_POINTS[2], CRASH_POINTS[-2]],
    ids=lambda crash_point: crash_point.name,
)
def test_crash_at_any_point_leaves_one_execution(
    crash_point: CrashPoint,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The next try finds it by the ARN of the pipeline, although its own ARN has the
    account, and follows it.
    """
    emulator.control.put_scenario({"steps": {"Evaluate": {"duration": 450}}})
    task = make_task(
        **START_MANAGED, poll_interval=3600 if "ended" in crash_point.name else 60
    )
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
    assert (run.xcoms["run"]["pipeline_name"], run.xcoms["run"]["state"]) == (
        MANAGED,
        "Success",
    )
    assert run.xcoms["console_url"].endswith(f"#/pipelines/model-eval/executions/{arn}")


def test_last_try_that_crashed_before_it_knew_the_arn_is_stopped(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    The failure callback finds the execution in the list of the managed pipeline, and
    starts none.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(**START_MANAGED, retries=0)
    interceptor.after(START, crash)
    run = task.next_try()

    run_failure_callbacks(task.prepare_try(), run.ti)
    emulator.control.advance(60)

    assert calls(emulator, START, LIST, STOP) == [START, LIST, STOP]
    assert execution_log.statuses == ["Stopped"]
