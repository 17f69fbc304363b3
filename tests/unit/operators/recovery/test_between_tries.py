"""
What happens between two tries, where no process of the task runs: one answer of AWS is
not the truth, what a start replaces is kept, and other deployments are left alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.records import RECORD_KEY
from tests.conftest import IN_BOTH_MODES
from tests.tasks import DagRun
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import Task, crash
from tests.world import DESCRIBE, START, STOP, World

pytestmark = IN_BOTH_MODES

RUNS_ON = {"steps": {"Merge": {"duration": 1200}}}
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


@pytest.mark.parametrize("is_cleared", [False, True])
def test_record_in_a_copied_database_is_not_used(
    is_cleared: bool,
    prod: Task,
    staging: Task,
    world: World,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Staging has a copy of prod's Variables, and its own address."""
    world.control.put_scenario(RUNS_ON)
    world.time.after(100, crash)
    prod.next_try()
    (of_prod,) = world.log.running
    staging.dag_run, staging.try_number = prod.dag_run, 1
    staging.store.set(RECORD_KEY, prod.record)
    if is_cleared:
        staging.clear()

    run = staging.next_try()

    assert run.error is None
    assert run.result != of_prod
    assert world.calls(STOP) == []
    assert "is that of another deployment of Airflow (prod, and this one is" in (
        caplog.text
    )


# ---- an execution that AWS does not know


@pytest.mark.parametrize("moment", ["before", "after"])
def test_retry_asks_again_for_an_execution_that_aws_does_not_know_yet(
    moment: str, make_task: MakeTask, world: World
) -> None:
    """The process died before its start was sent, or before it had the response."""
    world.control.put_scenario(RUNS_ON)
    task = make_task()
    getattr(world.requests, moment)(START, crash)
    task.next_try()
    world.control.add_fault("error", DESCRIBE, **NOT_FOUND, count=8)

    run = task.next_try()

    assert run.error is None
    assert world.log.statuses == ["Succeeded"]


@pytest.mark.parametrize("is_cleared", [False, True])
def test_execution_of_another_account_is_an_error_that_names_both(
    is_cleared: bool, make_task: MakeTask, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has changed the keys of the connection to those of another account."""
    world.control.put_scenario(RUNS_ON)
    task = make_task()
    world.time.after(100, crash)
    task.next_try()
    if is_cleared:
        task.clear()
    world.control.add_fault("error", DESCRIBE, **NOT_FOUND)
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
    assert len(world.log.arns) == 1
    assert len(task.record) > 0


# ---- a record that is deleted while the task waits
