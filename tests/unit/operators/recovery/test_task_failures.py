"""
Task failures: the execution keeps running if a next try can reattach to it; otherwise
it is stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from polysync_airflow.airflow_compat.sdk import RetryDecision, RetryPolicy
from polysync_airflow.exceptions import PipelineExecutionTimeoutError
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.tasks import EmulatedTime, TaskInstance
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    NEVER_ENDS,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    crash,
    tokens,
)

FailPush = Callable[[BaseException], None]


@pytest.fixture
def fail_first_push(monkeypatch: pytest.MonkeyPatch) -> FailPush:
    """Let the first try fail when it pushes the XCom ``execution_arn``."""
    push = TaskInstance.xcom_push

    def fail_with(error: BaseException) -> None:
        def failing_push(self: TaskInstance, key: str, value: Any) -> None:
            if self.try_number == 1 and key == "execution_arn":
                raise error
            push(self, key, value)

        monkeypatch.setattr(TaskInstance, "xcom_push", failing_push)

    return fail_with


class FixedPolicy(RetryPolicy):
    """A retry policy of the DAG's author."""

    def __init__(self, decide: Callable[[], RetryDecision]) -> None:
        self.decide = decide

    def evaluate(self, *_: Any, **__: Any) -> RetryDecision:
        """Return the decision."""
        return self.decide()


def raise_in_policy() -> RetryDecision:
    """Raise an error, as a policy with a bug does."""
    raise LookupError("a bug in the policy")


@IN_BOTH_MODES
@pytest.mark.parametrize(
    ("error", "retries", "policy"),
    [
        (ConnectionError("no API server"), 0, None),
        (AirflowFailException("no retries, please"), 2, None),
        (ConnectionError("no API server"), 2, FixedPolicy(RetryDecision.fail)),
    ],
    ids=["no retries left", "AirflowFailException", "retry_policy decides FAIL"],
)
def test_final_error_stops_the_execution(
    error: Exception,
    retries: int,
    policy: RetryPolicy | None,
    make_task: MakeTask,
    fail_first_push: FailPush,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If no try follows, an error stops the execution, and the task fails with that error.
    """
    fail_first_push(error)
    task = make_task(retries=retries, retry_policy=policy)

    run = task.next_try()
    emulator.control.advance(60)

    assert task.state == "failed"
    assert run.error is error
    assert execution_log.statuses == ["Stopped"]
    assert len(tokens(emulator, STOP)) == 1


def test_retry_policy_that_raises_keeps_the_execution(
    make_task: MakeTask, fail_first_push: FailPush, execution_log: ExecutionLog
) -> None:
    """
    Airflow retries if the policy raises, so the execution keeps running; the task's
    error is kept.
    """
    error = ConnectionError("no API server")
    fail_first_push(error)
    task = make_task(retries=1, retry_policy=FixedPolicy(raise_in_policy))

    run = task.next_try()

    assert run.error is error
    assert task.state == "up_for_retry"
    assert execution_log.statuses == ["Executing"]


@IN_BOTH_MODES
@pytest.mark.parametrize(
    "limit", [{"timeout": 3600}, {"execution_timeout": timedelta(hours=1)}], ids=str
)
def test_timeout_stops_the_execution_even_with_retries_left(
    limit: dict[str, Any],
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """After a timeout the execution is stopped, and the next try starts a new one."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(**limit)

    run = task.next_try()
    emulator.control.advance(60)

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert task.state == "up_for_retry"
    assert execution_log.statuses == ["Stopped"]


def test_refused_stop_is_in_the_error(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    If the stop is refused, the error says that the execution may still be running.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    emulator.control.add_fault(
        "error", STOP, code="AccessDeniedException", message="not you"
    )
    task = make_task(timeout=3600)

    run = task.next_try()

    assert "The execution may still be running: its stop failed" in str(run.error)
    assert "sagemaker:StopPipelineExecution" in str(run.error)


@pytest.mark.parametrize("kind", ["throttle", "lost_response"])
def test_stop_is_retried_after_transient_errors(
    kind: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    Throttling, a 503, a dropped connection or a lost response is retried with the same
    token.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    emulator.control.add_fault(kind, STOP, count=6)
    task = make_task(timeout=3600)

    task.next_try()
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]
    assert len(set(tokens(emulator, STOP)) - {""}) <= 1


# ---- executions with an unknown ARN


def try_without_response(task: Task, emulator: EmulatorServer, **arguments: Any) -> Any:
    """
    Run a try whose start gets no response; with a timeout of 10 s it ends after the
    fourth call.
    """
    emulator.control.add_fault("lost_response", START, count=4)
    return task.next_try(timeout=10, **arguments)


def test_unknown_execution_is_stopped_in_its_own_region(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If ``region_name`` renders differently, the resend and the stop still go to the
    execution's region.
    """
    task = make_task(retries=1)
    interceptor.after(START, crash)
    task.next_try()

    try_without_response(task, emulator, region_name="eu-west-1")
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]
    assert {call["region"] for call in emulator.control.calls(START)} == {"us-east-1"}


def test_reattaching_uses_the_region_of_the_execution(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    If ``region_name`` renders differently, all calls still go to the region of the
    known execution.
    """
    task = make_task()
    emulated_time.after(100, crash)
    task.next_try()

    run = task.next_try(region_name="eu-west-1")

    assert run.error is None
    assert {call["region"] for call in emulator.control.calls()} == {"us-east-1"}


# ---- execution_timeout


def raise_task_timeout() -> None:
    """Raise the error that Airflow's timer raises in a task on a worker."""
    raise AirflowTaskTimeout("Timeout")


def test_execution_timeout_during_the_start(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    Airflow calls ``on_kill``: the request is resent to get the ARN, and the execution
    is stopped.
    """
    task = Task(arguments={"execution_timeout": timedelta(minutes=1)}, retries=0)
    emulator.control.add_fault("lost_response", START, count=8)
    emulated_time.after(30, raise_task_timeout)

    task.next_try()
    emulator.control.advance(60)

    assert task.state == "failed"
    assert execution_log.statuses == ["Stopped"]


# ---- stop_on_kill=False


@IN_BOTH_MODES
def test_stop_on_kill_false_never_stops(
    make_task: MakeTask,
    fail_first_push: FailPush,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    An error, a timeout or a start without response leaves the execution running, and
    the error says so.
    """
    emulator.control.put_scenario(NEVER_ENDS)
    fail_first_push(ConnectionError("no API server"))
    tasks = [make_task(retries=0, stop_on_kill=False) for _ in range(3)]
    for number, task in enumerate(tasks):
        task.run_id = f"manual__{number}"

    tasks[0].next_try()
    tasks[1].try_number = 1
    tasks[1].max_tries = 1
    run = tasks[1].next_try(timeout=3600)
    try_without_response(tasks[2], emulator)

    assert "The execution keeps running because stop_on_kill=False." in str(run.error)
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == 3 * ["Executing"]
