"""``on_clear="resume"``: after a crash at any point there is one resume, in the epoch of the clear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.texts import format_seconds
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.harness import (
    LIST_STEPS,
    MERGE_FAILS_ONCE,
    MERGE_FAILS_TWICE,
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
from tests.operators.recovery.on_clear.test_resuming import fail_and_clear
from tests.operators.recovery.test_resuming import log_lines
from tests.tasks import EmulatedTime

THREE_DAYS = 3 * 24 * 3600.0


def after_writes(number: int) -> Callable[[Task, RequestInterceptor, EmulatedTime], None]:
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
    """When the request leaves, the record of the new epoch has its token; the start request is unchanged."""
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, emulator)
    request, old_epoch, saved = task.last_record["request"], task.last_record["epoch"], []
    interceptor.before(RETRY, lambda body: saved.append((body, task.last_record)))

    task.next_try(pipeline_parameters={"Shards": 4})

    ((body, record),) = saved
    assert body["ClientRequestToken"] == record["resume_token"]
    assert (record["epoch"], record["resumes"], record.get("resumed_at")) == (task.max_tries, 1, None)
    assert record["epoch"] != old_epoch
    assert record["request"] == task.last_record["request"] == request


CRASHES: dict[str, Callable[[Task, RequestInterceptor, EmulatedTime], Any]] = {
    "after the record is taken over": after_writes(1),
    "after the resume is stored": after_writes(2),
    "after the response is stored": after_writes(3),
    "while the steps are listed": lambda _, interceptor, __: interceptor.before(LIST_STEPS, crash),
    "before Retry is sent": lambda _, interceptor, __: interceptor.before(RETRY, crash),
    "before the response to Retry is read": lambda _, interceptor, __: interceptor.after(RETRY, crash),
    "while waiting for the resumed execution": lambda _, __, time: time.after(100, crash),
}


@pytest.mark.parametrize(
    ("moment", "retry_mode"), [*((each, "new") for each in CRASHES), ("before Retry is sent", "resume")]
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
    """The retry after the crash completes the same resume: no second one, and no second execution."""
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
    assert (task.last_record["epoch"], task.last_record["resumes"]) == (task.max_tries, 1)
    assert run.xcoms["run"]["resumes"] == 1


@pytest.mark.parametrize(
    ("retry_mode", "requests", "attempts"), [("new", [RETRY, START], 1), ("resume", [RETRY, RETRY], 3)]
)
def test_retry_after_the_resume_follows_retry_mode(
    retry_mode: str,
    requests: list[str],
    attempts: int,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """If the resumed execution fails again, the retry is a retry like any other."""
    task = make_task(on_clear="resume", retry_mode=retry_mode, retries=0)
    fail_and_clear(task, emulator, MERGE_FAILS_TWICE)
    task.max_tries += 1
    assert "AlgorithmError" in str(task.next_try().error)
    if retry_mode == "new":
        emulator.control.put_scenario({})

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START, RETRY) == requests
    assert step_attempts(execution_log.executions[-1])["Merge"] == attempts
    assert len(execution_log.arns) == requests.count(START) + 1


def test_second_clear_resumes_again(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """If the cause was not mended, the next clear resumes once more, with a token of its own."""
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, emulator, MERGE_FAILS_TWICE)
    assert "AlgorithmError" in str(task.next_try().error)
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert len(set(tokens(emulator, RETRY))) == len(tokens(emulator, RETRY)) == 2
    assert run.xcoms["run"]["resumes"] == 2


@pytest.mark.parametrize("moment", ["before", "after"])
def test_clear_after_a_resume_without_response(
    moment: str,
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If a crash hid the response to a resume, the next clear sends the same token first.

    If AWS had received the request, and the resumed execution has failed since, the failed step must still run for
    this clear: AWS does nothing for the old token, so a new one follows.
    """
    received = moment == "after"
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, emulator, MERGE_FAILS_TWICE if received else MERGE_FAILS_ONCE)
    (interceptor.after if received else interceptor.before)(RETRY, crash)
    assert isinstance(task.next_try().error, CrashError)
    first_token = task.last_record["resume_token"]
    emulator.control.advance(7200)
    assert execution_log.statuses == ["Failed"]
    task.clear()
    emulator.control.clear_calls()

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert tokens(emulator, RETRY)[0] == first_token
    assert len(set(tokens(emulator, RETRY))) == (2 if received else 1)
    assert step_attempts(execution_log.executions[0])["Merge"] == (3 if received else 2)
    assert (task.last_record["epoch"], task.last_record["resumes"]) == (task.max_tries, 2 if received else 1)


def test_resume_without_response_is_not_replaced_by_a_retry(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """If AWS did not respond to the resume, the retry sends it again, although ``retry_mode`` is ``new``."""
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, emulator)
    task.max_tries += 1
    emulator.control.add_fault("http", RETRY, count=4)
    assert isinstance(task.next_try(timeout=10).error, SageMakerApiError)
    stored = task.last_record

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START) == []
    assert execution_log.statuses == ["Succeeded"]
    assert tokens(emulator, RETRY)[-1] == stored["resume_token"]
    assert (stored["resumes"], task.last_record["resumes"]) == (1, 1)


@IN_BOTH_MODES
def test_seconds_are_those_of_the_resumed_attempt(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """The three days before the clear do not count, neither in the XCom ``run`` nor in the message."""
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
    verdict = f"succeeded {format_seconds(seconds)} after resume 1 (AWS status Succeeded)"
    assert [line for line in log_lines(logs) if verdict in line]


def test_seconds_after_a_crash_are_those_of_the_resumed_attempt(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A retry that only takes the result of the resumed execution reports the same seconds."""
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, emulator)
    task.max_tries += 1
    emulator.control.advance(THREE_DAYS)
    emulated_time.after(100, crash)
    assert isinstance(task.next_try().error, CrashError)
    emulator.control.advance(7200)

    run = task.next_try()

    _, (resumed_at, ended_at, _) = execution_log.finished_attempts
    assert run.error is None
    assert run.trigger is None
    assert run.xcoms["run"]["seconds"] == pytest.approx(ended_at - resumed_at, abs=1)
