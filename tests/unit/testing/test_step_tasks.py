"""
The tasks of steps in ``dag.test()``, which runs one task after the other, and a trigger
without its task instance.

A whole DAG run is in ``tests/documentation/examples/test_example_dags.py``.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.airflow_compat.sdk import AirflowRescheduleException
from polysync_airflow.exceptions import PipelineExecutionFailedError
from polysync_airflow.execution import clock
from polysync_airflow.operators.step_tasks import PolysyncPipelineStepOperator
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, TaskInstance
from tests.unit.triggers.test_step_tasks import ExecutionTask, event_of, make_trigger

FAILING: Any = {"Train": {"fail": {"reason": "No data"}}}


@pytest.fixture
def run(emulated_time: EmulatedTime) -> Any:
    """
    Return a function that runs the task of a step as ``dag.test()`` does, after an hour
    of emulated time.
    """

    async def fire() -> Any:
        trigger: Any = make_trigger("Train")
        trigger.task_instance = None
        return await event_of(trigger)

    def run_task(*, try_number: int = 1, retries: int = 0) -> TaskInstance:
        operator = PolysyncPipelineStepOperator(
            task_id="Train",
            execution_task_id="execution",
            step_name="Train",
            retries=retries,
        )
        ti = TaskInstance("Train", try_number=try_number, max_tries=retries)
        ti.xcoms["return_value"] = operator.execute_complete(
            ti.context(operator), asyncio.run(fire())
        )
        return ti

    clock.sleep(3600)
    return run_task


@pytest.mark.parametrize("state", [None, "scheduled", "queued", "running", "deferred"])
def test_task_of_a_step_lets_the_execution_run_first(
    emulator: EmulatorServer, emulated_time: EmulatedTime, run: Any, state: str | None
) -> None:
    """
    It is rescheduled to run again at once by the clock of Airflow, which is not that of
    a test.
    """
    execution = ExecutionTask(emulator)
    execution.state = state

    with pytest.raises(AirflowRescheduleException) as raised:
        run()

    assert raised.value.reschedule_date <= datetime.now(UTC)
    assert emulated_time.slept[-1] == 1.0


@pytest.mark.parametrize(("state", "steps"), [("success", None), ("failed", FAILING)])
def test_task_of_a_step_ends_as_its_step(
    emulator: EmulatorServer, run: Any, state: str, steps: Any
) -> None:
    """
    After the execution has ended, one look decides, and the XComs are those of every
    step's task.
    """
    execution = ExecutionTask(emulator, steps=steps)
    clock.sleep(7200)
    execution.state = state

    if state == "failed":
        with pytest.raises(PipelineExecutionFailedError, match="No data"):
            run()
        return
    ti = run()

    assert ti.xcoms["execution_arn"] == execution.arn
    assert ti.xcoms["step"]["name"] == "Train"
    assert ti.xcoms["return_value"]["processing_job_arn"] in str(
        execution.steps()["Train"]
    )


def test_retry_waits_until_the_execution_is_resumed(
    emulator: EmulatorServer, run: Any
) -> None:
    """
    While the execution's own retry waits, that of the step is rescheduled; afterwards
    it ends as the step.
    """
    execution = ExecutionTask(
        emulator, steps={"Train": {"fail": {"reason": "No data", "times": 1}}}
    )
    clock.sleep(7200)
    execution.state = "up_for_retry"

    with pytest.raises(PipelineExecutionFailedError, match="No data"):
        run(retries=1)
    with pytest.raises(AirflowRescheduleException):
        run(retries=1, try_number=2)
    execution.resume()
    clock.sleep(7200)
    execution.state = "success"

    assert run(retries=1, try_number=2).xcoms["step"]["state"] == "Success"
