"""
The failure callback after resumes and timeouts.
``tests/unit/operators/test_failure_callback.py`` has its basic tests.
"""

from __future__ import annotations

from typing import Any

from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, TaskInstance
from tests.unit.operators.recovery.harness import NEVER_ENDS, ExecutionLog, Task, crash


def run_failure_callbacks(operator: Any, ti: TaskInstance) -> None:
    """
    Run the failure callbacks, as Airflow does on the worker or in the DAG processor.
    """
    for callback in operator.on_failure_callback:
        callback({"ti": ti, "task": operator, "dag": None, "params": {}})


def test_failure_callback_stops_a_resumed_execution(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The failure callback stops the resumed attempt, even if the attempt before was
    stopped too.
    """
    emulator.control.put_scenario(
        {"steps": {"Merge": {"fail": {"times": 1}, "duration": 230}}}
    )
    task = Task(arguments={"retry_mode": "resume", "poll_interval": 20}, retries=1)
    task.prepare_try()
    # The stop comes too late: the last step fails while the execution is stopping.
    emulated_time.after(460, task.kill_by_clear)
    task.run_prepared_try()
    emulator.control.put_scenario(NEVER_ENDS)
    emulated_time.after(100, crash)
    run = task.next_try()
    assert task.state == "failed"
    assert execution_log.statuses == ["Executing"]

    run_failure_callbacks(task.prepare_try(), run.ti)
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]
