"""
``on_clear="resume"``: after a crash at any point there is one resume, in the epoch of
the clear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.execution.texts import format_seconds
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    LIST_STEPS,
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
from tests.unit.operators.recovery.on_clear.test_resuming import fail_and_clear
from tests.unit.operators.recovery.test_resuming import log_lines

THREE_DAYS = 3 * 24 * 3600.0


def after_writes(
    number: int,
) -> Callable[[Task, RequestInterceptor, EmulatedTime], None]:
    """Crash right after the n-th write to the record store."""

    def stage(task: Task, _: RequestInterceptor, __: EmulatedTime) -> None:
        store_set, left = task.store.set, [number]

        def crashing_set(key: str, value: Any) -> None:
            store_set(key, value)
            left[0] -= 1
            if left[0] == 0:
                crash()

        task.store.set = crashing_set  # type: ignore[method-assign]

    return stage


def test_token_and_epoch_are_stored_before_the_request(
    make_task: MakeTask, interceptor: RequestInterceptor, emulator: EmulatorServer
) -> None:
    """
    When the request leaves, the record of the new epoch has its token; the start
    request is unchanged.
    """
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, emulator)
    request, old_epoch, saved = (
        task.last_record["request"],
        task.last_record["epoch"],
        [],
    )
    interceptor.before(RETRY, lambda body: saved.append((body, task.last_record)))

    task.next_try(pipeline_parameters={"Shards": 4})

    ((body, record),) = saved
    assert body["ClientRequestToken"] == record["resume_token"]
    assert (record["epoch"], record["resumes"], record.get("resumed_at")) == (
        task.max_tries,
        1,
        None,
    )
    assert record["epoch"] != old_epoch
    assert record["request"] == task.last_record["request"] == request


CRASHES: dict[str, Callable[[Task, RequestInterceptor, EmulatedTime], Any]] = {
    "after the record is taken over": after_writes(1),
    "after the resume is stored": after_writes(2),
    "after the response is stored": after_writes(3),
    "while the steps are listed": lambda _, interceptor, __: interceptor.before(
        LIST_STEPS, crash
    ),
    "before Retry is sent": lambda _, interceptor, __: interceptor.before(RETRY, crash),
    "before the response to Retry is read": lambda _, interceptor, __: (
        interceptor.after(RETRY, crash)
    ),
    "while waiting for the resumed execution": lambda _, __, time: time.after(
        100, crash
    ),
}


@pytest.mark.parametrize(
    ("moment", "retry_mode"),
    [*((each, "new") for each in CRASHES), ("before Retry is sent", "resume")],
)
def test_crash_at_any_point_leaves_one_resume(
    moment: str,
    retry_mode: str,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The retry after the crash completes the same resume: no second one, and no second
    execution.
    """
    task = make_task(on_clear="resume", retry_mode=retry_mode, retries=0)
    fail_and_clear(task, emulator)
    task.max_tries += 1
    CRASHES[moment](task, interceptor, emulated_time)
    assert isinstance(task.next_try().error, CrashError)
    assert task.state == "up_for_retry"

    run = task.next_try()

    assert run.error is None
    assert run.result == execution_log.arns[0]
    assert execution_log.statuses == ["Succeeded"]
    assert calls(emulator, START, STOP) == []
    assert step_attempts(execution_log.executions[0])["Merge"] == 2
    assert set(tokens(emulator, RETRY)) == {task.last_record["resume_token"]}
    assert (task.last_record["epoch"], task.last_record["resumes"]) == (
        task.max_tries,
        1,
    )
    assert run.xcoms["run"]["resumes"] == 1


@IN_BOTH_MODES
def test_seconds_are_those_of_the_resumed_attempt(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    The three days before the clear do not count, neither in the XCom ``run`` nor in the
    message.
    """
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, emulator)
    emulator.control.advance(THREE_DAYS)

    with capture_logs() as logs:
        run = task.next_try()

    (_, failed_at, _), (resumed_at, ended_at, _) = execution_log.finished_attempts
    assert run.error is None
    seconds = run.xcoms["run"]["seconds"]
    assert seconds == pytest.approx(ended_at - resumed_at, abs=1)
    assert 0 < seconds < 3600 < THREE_DAYS <= resumed_at - failed_at
    verdict = (
        f"succeeded {format_seconds(seconds)} after resume 1 (AWS status Succeeded)"
    )
    assert [line for line in log_lines(logs) if verdict in line]
