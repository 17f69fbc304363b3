"""
``on_kill`` on a worker: Airflow calls it in a signal handler, at any moment of the try;
and what becomes of an execution after it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.exceptions import (
    CredentialsError,
    PipelineExecutionCancelledFailError,
    PolysyncError,
)
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import Task
from tests.unit.sensors.sessions import stop_execution
from tests.world import NEVER_ENDS, START, STOP, World


def ended(try_number: int) -> str:
    """
    Return the error of a try that a user has ended, and that then stores something.
    """
    return f"Airflow does not run try {try_number} of this task any longer, so it ends."


def kill(task: Task) -> Callable[[Any], None]:
    """Return an action by which a user ends the current try."""
    return lambda _: task.kill()


def let_stop_take_effect(emulator: EmulatorServer) -> None:
    """Advance the clock until a stop has taken effect."""
    emulator.control.advance(60)


def test_kill_before_the_start_sends_nothing(deferrable: bool, world: World) -> None:
    """
    A try that is killed before its start sends nothing, and the next try starts
    normally.
    """
    task = Task(deferrable)
    task.prepare_try().on_kill()

    run = task.run_prepared_try()

    assert isinstance(run.error, PolysyncError)
    assert not run.error.permanent
    assert world.calls() == []
    assert task.next_try().error is None
    assert world.log.statuses == ["Succeeded"]


def test_kill_between_the_start_and_the_wait(world: World) -> None:
    """
    The killed try does not begin to wait: it does not defer, and its execution is
    stopped.
    """
    task = Task(deferrable=True)
    world.requests.before("DescribePipelineDefinitionForExecution", kill(task))

    run = task.next_try()
    let_stop_take_effect(world.emulator)

    assert (str(run.error), run.trigger) == ("The task was killed.", None)
    assert world.log.statuses == ["Stopped"]


def test_kill_while_the_start_hangs(world: World) -> None:
    """
    The kill uses a connection of its own and does not wait for the start request that
    hangs.
    """
    world.control.add_fault("latency", START, delay=1.2, count=1)
    task = Task()
    task.prepare_try()
    stopped: list[list[str]] = []

    def kill_now() -> None:
        task.kill()
        stopped.append(world.calls(START, STOP))

    killer = threading.Timer(0.1, kill_now)
    world.requests.before(START, lambda _: killer.start())

    run = task.run_prepared_try()
    killer.join()
    let_stop_take_effect(world.emulator)

    assert str(run.error) == ended(1)
    assert stopped == [[START, STOP]], (
        "the kill has a response to its own start while the task's start still hangs"
    )
    assert world.log.statuses == ["Stopped"]
    assert len(set(world.tokens(START))) == 1


def test_cancellation_after_a_refused_stop_is_that_of_somebody_else(
    world: World,
) -> None:
    """
    The killed process waits until Airflow ends it. It must not take the stop for its
    own.
    """
    world.control.put_scenario(NEVER_ENDS)
    world.deny(STOP, count=1)
    task = Task()
    task.prepare_try()
    world.time.after(200, task.kill)
    world.time.after(300, lambda: stop_execution(world.log.arns[0]))

    run = task.run_prepared_try()

    assert type(run.error) is PipelineExecutionCancelledFailError


VARIABLE = "AIRFLOW_CONN_POLYSYNC_DEFAULT"


@pytest.fixture
def lose_connection(
    monkeypatch: pytest.MonkeyPatch, emulated_time: EmulatedTime
) -> str:
    """Delete the connection after 100 s; return its value."""
    value = os.environ[VARIABLE]
    emulated_time.after(100, lambda: monkeypatch.delenv(VARIABLE))
    return value


@IN_BOTH_MODES
def test_retry_continues_after_a_minute_without_the_connection(
    make_task: MakeTask, deferrable: bool, lose_connection: str, world: World
) -> None:
    """
    A deferred task fails with retries left, and its retry waits for the same execution.
    A worker reads no more.
    """
    task = make_task(retries=2)

    first = task.next_try()

    if not deferrable:
        assert (first.error, task.state) == (None, "success")
        return
    assert isinstance(first.error, CredentialsError)
    assert not first.error.permanent
    assert task.state == "up_for_retry"
    assert "Airflow runs the task again, which continues with the execution." in str(
        first.error
    )
    assert "Next: Airflow retries the task in 5 min." in str(first.error)
    second = task.next_try()
    assert "there is no such connection" in str(second.error)
    assert task.state == "up_for_retry"
    world.patch.setenv(VARIABLE, lose_connection)
    assert task.next_try().error is None
    assert world.calls(STOP) == []
    assert world.log.statuses == ["Succeeded"]
