"""
A process that was cut off from Airflow, and comes back when a later try has its
execution or the user has cleared.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.lifecycle.instructions import NO_EPOCH
from polysync_airflow.operators import try_runner
from tests.conftest import IN_BOTH_MODES
from tests.tasks import EmulatedTime, Run
from tests.unit.operators.recovery.harness import Task, run_failure_callbacks
from tests.unit.sensors.sessions import stop_execution
from tests.world import NEVER_ENDS, STOP, World


@pytest.fixture
def task(emulated_time: EmulatedTime) -> Task:
    """A task that waits on the worker; Airflow answers requests for its state."""
    return Task(deferrable=False)


def test_clear_of_the_running_task_ends_its_epoch(task: Task, world: World) -> None:
    """The next try does not take itself for a retry, though Airflow counts it as one."""
    task.arguments = {"stop_on_kill": False}
    task.prepare_try()
    world.time.after(200, task.kill_by_clear)

    task.run_prepared_try()

    assert task.record["epoch"] == NO_EPOCH


def test_last_try_without_an_answer_is_left_to_its_own_failure_callback(
    task: Task, world: World
) -> None:
    """
    A write that fails is no proof of a later try: the failure callback in the same
    process decides again.
    """
    world.control.put_scenario(NEVER_ENDS)
    task.arguments, task.max_tries = {"timeout": 3600}, 0
    world.time.after(100, lambda: task.ti.cut_off(500))
    run = task.next_try()
    assert "Airflow does not say whether a later try has it" in str(run.error)
    assert world.calls(STOP) == []

    run_failure_callbacks(run.operator, run.ti)
    world.control.advance(60)

    assert world.log.statuses == ["Stopped"]


@pytest.mark.parametrize("is_shutdown", [False, True])
def test_signal_while_the_main_thread_holds_the_channel_to_airflow(
    is_shutdown: bool, task: Task, world: World
) -> None:
    """
    The handler does not wait for an answer that cannot come; the interrupted code asks
    again. It stops the execution of a task that was ended, and leaves that of a worker
    that shuts down.
    """
    world.patch.setattr(try_runner, "OWNER_TIMEOUT_SECONDS", 0.1)
    channel = threading.Lock()
    task.prepare_try()
    end = task.shut_down_worker if is_shutdown else task.kill
    store_set, ended = task.store.set, list[bool]()

    def set_with_channel(key: str, value: Any) -> None:
        with channel:
            store_set(key, value)
            if value.get("execution_arn") and not ended:
                ended.append(True)
                end()
                assert world.calls(STOP) == []

    world.patch.setattr(task.store, "set", set_with_channel)

    run = task.run_prepared_try()
    # The handler's thread goes on when the channel is free. It must not reach into the
    # next test.
    for thread in threading.enumerate():
        if thread.name == try_runner.KILL_THREAD:
            thread.join(10)

    if is_shutdown:
        assert isinstance(run.error, PolysyncError)
        assert task.state == "up_for_retry"
        assert task.next_try().error is None
        assert world.log.statuses == ["Succeeded"]
        return
    world.control.advance(60)
    assert str(run.error) == "The task was killed."
    assert world.log.statuses == ["Stopped"]


@IN_BOTH_MODES
def test_stop_of_a_superseded_try_is_not_a_cancellation(
    deferrable: bool, world: World
) -> None:
    """
    A user clears the running task, and its process is frozen between its decision and
    its request. The stop arrives when the last try has gone on with the execution: that
    try starts a new one, and the task does not fail.
    """
    task = Task(deferrable=False, retries=1)
    later: list[Run] = []
    task.prepare_try()
    world.time.after(100, task.kill_by_clear)

    def freeze(_: Any) -> None:
        world.time.after(100, lambda: stop_execution(world.log.arns[0]))
        task.deferrable = deferrable
        later.append(task.next_try())

    world.requests.before(STOP, freeze)

    task.run_prepared_try()

    (run,) = later
    assert (run.error, task.state) == (None, "success")
    assert world.log.statuses == ["Stopped", "Succeeded"]
    assert run.result == world.log.arns[1]
    assert world.log.max_concurrent == 1
