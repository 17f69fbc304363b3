"""
``on_kill`` on a worker: Airflow calls it in a signal handler, at any moment of the try.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.exceptions import (
    PipelineExecutionCancelledError,
    PipelineExecutionCancelledFailError,
    PolysyncError,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.harness import (
    NEVER_ENDS,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    tokens,
)


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


@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_during_the_start(
    moment: str,
    deferrable: bool,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The ARN is not known yet: the request is resent with the same token, and the
    execution is stopped.
    """
    task = Task(deferrable)
    (interceptor.before if moment == "before" else interceptor.after)(START, kill(task))

    run = task.next_try()
    let_stop_take_effect(emulator)

    assert str(run.error) == ended(1)
    assert run.trigger is None
    assert execution_log.statuses == ["Stopped"]
    assert len(set(tokens(emulator, START))) == len(set(tokens(emulator, STOP))) == 1


def test_kill_before_the_start(
    deferrable: bool,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A try that is killed before its start sends nothing, and the next try starts
    normally.
    """
    task = Task(deferrable)
    task.prepare_try().on_kill()

    run = task.run_prepared_try()

    assert isinstance(run.error, PolysyncError)
    assert not run.error.permanent
    assert calls(emulator) == []
    assert task.next_try().error is None
    assert execution_log.statuses == ["Succeeded"]


def test_kill_while_the_request_is_stored(
    deferrable: bool,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """A try that is killed while its request is stored does not send the request."""
    task = Task(deferrable)
    task.prepare_try()
    store_set = task.store.set

    def set_and_kill(key: str, value: Any) -> None:
        store_set(key, value)
        task.kill()

    task.store.set = set_and_kill  # type: ignore[method-assign]

    task.run_prepared_try()

    assert execution_log.arns == []
    task.store.set = store_set  # type: ignore[method-assign]
    assert task.next_try().error is None
    assert execution_log.statuses == ["Succeeded"]


def test_kill_during_the_wait(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    An execution that a kill has stopped is no cancellation, after which no retry would
    follow.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    task = Task()
    task.prepare_try()
    emulated_time.after(300, task.kill)

    run = task.run_prepared_try()

    assert type(run.error) is PipelineExecutionCancelledError
    assert run.xcoms["state"] == "Cancelled"
    assert execution_log.statuses == ["Stopped"]


def test_kill_between_the_start_and_the_wait(
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The killed try does not begin to wait: it does not defer, and its execution is
    stopped.
    """
    task = Task(deferrable=True)
    interceptor.before("DescribePipelineDefinitionForExecution", kill(task))

    run = task.next_try()
    let_stop_take_effect(emulator)

    assert (str(run.error), run.trigger) == ("The task was killed.", None)
    assert execution_log.statuses == ["Stopped"]


def test_kill_while_the_start_hangs(
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The kill uses a connection of its own and does not wait for the start request that
    hangs.
    """
    emulator.control.add_fault("latency", START, delay=1.2, count=1)
    task = Task()
    task.prepare_try()
    stopped: list[list[str]] = []

    def kill_now() -> None:
        task.kill()
        stopped.append(calls(emulator, START, STOP))

    killer = threading.Timer(0.1, kill_now)
    interceptor.before(START, lambda _: killer.start())

    run = task.run_prepared_try()
    killer.join()
    let_stop_take_effect(emulator)

    assert str(run.error) == ended(1)
    assert stopped == [[START, STOP]], (
        "the kill has a response to its own start while the task's start still hangs"
    )
    assert execution_log.statuses == ["Stopped"]
    assert len(set(tokens(emulator, START))) == 1


def test_kill_without_permission_to_stop(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    If the stop is refused, the worker does not hang, and the task ends with the
    execution.
    """
    emulator.control.add_fault(
        "error", STOP, code="AccessDeniedException", message="not you"
    )
    task = Task()
    task.prepare_try()
    emulated_time.after(200, task.kill)

    assert task.run_prepared_try().error is None
    assert execution_log.statuses == ["Succeeded"]


def test_cancellation_after_a_refused_stop_is_that_of_somebody_else(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The killed process waits until Airflow ends it. It must not take the stop for its
    own.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    emulator.control.add_fault(
        "error", STOP, code="AccessDeniedException", message="not you", count=1
    )
    task = Task()
    task.prepare_try()
    emulated_time.after(200, task.kill)
    emulated_time.after(
        300,
        lambda: PolysyncSageMakerHook().stop_pipeline_execution(
            execution_log.arns[0], attempt=0
        ),
    )

    run = task.run_prepared_try()

    assert type(run.error) is PipelineExecutionCancelledFailError
    assert execution_log.statuses == ["Stopped"]


def test_stop_on_kill_false_during_the_wait(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The task waits until Airflow ends the process, and nothing is stopped."""
    task = Task(arguments={"stop_on_kill": False})
    task.prepare_try()
    emulated_time.after(100, task.kill)

    assert task.run_prepared_try().error is None
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded"]
