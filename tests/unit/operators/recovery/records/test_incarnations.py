"""
A task instance that comes again with the same key: a DAG run that is deleted and
created again, a pass of a loop.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import NEVER_ENDS, ExecutionLog, crash

LATER = datetime(2026, 2, 1, tzinfo=UTC)


def test_dag_run_that_was_created_again_starts_an_execution(
    make_task: MakeTask, execution_log: ExecutionLog
) -> None:
    """
    The result of the deleted DAG run is not taken for that of the new one, which may
    have other parameters.
    """
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
