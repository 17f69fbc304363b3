"""
Crashes: after the process has crashed at any point, the next try continues with the
same execution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.fakes.json_store import JsonStore
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    LIST_STEPS,
    MERGE_FAILS_ONCE,
    RETRY,
    START,
    CrashError,
    ExecutionLog,
    RequestInterceptor,
    Task,
    crash,
    step_attempts,
    tokens,
)


@dataclass
class CrashPoint:
    """
    A point at which the process crashes.

    :param stage: sets up the crash.
    :param starts: the number of StartPipelineExecution calls of both tries together.
    """

    name: str
    stage: Callable[[Task, RequestInterceptor, EmulatedTime], Any]
    starts: int


class CrashingStore(JsonStore):
    """A task state store with which the process crashes after a number of writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.remaining_writes = writes

    def set(self, key: str, value: Any) -> None:
        """Store a value, and crash after the last write."""
        super().set(key, value)
        self.remaining_writes -= 1
        if self.remaining_writes == 0:
            crash()


def after_store_write(
    number: int,
) -> Callable[[Task, RequestInterceptor, EmulatedTime], None]:
    """Crash right after a write to the store."""

    def stage(task: Task, _: RequestInterceptor, __: EmulatedTime) -> None:
        task.store = CrashingStore(number)

    return stage


CRASH_POINTS = [
    CrashPoint("after the request is stored", after_store_write(1), 1),
    CrashPoint(
        "before Start is sent",
        lambda _, interceptor, __: interceptor.before(START, crash),
        1,
    ),
    CrashPoint(
        "before the response to Start is read",
        lambda _, interceptor, __: interceptor.after(START, crash),
        1,
    ),
    CrashPoint("after the ARN is stored", after_store_write(2), 1),
    CrashPoint("before the first poll", lambda _, __, time: time.after(0, crash), 1),
    CrashPoint("while waiting", lambda _, __, time: time.after(300, crash), 1),
    CrashPoint(
        "after the execution has ended", lambda _, __, time: time.after(600, crash), 1
    ),
]


@IN_BOTH_MODES
@pytest.mark.parametrize(
    "crash_point", CRASH_POINTS, ids=lambda crash_point: crash_point.name
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
    The next try gets the same execution, sends the same request if AWS has none, and
    pushes its XComs.

    Its templates render to other values, as those that use the current time do. These
    values are not used.
    """
    task = make_task(
        poll_interval=3600
        if crash_point.name == "after the execution has ended"
        else 60
    )
    crash_point.stage(task, interceptor, emulated_time)
    first = task.next_try(
        pipeline_parameters={"Shards": 4}, execution_display_name="first"
    )
    assert isinstance(first.error, CrashError)
    assert task.state == "up_for_retry"

    second = task.next_try(
        pipeline_parameters={"Shards": 5}, execution_display_name="second"
    )

    assert second.error is None
    requests = [call["request"] for call in emulator.control.calls(START)]
    assert len(requests) == crash_point.starts
    assert requests == crash_point.starts * [requests[0]]
    assert requests[0]["PipelineExecutionDisplayName"] == "first"
    assert requests[0]["PipelineParameters"] == [{"Name": "Shards", "Value": "4"}]
    assert execution_log.statuses == ["Succeeded"]
    assert second.result == second.xcoms["execution_arn"] == execution_log.arns[0]
    assert second.xcoms["state"] == "Success"
    assert second.xcoms["run"]["parameters"] == {"Shards": "4"}


def test_xcoms_name_the_pipeline_that_was_started(
    make_task: MakeTask, interceptor: RequestInterceptor, execution_log: ExecutionLog
) -> None:
    """
    If the pipeline's name changes between two tries, the XComs name the pipeline that
    was started.
    """
    task = make_task()
    interceptor.after(START, crash)
    task.next_try(pipeline_name="fanout")

    run = task.next_try(
        pipeline_name="churn-tuning", pipeline_parameters={"InputData": "s3://b/k"}
    )

    assert run.error is None
    assert len(execution_log.arns) == 1
    assert run.xcoms["run"]["pipeline_name"] == "fanout"
    assert "#/pipelines/fanout/executions/" in run.xcoms["console_url"]


RESUME_CRASH_POINTS = [
    CrashPoint(
        "before Retry is sent",
        lambda _, interceptor, __: interceptor.before(RETRY, crash),
        1,
    ),
    CrashPoint(
        "before the response to Retry is read",
        lambda _, interceptor, __: interceptor.after(RETRY, crash),
        1,
    ),
    CrashPoint(
        "while the steps are listed",
        lambda _, interceptor, __: interceptor.before(LIST_STEPS, crash),
        1,
    ),
    CrashPoint(
        "while waiting for the resumed execution",
        lambda _, __, time: time.after(100, crash),
        1,
    ),
]


@pytest.mark.parametrize(
    "crash_point", RESUME_CRASH_POINTS, ids=lambda crash_point: crash_point.name
)
def test_crash_around_a_resume_leaves_one_resume(
    crash_point: CrashPoint,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """A crash around a resume causes neither a second resume nor a second execution."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    task.next_try()
    crash_point.stage(task, interceptor, emulated_time)
    assert isinstance(task.next_try().error, CrashError)
    record = task.last_record

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert run.result == execution_log.arns[0]
    assert step_attempts(execution_log.executions[0])["Merge"] == 2
    assert set(tokens(emulator, RETRY)) == {record["resume_token"]}
    assert task.last_record["resumes"] == record["resumes"] == 1
    assert len(execution_log.finished_attempts) == 2
