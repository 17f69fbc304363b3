"""
A process that was cut off from Airflow, and comes back when a later try has its
execution or the user has cleared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import try_runner
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.tasks import EmulatedTime, Run
from tests.unit.operators.recovery.harness import (
    NEVER_ENDS,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    crash,
)


@pytest.fixture
def task(emulated_time: EmulatedTime) -> Task:
    """A task that waits on the worker; Airflow answers requests for its state."""
    return Task(deferrable=False)


def go_on_in_a_later_try(task: Task, runs: list[Run]) -> Callable[..., None]:
    """
    Return an action: the process is frozen, a later try runs to its end, and the
    process comes back.
    """

    def run_later_try(*_: Any) -> None:
        task.lose_heartbeat()
        runs.append(task.next_try())

    return run_later_try


def stop_now(arn: str) -> None:
    """Let a stop request arrive that another process sent."""
    PolysyncSageMakerHook().stop_pipeline_execution(arn, attempt=0)


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_cut_off_while_the_start_is_in_flight(
    deferrable: bool,
    moment: str,
    killed: bool,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A later try gets the execution by the stored token; the first process stops it
    neither when it is killed nor when it fails to store the ARN.
    """
    task, runs = Task(deferrable), list[Run]()
    first = task.prepare_try()
    later_try = go_on_in_a_later_try(task, runs)

    def come_back(*_: Any) -> None:
        later_try()
        if killed:
            first.on_kill()

    (interceptor.before if moment == "before" else interceptor.after)(START, come_back)

    late = task.run_prepared_try()

    assert late.error is not None
    assert (runs[0].error, task.state) == (None, "success")
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded"]


@pytest.mark.parametrize("state", ["restarting", "failed", None])
def test_clear_of_the_running_task(
    state: str | None,
    task: Task,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    Airflow gives a cleared task a new id at once: the killed process stops its
    execution all the same, since no try may follow if the DAG run is failed too.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    task.prepare_try()

    def clear_and_kill() -> None:
        task.clear_while_running()
        task.state = state or task.state
        task.operator.on_kill()

    emulated_time.after(200, clear_and_kill)

    task.run_prepared_try()

    assert execution_log.statuses == ["Stopped"]
    emulator.control.put_scenario({})
    run = task.next_try()
    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1


def test_deletion_of_the_dag_run(
    task: Task,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    Airflow deletes task instance, XComs and record: no other process can stop the
    execution.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    task.prepare_try()

    def delete_and_kill() -> None:
        task.delete()
        task.operator.on_kill()

    emulated_time.after(200, delete_and_kill)

    task.run_prepared_try()

    assert execution_log.statuses == ["Stopped"]


@pytest.mark.parametrize("status_code", [401, 403, 500])
def test_kill_after_the_token_has_expired(
    status_code: int,
    task: Task,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    If Airflow does not answer, the execution is left to the try that can know: the next
    one.
    """

    def expire_and_kill() -> None:
        task.ti.cut_off(status_code)
        task.operator.on_kill()

    emulated_time.after(100, expire_and_kill)
    emulated_time.after(200, crash)
    task.next_try()
    assert calls(emulator, STOP) == []

    assert task.next_try().error is None

    assert execution_log.statuses == ["Succeeded"]


def test_last_try_without_an_answer_is_left_to_its_own_failure_callback(
    task: Task,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A write that fails is no proof of a later try: the failure callback in the same
    process decides again.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    task.arguments, task.max_tries = {"timeout": 3600}, 0
    emulated_time.after(100, lambda: task.ti.cut_off(500))
    run = task.next_try()
    assert "Airflow does not say whether a later try has it" in str(run.error)
    assert calls(emulator, STOP) == []

    for callback in run.operator.on_failure_callback:
        callback({"ti": run.ti, "task": run.operator, "params": {}})
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]


def test_kill_while_the_main_thread_holds_the_channel_to_airflow(
    task: Task,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The handler does not wait for an answer that cannot come; the interrupted code asks
    again and stops.
    """
    monkeypatch.setattr(try_runner, "OWNER_TIMEOUT_SECONDS", 0.1)
    channel = threading.Lock()
    task.prepare_try()
    store_set, killed = task.store.set, list[bool]()

    def set_with_channel(key: str, value: Any) -> None:
        with channel:
            store_set(key, value)
            if value.get("execution_arn") and not killed:
                killed.append(True)
                task.kill()
                assert calls(emulator, STOP) == []

    monkeypatch.setattr(task.store, "set", set_with_channel)

    run = task.run_prepared_try()
    # The handler's thread goes on when the channel is free. It must not reach into the
    # next test.
    for thread in threading.enumerate():
        if thread.name == try_runner.KILL_THREAD:
            thread.join(10)
    emulator.control.advance(60)

    assert str(run.error) == "The task was killed."
    assert execution_log.statuses == ["Stopped"]


@IN_BOTH_MODES
def test_stop_of_a_superseded_try_is_not_a_cancellation(
    deferrable: bool,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A user clears the running task, and its process is frozen between its decision and
    its request. The stop arrives when the last try has gone on with the execution: that
    try starts a new one, and the task does not fail.
    """
    task = Task(deferrable=False, retries=1)
    later: list[Run] = []
    task.prepare_try()
    emulated_time.after(100, task.kill_by_clear)

    def freeze(_: Any) -> None:
        emulated_time.after(100, lambda: stop_now(execution_log.arns[0]))
        task.deferrable = deferrable
        later.append(task.next_try())

    interceptor.before(STOP, freeze)

    task.run_prepared_try()

    (run,) = later
    assert (run.error, task.state) == (None, "success")
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert run.result == execution_log.arns[1]
    assert execution_log.max_concurrent == 1
