"""
What happens between two tries, where no process of the task runs: one answer of AWS is
not the truth, what a start replaces is kept, and other deployments are left alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow import records
from polysync_airflow.deployment import DEPLOYMENT_KEY, find_deployment
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.records import RECORD_KEY
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.tasks import DagRun, EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    CHANGES,
    DESCRIBE,
    MERGE_FAILS_ONCE,
    NEVER_ENDS,
    RETRY,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    crash,
)

pytestmark = IN_BOTH_MODES

RUNS_ON = {"steps": {"Merge": {"duration": 1200}}}
QUOTA = {"code": "ResourceLimitExceeded", "message": "20 executions run", "count": 1}
NOT_FOUND = {"code": "ResourceNotFound", "message": "It does not exist"}


def run_of(second: int, **values: Any) -> DagRun:
    """Return a DAG run that has started at its own second of the same minute."""
    return DagRun(datetime(2026, 1, 2, 0, 0, second, tzinfo=UTC), **values)


# ---- two deployments


@pytest.fixture
def prod(make_task: MakeTask) -> Task:
    """Return a task of one deployment."""
    task = make_task()
    task.deployment = "prod"
    task.dag_run = run_of(1)
    return task


@pytest.fixture
def staging(make_task: MakeTask) -> Task:
    """Return the task of another one: the same DAG, run id, pipeline and Fernet key."""
    task = make_task()
    task.deployment = "staging"
    task.dag_run = run_of(3)
    return task


def test_retry_leaves_the_execution_of_another_deployment_alone(
    prod: Task,
    staging: Task,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
) -> None:
    """The first start of staging is refused, so its retry has no record."""
    emulator.control.put_scenario(RUNS_ON)
    emulated_time.after(100, crash)
    prod.next_try()
    (of_prod,) = execution_log.running
    emulator.control.add_fault("error", START, **QUOTA)

    staging.next_try()
    run = staging.next_try()

    assert run.error is None
    assert calls(emulator, STOP) == []
    assert {each.arn for each in execution_log.executions} == {of_prod, run.result}


@pytest.mark.parametrize("is_cleared", [False, True])
def test_record_in_a_copied_database_is_not_used(
    is_cleared: bool,
    prod: Task,
    staging: Task,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Staging has a copy of prod's Variables, and its own address."""
    emulator.control.put_scenario(RUNS_ON)
    emulated_time.after(100, crash)
    prod.next_try()
    (of_prod,) = execution_log.running
    staging.dag_run, staging.try_number = prod.dag_run, 1
    staging.store.set(RECORD_KEY, prod.record)
    if is_cleared:
        staging.clear()

    run = staging.next_try()

    assert run.error is None
    assert run.result != of_prod
    assert calls(emulator, STOP) == []
    assert "is that of another deployment of Airflow (prod, and this one is" in (
        caplog.text
    )


def test_deleted_variable_of_the_deployment_is_written_again(
    prod: Task,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
) -> None:
    """The record of the task has the identity."""
    emulator.control.put_scenario(RUNS_ON)
    emulated_time.after(100, crash)
    prod.next_try()
    prod.deployment = None

    run = prod.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert find_deployment(None, {DEPLOYMENT_KEY: run.ti.deployment}.get) == "prod"


@pytest.mark.parametrize("has_key", [True, False])
def test_clear_of_an_ended_run_replaces_what_still_runs(
    has_key: bool,
    make_task: MakeTask,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The task did not wait, so it has no record, and the run that is cleared starts anew.
    """
    if not has_key:
        monkeypatch.setattr(records, "signing_keys", list)
    emulator.control.put_scenario(RUNS_ON)
    task = make_task(wait_for_completion=False)
    task.next_try()
    task.clear()
    task.dag_run = run_of(9, clear_number=1)

    run = task.next_try()

    assert run.error is None
    assert execution_log.max_concurrent == 1
    assert len(execution_log.arns) == 2


# ---- an execution that AWS does not know


@pytest.mark.parametrize("times", [1, 8])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_retry_asks_again_for_an_execution_that_aws_does_not_know_yet(
    times: int,
    moment: str,
    make_task: MakeTask,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    interceptor: RequestInterceptor,
) -> None:
    """The process died before its start was sent, or before it had the response."""
    emulator.control.put_scenario(RUNS_ON)
    task = make_task()
    getattr(interceptor, moment)(START, crash)
    task.next_try()
    emulator.control.add_fault("error", DESCRIBE, **NOT_FOUND, count=times)

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]


def test_wait_goes_on_if_aws_does_not_know_the_execution_yet(
    make_task: MakeTask, emulator: EmulatorServer, execution_log: ExecutionLog
) -> None:
    """The first poll comes seconds after the start."""
    emulator.control.put_scenario(RUNS_ON)
    emulator.control.add_fault("error", DESCRIBE, **NOT_FOUND, count=1)

    run = make_task().next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]


def test_nothing_is_started_beside_an_execution_that_aws_does_not_know(
    make_task: MakeTask,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
) -> None:
    """Each retry says so, and a clear starts a new one."""
    emulator.control.put_scenario(RUNS_ON)
    task = make_task()
    emulated_time.after(100, crash)
    task.next_try()
    emulator.control.add_fault("error", DESCRIBE, **NOT_FOUND)

    run = task.next_try()

    assert "nothing was started beside it" in str(run.error)
    assert len(execution_log.arns) == 1
    emulator.control.remove_faults()
    emulator.control.add_fault("error", DESCRIBE, **NOT_FOUND, count=13)
    task.clear()
    task.next_try()
    assert len(execution_log.arns) == 2


@pytest.mark.parametrize("is_cleared", [False, True])
def test_execution_of_another_account_is_an_error_that_names_both(
    is_cleared: bool,
    make_task: MakeTask,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody has changed the keys of the connection to those of another account."""
    emulator.control.put_scenario(RUNS_ON)
    task = make_task()
    emulated_time.after(100, crash)
    task.next_try()
    if is_cleared:
        task.clear()
    emulator.control.add_fault("error", DESCRIBE, **NOT_FOUND)
    monkeypatch.setattr(
        PolysyncSageMakerHook,
        "get_caller_identity",
        lambda _: {"Account": "999999999999", "Arn": "x"},
    )

    run = task.next_try()

    assert "is in account 123456789012, but connection 'polysync_default'" in (
        str(run.error)
    )
    assert "signs in to account 999999999999" in str(run.error)
    assert len(execution_log.arns) == 1
    assert len(task.record) > 0


# ---- what a start replaces


def test_clear_resumes_what_a_refused_start_did_not_replace(
    make_task: MakeTask,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
) -> None:
    """
    The execution has failed, and the start of the retry is refused: what had succeeded
    is not paid for twice.
    """
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retries=1, on_clear="resume")
    task.next_try()
    emulator.control.add_fault("error", START, **QUOTA)
    task.next_try()
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, *CHANGES) == [START, START, RETRY]
    assert execution_log.statuses == ["Succeeded"]


# ---- a conflict that lasts


def test_conflict_that_lasts_uses_the_retries(
    make_task: MakeTask, emulator: EmulatorServer, execution_log: ExecutionLog
) -> None:
    """The next try sends the same request again."""
    emulator.control.add_fault(
        "error", START, code="ConflictException", message="TaskTry later"
    )
    task = make_task()

    first = task.next_try()
    state = task.state
    emulator.control.remove_faults()
    second = task.next_try()

    assert "AWS has answered the start with ConflictException" in str(first.error)
    assert state == "up_for_retry"
    assert second.error is None
    assert execution_log.statuses == ["Succeeded"]


# ---- a record that is deleted while the task waits


@pytest.mark.parametrize(
    "names",
    [{}, {"execution_display_name": "nightly", "execution_description": "Nightly"}],
    ids=["default names", "names of one's own"],
)
def test_timeout_stops_an_execution_whose_record_was_deleted(
    names: dict[str, str],
    make_task: MakeTask,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
) -> None:
    """The task knows the ARN, on a worker and by the event of its trigger."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(retries=0, timeout=1000, **names)
    emulated_time.after(100, lambda: task.store.delete(RECORD_KEY))

    task.next_try()

    assert calls(emulator, STOP) == [STOP]
    emulator.control.advance(60)
    assert execution_log.running == []
