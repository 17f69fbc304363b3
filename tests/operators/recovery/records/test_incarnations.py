"""A task instance that comes again with the same key: a DAG run that is deleted and created again, a pass of a loop."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.harness import MERGE_FAILS_ONCE, NEVER_ENDS, ExecutionLog, Task, crash
from tests.tasks import DagRun, EmulatedTime, TaskInstance, run_task

LATER = datetime(2026, 2, 1, tzinfo=UTC)


def test_dag_run_that_was_created_again_starts_an_execution(
    make_task: MakeTask, execution_log: ExecutionLog
) -> None:
    """The result of the deleted DAG run is not taken for that of the new one, which may have other parameters."""
    task = make_task(pipeline_parameters={"Shards": 2})
    task.next_try()
    task.delete()
    task.create_again(LATER)

    run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert run.result == execution_log.arns[1]
    assert run.xcoms["run"]["parameters"] == {"Shards": "3"}
    assert execution_log.statuses == ["Succeeded", "Succeeded"]


@pytest.mark.parametrize("on_clear", ["new", "resume"])
def test_execution_of_the_deleted_dag_run_is_stopped_first(
    on_clear: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """Its process died with the deletion, so that its execution still runs."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(on_clear=on_clear)
    emulated_time.after(100, crash)
    task.next_try()
    task.delete()
    task.create_again(LATER)
    emulator.control.put_scenario({})

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1


def test_failed_execution_of_the_deleted_dag_run_is_not_resumed(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """Whoever creates a DAG run wants every step to run."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(on_clear="resume", retry_mode="resume", retries=0)
    task.next_try()
    task.delete()
    task.create_again(LATER)
    emulator.control.put_scenario({})

    task.next_try()

    assert execution_log.statuses == ["Failed", "Succeeded"]


def test_dag_run_that_was_cleared_after_its_end_resumes(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """Airflow then starts the DAG run anew, but it is still the same: ``on_clear`` decides."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(on_clear="resume", retries=0)
    task.next_try()
    task.clear()
    task.dag_run = DagRun(LATER, clear_number=1)

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]


def test_each_pass_of_a_loop_starts_an_execution(
    execution_log: ExecutionLog, emulated_time: EmulatedTime
) -> None:
    """From Airflow 3.4 on, the passes of a loop differ in nothing but their region."""
    task, region = Task(), uuid.UUID(int=7)
    results: list[Any] = []
    for index in range(2):
        ti = TaskInstance(task.task_id, store=task.store, region_id=region, region_index=index)
        results.append(run_task(task.prepare_try(), ti).result)

    assert results == execution_log.arns
    assert execution_log.statuses == ["Succeeded", "Succeeded"]


def test_task_outside_of_regions_reattaches(execution_log: ExecutionLog, emulated_time: EmulatedTime) -> None:
    """There, Airflow 3.4 gives all tasks the region 0, and a task that ran before the upgrade has none."""
    task = Task()
    emulated_time.after(100, crash)
    task.next_try()
    ti = TaskInstance(task.task_id, try_number=2, max_tries=2, store=task.store, region_id=uuid.UUID(int=0))

    run = run_task(task.prepare_try(), ti)

    assert (run.error, run.result) == (None, execution_log.arns[0])
    assert execution_log.statuses == ["Succeeded"]
