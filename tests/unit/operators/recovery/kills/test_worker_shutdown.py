"""
A worker that shuts down, for example an evicted pod: the task's process gets SIGTERM,
and some time later SIGKILL.

Nobody has ended the task, and Airflow has it as running.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from polysync_airflow.exceptions import PipelineExecutionCancelledError, PolysyncError
from polysync_airflow.operators import try_runner
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, Run
from tests.unit.operators.recovery.harness import (
    DESCRIBE,
    NEVER_ENDS,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    RetryEverything,
    Task,
    calls,
    crash,
)

SHUTTING_DOWN = "The worker is shutting down, so this try ends."


def at_deferral(task: Task, action: Callable[[], Any]) -> None:
    """Let something happen in the next try when the operator has called ``defer``."""
    operator: Any = task.prepare_try()
    defer = operator.defer

    def act_and_defer(**arguments: Any) -> None:
        action()
        defer(**arguments)

    operator.defer = act_and_defer


def run_failure_callbacks(task: Task, run: Run, *, in_process: bool) -> None:
    """Run the failure callbacks, in the task's own process or in the DAG processor."""
    operator: Any = task.operator if in_process else task.prepare_try()
    for callback in operator.on_failure_callback:
        callback({"ti": run.ti, "task": operator, "params": {}})


@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_shutdown_during_the_wait(
    stop_on_kill: bool,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The try ends at once, not after its next poll, and the retry reattaches."""
    task = Task(arguments={"stop_on_kill": stop_on_kill, "poll_interval": 600})
    task.prepare_try()
    start = emulated_time.time()
    emulated_time.after(100, task.shut_down_worker)

    first = task.run_prepared_try()

    assert isinstance(first.error, PolysyncError)
    assert (str(first.error), task.state) == (SHUTTING_DOWN, "up_for_retry")
    assert emulated_time.time() == pytest.approx(start + 100)
    assert task.next_try().error is None
    assert calls(emulator, START, STOP) == [START]
    assert execution_log.statuses == ["Succeeded"]


def test_shutdown_during_a_poll(
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The code that polls is not interrupted; the try ends before it waits again."""
    task = Task(arguments={"poll_interval": 60})
    interceptor.after(DESCRIBE, lambda _: task.shut_down_worker())
    start = emulated_time.time()

    first = task.next_try()

    assert str(first.error) == SHUTTING_DOWN
    assert emulated_time.time() <= start + 60
    assert calls(emulator, DESCRIBE) == [DESCRIBE]
    assert task.next_try().error is None
    assert execution_log.statuses == ["Succeeded"]


@pytest.mark.parametrize("killed", [True, False], ids=["then killed", "not killed"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_shutdown_during_the_start(
    moment: str,
    killed: bool,
    deferrable: bool,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The retry continues with the execution, whether the process still stores the ARN or
    not.
    """
    task = Task(deferrable)

    def shut_down(_: Any) -> None:
        task.shut_down_worker()
        if killed:
            crash()

    (interceptor.before if moment == "before" else interceptor.after)(START, shut_down)

    first = task.next_try()

    assert first.trigger is None
    assert killed or str(first.error) == SHUTTING_DOWN
    assert task.state == "up_for_retry"
    assert task.next_try().error is None
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded"]


def test_shutdown_in_the_moment_of_the_deferral(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The deferral is complete before the grace period ends: the same try goes on with the
    execution.
    """
    task = Task(deferrable=True)
    at_deferral(task, task.shut_down_worker)

    run = task.run_prepared_try()

    assert (run.error, task.state, task.try_number) == (None, "success", 1)
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded"]


def test_task_that_goes_on_after_its_own_stop_uses_its_retries(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    In the moment of the deferral, a process goes on after ``on_kill``. Its own stop is
    no user's cancellation.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    task = Task(deferrable=True, arguments={"on_cancelled": "skip"})

    at_deferral(task, task.kill)
    run = task.run_prepared_try()

    assert execution_log.statuses == ["Stopped"]
    assert type(run.error) is PipelineExecutionCancelledError
    assert run.xcoms["state"] == "Cancelled"


@pytest.mark.parametrize("retries", [0, 2])
def test_shutdown_without_a_retry(
    retries: int,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The task ends for good, so its process stops the execution; the failure callback
    that follows makes no call.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    task = Task(retries=retries)
    for number in range(retries + 1):
        task.prepare_try()
        emulated_time.after(100, task.shut_down_worker)
        run = task.run_prepared_try()
        assert calls(emulator, STOP) == ([STOP] if number == retries else [])
    assert (str(run.error), task.state) == (SHUTTING_DOWN, "failed")
    emulator.control.clear_calls()

    run_failure_callbacks(task, run, in_process=True)
    emulator.control.advance(60)

    assert calls(emulator) == []
    assert execution_log.statuses == ["Stopped"]


def test_execution_timeout_is_no_shutdown(
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    Airflow has the task as running then, too, but calls ``on_kill`` without a signal:
    the execution is stopped.
    """
    emulator.control.put_scenario(NEVER_ENDS)

    def time_out(_: Any) -> None:
        raise AirflowTaskTimeout

    interceptor.after(START, time_out)
    task = Task(arguments={"retry_policy": RetryEverything()})

    task.next_try()
    emulator.control.advance(60)

    assert task.state == "up_for_retry"
    assert execution_log.statuses == ["Stopped"]


def test_shutdown_while_the_main_thread_holds_the_channel_to_airflow(
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The handler gets no answer; the interrupted code goes on to where it asks itself,
    and leaves the execution.
    """
    monkeypatch.setattr(try_runner, "OWNER_TIMEOUT_SECONDS", 0.1)
    channel, task = threading.Lock(), Task()
    task.prepare_try()
    store_set, shut_down = task.store.set, list[bool]()

    def set_with_channel(key: str, value: Any, **options: Any) -> None:
        with channel:
            store_set(key, value, **options)
            if value.get("execution_arn") and not shut_down:
                shut_down.append(True)
                task.shut_down_worker()

    monkeypatch.setattr(task.store, "set", set_with_channel)

    first = task.run_prepared_try()
    for thread in threading.enumerate():
        if thread.name == try_runner.KILL_THREAD:
            thread.join(10)

    assert isinstance(first.error, PolysyncError)
    assert task.state == "up_for_retry"
    assert task.next_try().error is None
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded"]
