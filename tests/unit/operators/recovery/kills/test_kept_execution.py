"""
A clear of a task that runs on a worker with ``stop_on_kill=False``.
"""

from __future__ import annotations

import pytest

from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import STOP, ExecutionLog, calls, crash

RUNS_ON = {"steps": {"Merge": {"duration": 1200}}}

pytestmark = pytest.mark.parametrize("deferrable", [False])


def test_clear_of_a_running_task_waits_for_the_execution_that_is_kept(
    make_task: MakeTask,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
) -> None:
    """Then a new one starts, with the parameters of now. Nothing is stopped."""
    emulator.control.put_scenario(RUNS_ON)
    task = make_task(stop_on_kill=False)

    def clear() -> None:
        task.kill_by_clear()
        crash()

    emulated_time.after(10, clear)
    task.next_try(pipeline_parameters={"Shards": 2})

    run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded", "Succeeded"]
    assert execution_log.max_concurrent == 1
    assert run.xcoms["run"]["parameters"]["Shards"] == "3"
