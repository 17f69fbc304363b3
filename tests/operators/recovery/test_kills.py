"""``on_kill`` on a worker, at every moment: it runs in a signal handler, amid whatever the task is doing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import PipelineExecutionCancelledError, PolysyncError
from polysync_airflow.operators import on_kill
from tests.operators.recovery.histories import (
    DESCRIBE,
    MERGE_FAILS_ONCE,
    NEVER_ENDS,
    RETRY,
    START,
    STOP,
    Ledger,
    Task,
    Wire,
    calls,
    die,
    tokens,
)
from tests.tasks import EmulatedTime

# Until it defers, a deferrable task is on a worker, too.
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["here", "deferred"])


def kill(task: Task) -> Callable[[Any], None]:
    """Return an action that kills the task's present try, as Airflow's signal handler does."""
    return lambda _: task.operator.on_kill()


def settle(emulator: EmulatorServer) -> None:
    """Let a stop take effect."""
    emulator.control.advance(60)


@BOTH
@pytest.mark.parametrize("moment", ["before", "after"])
def test_while_start_is_in_flight(
    moment: str,
    deferrable: bool,
    wire: Wire,
    ledger: Ledger,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The ARN is not known yet: AWS is asked for it with the same token, and what is started is stopped."""
    task = Task(deferrable)
    (wire.before if moment == "before" else wire.after)(START, kill(task))

    run = task.next_try()
    settle(emulator)

    assert str(run.error) == "The task was killed."
    assert task.state == "up_for_retry"
    assert run.trigger is None
    assert ledger.statuses == ["Stopped"]
    assert len(set(tokens(emulator, START))) == len(set(tokens(emulator, STOP))) == 1


@BOTH
def test_the_retry_after_a_kill_starts_anew(
    deferrable: bool, wire: Wire, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A worker that is shut down costs a try; the next one's execution comes after the end of the stopped one."""
    task = Task(deferrable)
    wire.before(START, kill(task))
    task.next_try()

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Stopped", "Succeeded"]
    assert ledger.most_at_once == 1


@BOTH
def test_before_anything_is_asked(
    deferrable: bool, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A task that is killed before its start starts nothing, and so the next try does."""
    task = Task(deferrable)
    task.begin().on_kill()

    run = task.go()

    assert isinstance(run.error, PolysyncError)
    assert not run.error.permanent
    assert calls(emulator) == []
    assert task.next_try().error is None
    assert ledger.statuses == ["Succeeded"]


@BOTH
def test_between_writing_and_asking(
    deferrable: bool, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Killed while the request is being stored: it is not sent by this try."""
    task = Task(deferrable)
    task.begin()
    store = task.store.set

    def killing(key: str, value: Any, *, retention: Any = None) -> None:
        store(key, value, retention=retention)
        task.operator.on_kill()

    task.store.set = killing  # type: ignore[method-assign]

    task.go()

    assert ledger.arns == []
    task.store.set = store  # type: ignore[method-assign]
    assert task.next_try().error is None
    assert ledger.statuses == ["Succeeded"]


def test_during_the_wait(ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """What is stopped by a kill is an ordinary failure that uses retries: nobody decided to end it."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = Task()
    task.begin()
    emulated_time.after(300, task.operator.on_kill)

    run = task.go()

    assert type(run.error) is PipelineExecutionCancelledError
    assert task.state == "up_for_retry"
    assert run.xcoms["state"] == "Cancelled"
    assert ledger.statuses == ["Stopped"]


def test_during_the_wait_even_if_a_stop_is_to_be_skipped(
    ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``on_cancelled`` is about people who stop an execution, not about workers that are shut down."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = Task(arguments={"on_cancelled": "skip"})
    task.begin()
    emulated_time.after(300, task.operator.on_kill)

    assert type(task.go().error) is PipelineExecutionCancelledError


def test_during_the_wait_of_a_resumed_one(
    ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A resumed attempt's stop is its own, also if the attempt before was stopped."""
    emulator.control.put_scenario({"steps": {"Merge": {"fail": {"times": 1}, "duration": 230}}})
    task = Task(arguments={"retry_mode": "resume", "poll_interval": 20})
    task.begin()
    # Too late: the last step fails while the stop is under way.
    emulated_time.after(460, task.operator.on_kill)
    task.go()
    assert ledger.statuses == ["Failed"]
    emulator.control.put_scenario(NEVER_ENDS)
    task.begin()
    emulated_time.after(100, task.operator.on_kill)

    task.go()

    assert calls(emulator, RETRY) == [RETRY]
    assert ledger.statuses == ["Stopped"]
    assert len(set(tokens(emulator, STOP))) == 2


@BOTH
@pytest.mark.parametrize("moment", ["before", "after"])
def test_while_a_resume_is_in_flight(
    moment: str,
    deferrable: bool,
    wire: Wire,
    ledger: Ledger,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """Whether the kill comes before AWS resumes or after it, what then runs is stopped."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = Task(deferrable, {"retry_mode": "resume"})
    task.next_try()
    (wire.before if moment == "before" else wire.after)(RETRY, kill(task))

    run = task.next_try()
    settle(emulator)

    assert str(run.error) == "The task was killed."
    assert ledger.statuses == ["Stopped"]


@BOTH
def test_while_an_earlier_trys_execution_is_looked_at(
    deferrable: bool, wire: Wire, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """What the try was about to go on with is stopped, and it does not go on."""
    task = Task(deferrable)
    emulated_time.after(100, die)
    task.next_try()
    wire.before(DESCRIBE, kill(task))

    run = task.next_try()
    settle(emulator)

    assert run.error is not None
    assert run.trigger is None
    assert ledger.statuses == ["Stopped"]


def test_behind_another_epochs_execution(
    ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Killed while the old one's end is awaited: the new one is never started."""
    task = Task()
    emulated_time.after(100, die)
    task.next_try()
    task.clear()
    task.begin()
    emulated_time.after(1, task.operator.on_kill)

    run = task.go()

    assert str(run.error) == "The task was killed."
    assert ledger.statuses == ["Stopped"]


def test_while_start_hangs(
    wire: Wire, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """AWS does not answer the start for long: the kill asks on a connection of its own, and need not wait for it."""
    emulator.control.add_fault("latency", START, delay=0.6, count=1)
    task = Task()
    task.begin()
    stopped: list[list[str]] = []

    def kill_now() -> None:
        task.operator.on_kill()
        stopped.append(calls(emulator, START, STOP))

    killer = threading.Timer(0.2, kill_now)
    wire.before(START, lambda _: killer.start())

    run = task.go()
    killer.join()
    settle(emulator)

    assert str(run.error) == "The task was killed."
    assert stopped == [[START, STOP]], "the kill's own start was answered while the task's still hung"
    assert ledger.statuses == ["Stopped"]
    assert len(set(tokens(emulator, START))) == 1


def test_while_aws_throttles(
    wire: Wire, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Throttled starts, lost answers: the kill goes on asking until it knows what to stop."""
    emulator.control.add_fault("lost_response", START, count=5)
    emulator.control.add_fault("throttle", STOP, count=3)
    task = Task(retries=0)
    wire.after(START, kill(task))

    run = task.next_try()
    settle(emulator)

    assert run.error is not None
    assert ledger.statuses == ["Stopped"]


def test_twice_is_one_stop(ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """Airflow sends TERM again when a task does not end; the second stop bears the same token."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = Task()
    task.begin()
    for _ in range(2):
        emulated_time.after(300, task.operator.on_kill)

    task.go()

    assert len(tokens(emulator, STOP)) == 2
    assert len(set(tokens(emulator, STOP))) == 1


def test_without_permission_to_stop(
    ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A stop that is refused does not hang the worker: the task ends with the execution's own end."""
    emulator.control.add_fault("error", STOP, code="AccessDeniedException", message="not you")
    task = Task()
    task.begin()
    emulated_time.after(200, task.operator.on_kill)

    assert task.go().error is None
    assert ledger.statuses == ["Succeeded"]


@BOTH
def test_stop_on_kill_false_while_start_is_in_flight(
    deferrable: bool, wire: Wire, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The task ends, the execution goes on, and the next try goes on with it."""
    task = Task(deferrable, {"stop_on_kill": False})
    wire.before(START, kill(task))

    first = task.next_try()
    assert str(first.error) == "The task was killed."
    second = task.next_try()

    assert second.error is None
    assert calls(emulator, STOP) == []
    assert ledger.statuses == ["Succeeded"]


def test_stop_on_kill_false_during_the_wait(
    ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The wait goes on until the process is really gone; nothing is stopped."""
    task = Task(arguments={"stop_on_kill": False})
    task.begin()
    emulated_time.after(100, task.operator.on_kill)

    assert task.go().error is None
    assert calls(emulator, STOP) == []
    assert ledger.statuses == ["Succeeded"]


def test_a_worker_that_comes_back_does_not_stop_what_a_later_try_goes_on_with(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A retry has a new task instance, so the old process finds its record no more; its kill stops nothing."""
    task = Task(deferrable=False)

    def come_back() -> None:
        task.store.values.clear()
        task.operator.on_kill()

    emulated_time.after(200, come_back)

    run = task.next_try()

    assert run.xcoms["state"] == "Success"
    assert calls(emulator, STOP) == []


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
def test_a_store_that_does_not_answer_is_no_reason_to_leave_it_running(
    trouble: str,
    ledger: Ledger,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether a later try goes on with it cannot be read: the killed task stops its execution."""
    monkeypatch.setattr(on_kill, "SUPERSEDED_CHECK_TIMEOUT_SECONDS", 0.2)
    released = threading.Event()
    task = Task(deferrable=False)

    def broken(key: str, default: Any = None) -> Any:
        if trouble == "fails":
            raise ConnectionError("no API server")
        released.wait(30)

    def kill_without_store() -> None:
        task.store.get = broken  # type: ignore[method-assign]
        task.operator.on_kill()

    emulated_time.after(200, kill_without_store)

    run = task.next_try()
    released.set()

    assert isinstance(run.error, PipelineExecutionCancelledError)
    assert ledger.statuses == ["Stopped"]
