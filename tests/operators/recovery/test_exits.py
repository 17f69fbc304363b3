"""Every way out of a task: while a next try can go on, the execution does; when the task is over, it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import (
    PipelineExecutionTimeoutError,
    SageMakerApiError,
)
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.histories import (
    DESCRIBE,
    NEVER_ENDS,
    START,
    STOP,
    Ledger,
    Task,
    Wire,
    calls,
    die,
    tokens,
)
from tests.tasks import EmulatedTime, TaskInstance

Breaker = Callable[[BaseException], None]


@pytest.fixture
def break_xcoms(monkeypatch: pytest.MonkeyPatch) -> Breaker:
    """Make the first try fail when it publishes what it has started."""
    push = TaskInstance.xcom_push

    def breaker(error: BaseException) -> None:
        def broken(self: TaskInstance, key: str, value: Any) -> None:
            if self.try_number == 1 and key == "execution_arn":
                raise error
            push(self, key, value)

        monkeypatch.setattr(TaskInstance, "xcom_push", broken)

    return breaker


class Verdict(RetryPolicy):
    """A policy of the DAG's author."""

    def __init__(self, decide: Callable[[], RetryDecision]) -> None:
        self.decide = decide

    def evaluate(self, *_: Any, **__: Any) -> RetryDecision:
        """Decide."""
        return self.decide()


def broken_policy() -> RetryDecision:
    """Fail to decide, as a policy with a bug does."""
    raise LookupError("a bug in the policy")


def test_with_a_retry_left_an_error_leaves_it_running(
    make_task: MakeTask, break_xcoms: Breaker, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """A foreign error after the start costs a try, not the execution."""
    break_xcoms(ConnectionError("no API server"))
    task = make_task(retries=1)

    first = task.next_try()
    assert isinstance(first.error, ConnectionError)
    assert ledger.statuses == ["Executing"]
    second = task.next_try()

    assert second.error is None
    assert ledger.statuses == ["Succeeded"]
    assert calls(emulator, START, STOP) == [START]


@pytest.mark.parametrize(
    ("error", "retries", "policy"),
    [
        (ConnectionError("no API server"), 0, None),
        (AirflowFailException("no retries, please"), 2, None),
        (ConnectionError("no API server"), 2, Verdict(RetryDecision.fail)),
    ],
    ids=["no retries left", "AirflowFailException", "a policy says so"],
)
def test_without_another_try_an_error_stops_it(
    error: Exception,
    retries: int,
    policy: RetryPolicy | None,
    make_task: MakeTask,
    break_xcoms: Breaker,
    ledger: Ledger,
    emulator: EmulatorServer,
) -> None:
    """The error that ends the task for good leaves no paid execution behind; the error itself is kept."""
    break_xcoms(error)
    task = make_task(retries=retries, retry_policy=policy)

    run = task.next_try()
    emulator.control.advance(60)

    assert task.state == "failed"
    assert run.error is error
    assert ledger.statuses == ["Stopped"]
    assert len(tokens(emulator, STOP)) == 1


def test_a_policy_that_breaks_is_airflows_to_judge(
    make_task: MakeTask, break_xcoms: Breaker, ledger: Ledger
) -> None:
    """Airflow retries if a policy raises: so the execution goes on, and the error that is told is the first one."""
    error = ConnectionError("no API server")
    break_xcoms(error)
    task = make_task(retries=1, retry_policy=Verdict(broken_policy))

    run = task.next_try()

    assert run.error is error
    assert task.state == "up_for_retry"
    assert ledger.statuses == ["Executing"]


def test_the_last_try_stops_what_an_earlier_one_started(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """An execution that was carried through two tries is stopped when the last of them fails."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(retries=1, timeout=3600)
    emulated_time.after(100, die)
    task.next_try()

    run = task.next_try()
    emulator.control.advance(60)

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert task.state == "failed"
    assert ledger.statuses == ["Stopped"]


@pytest.mark.parametrize("limit", [{"timeout": 3600}, {"execution_timeout": timedelta(hours=1)}], ids=str)
def test_out_of_time_is_stopped_even_with_retries_left(
    limit: dict[str, Any], make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """An execution that takes too long is given up on; the next try's is a new one."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(**limit)

    run = task.next_try()
    emulator.control.advance(60)

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert task.state == "up_for_retry"
    assert ledger.statuses == ["Stopped"]


def test_a_watch_that_aws_refuses_for_good_stops_it(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A retry that may not look at what runs fails for good, so nothing may run on."""
    task = make_task()
    emulated_time.after(100, die)
    task.next_try()
    emulator.control.add_fault("error", DESCRIBE, code="AccessDeniedException", message="not you")

    run = task.next_try()
    emulator.control.advance(60)

    assert isinstance(run.error, SageMakerApiError)
    assert task.state == "failed"
    assert ledger.statuses == ["Stopped"]


def test_a_stop_that_is_refused_is_told(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """If nothing can be done about it, the person who reads the error must know that it runs."""
    emulator.control.put_scenario(NEVER_ENDS)
    emulator.control.add_fault("error", STOP, code="AccessDeniedException", message="not you")
    task = make_task(timeout=3600)

    run = task.next_try()

    assert "The execution may still be running, its stop was refused" in str(run.error)
    assert "sagemaker:StopPipelineExecution" in str(run.error)


@pytest.mark.parametrize("kind", ["throttle", "http", "dropped", "lost_response"])
def test_a_stop_survives_passing_faults(
    kind: str, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Minutes of throttling or a lost answer do not leave it running: asked again, with one token."""
    emulator.control.put_scenario(NEVER_ENDS)
    emulator.control.add_fault(kind, STOP, count=6)
    task = make_task(timeout=3600)

    task.next_try()
    emulator.control.advance(60)

    assert ledger.statuses == ["Stopped"]
    assert len(set(tokens(emulator, STOP)) - {""}) <= 1


def test_a_conflict_at_the_stop_is_waited_out(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Between two steps AWS answers ConflictException for a moment."""
    emulator.control.put_scenario(NEVER_ENDS)
    emulator.control.add_fault("error", STOP, code="ConflictException", message="between steps", count=9)
    task = make_task(timeout=3600)

    run = task.next_try()
    emulator.control.advance(60)

    assert "was asked to stop" in str(run.error)
    assert ledger.statuses == ["Stopped"]


# ---- what runs, but nobody knows its ARN


def last_try_in_doubt(task: Task, emulator: EmulatorServer, **arguments: Any) -> Any:
    """Let the last try go by without learning the ARN: its patience of 10 s ends with the fourth call."""
    emulator.control.add_fault("lost_response", START, count=4)
    return task.next_try(timeout=10, **arguments)


def test_a_doubt_at_the_end_of_the_task_is_cleared_up_and_stopped(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """AWS never answered, and no try follows: it is asked once more, with the same token, and the stop follows."""
    task = make_task(retries=0)

    run = last_try_in_doubt(task, emulator)
    emulator.control.advance(60)

    assert isinstance(run.error, SageMakerApiError)
    assert task.state == "failed"
    assert ledger.statuses == ["Stopped"]


def test_a_doubt_with_a_retry_left_is_the_next_trys(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """The execution goes on meanwhile."""
    task = make_task(retries=1)
    last_try_in_doubt(task, emulator)
    assert ledger.statuses == ["Executing"]

    assert task.next_try().error is None
    assert ledger.statuses == ["Succeeded"]


def test_a_doubt_is_cleared_up_in_the_region_it_is_of(
    make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """If the template of ``region_name`` changes, the stop still goes to where the execution is."""
    task = make_task(retries=1)
    wire.after(START, die)
    task.next_try()

    last_try_in_doubt(task, emulator, region_name="eu-west-1")
    emulator.control.advance(60)

    assert ledger.statuses == ["Stopped"]
    assert {call["region"] for call in emulator.control.calls(START)} == {"us-east-1"}


def test_an_execution_is_found_in_its_own_region(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The same with a known ARN: looks, stops and step lists go to the execution's region."""
    task = make_task()
    emulated_time.after(100, die)
    task.next_try()

    run = task.next_try(region_name="eu-west-1")

    assert run.error is None
    assert {call["region"] for call in emulator.control.calls()} == {"us-east-1"}


# ---- Airflow's own timer


def alarm() -> None:
    """Do what Airflow's timer does in the middle of whatever a synchronous task is doing."""
    raise AirflowTaskTimeout("Timeout")


def test_airflows_timer_while_aws_is_asked_to_start(
    ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Airflow calls ``on_kill`` then: the ARN is learnt, and what was started is stopped."""
    task = Task(arguments={"execution_timeout": timedelta(minutes=1)}, retries=0)
    emulator.control.add_fault("lost_response", START, count=8)
    emulated_time.after(30, alarm)

    task.next_try()
    emulator.control.advance(60)

    assert task.state == "failed"
    assert ledger.statuses == ["Stopped"]


def test_airflows_timer_behind_another_epochs_execution(
    ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """It ends the wait for the old one; nothing was started beside it."""
    task = Task()
    emulated_time.after(100, die)
    task.next_try()
    task.clear()
    emulated_time.after(1, alarm)

    run = task.next_try()
    emulator.control.advance(60)

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert ledger.statuses == ["Stopped"]


# ---- stop_on_kill=False


def test_who_wants_no_stops_gets_none(
    make_task: MakeTask, break_xcoms: Breaker, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """``stop_on_kill=False``: an error without a retry, a timeout and a doubt leave it running, and say so."""
    emulator.control.put_scenario(NEVER_ENDS)
    break_xcoms(ConnectionError("no API server"))
    tasks = [make_task(retries=0, stop_on_kill=False) for _ in range(2)]

    tasks[0].next_try()
    tasks[1].try_number = 1
    tasks[1].max_tries = 1
    run = tasks[1].next_try(timeout=3600)
    last_try_in_doubt(make_task(retries=0, stop_on_kill=False), emulator)

    assert "The execution goes on running, as stop_on_kill=False asks." in str(run.error)
    assert calls(emulator, STOP) == []
    assert ledger.statuses == 3 * ["Executing"]


# ---- Airflow's callback for processes that died for good


def call_back(operator: Any, ti: TaskInstance) -> None:
    """Do what Airflow does once a task has failed for good: on its worker, or for a dead one elsewhere."""
    for callback in operator.on_failure_callback:
        callback({"ti": ti, "task": operator, "dag": None, "params": {}})


def test_a_resumed_execution_of_a_dead_task_is_stopped(
    ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The stop is the resumed attempt's, although the attempt before was stopped too."""
    emulator.control.put_scenario({"steps": {"Merge": {"fail": {"times": 1}, "duration": 230}}})
    task = Task(arguments={"retry_mode": "resume", "poll_interval": 20}, retries=1)
    task.begin()
    # Too late: the last step fails while the stop is under way.
    emulated_time.after(460, task.operator.on_kill)
    task.go()
    emulator.control.put_scenario(NEVER_ENDS)
    emulated_time.after(100, die)
    run = task.next_try()
    assert task.state == "failed"
    assert ledger.statuses == ["Executing"]

    call_back(task.begin(), run.ti)
    emulator.control.advance(60)

    assert ledger.statuses == ["Stopped"]


def test_a_timeout_is_not_told_as_a_death(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """The try itself has asked for the stop: the callback that follows has nothing to do, and nothing to say."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=3600, retries=0)
    run = task.next_try()
    assert task.state == "failed"
    emulator.control.clear_calls()

    call_back(run.operator, run.ti)

    assert calls(emulator) == []
