"""A try that Airflow does not run any longer writes no record, and so sends nothing to AWS."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.harness import START, STOP, ExecutionLog, RequestInterceptor, Task, calls
from tests.tasks import EmulatedTime, Run


@pytest.fixture
def task(emulated_time: EmulatedTime) -> Task:
    """A task that waits on the worker."""
    return Task(deferrable=False)


def test_clear_while_the_start_is_in_flight(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The try does not store the ARN and fails; it has retries, but the user wanted its execution gone."""
    task = make_task()
    interceptor.after(START, lambda _: task.clear_while_running())

    task.next_try()
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]


@pytest.mark.parametrize("later_try_fails", [False, True])
def test_process_that_comes_back_before_its_first_write_starts_nothing(
    later_try_fails: bool,
    task: Task,
    interceptor: RequestInterceptor,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
) -> None:
    """A later try has an execution, or the task has ended: no record is overwritten, and no start is sent."""
    task.arguments = {"validate_parameters": True}
    later: list[Run] = []

    def freeze(_: Any) -> None:
        task.lose_heartbeat()
        later.append(task.next_try(max_parallel_steps=0 if later_try_fails else 1))
        task.state = "failed" if later_try_fails else task.state

    interceptor.before("DescribePipeline", freeze)

    late = task.next_try()

    assert bool(later[0].error) is later_try_fails
    assert "so it ends" in str(late.error)
    assert execution_log.statuses == ([] if later_try_fails else ["Succeeded"])
    assert calls(emulator, STOP) == []


def test_process_that_comes_back_deletes_no_record_of_a_later_try(
    task: Task, interceptor: RequestInterceptor, emulator: EmulatorServer, execution_log: ExecutionLog
) -> None:
    """AWS refuses the start of a frozen process, whose record another try has replaced."""
    emulator.control.add_fault("error", START, code="ValidationException", message="no such thing", count=1)
    later: list[Run] = []

    def freeze(_: Any) -> None:
        task.lose_heartbeat()
        later.append(task.next_try())

    interceptor.after(START, freeze)

    task.next_try()

    assert later[0].error is None
    assert task.last_record["execution_arn"] == later[0].result
