"""A task that is ended before its execution stops it, in a real worker and a real triggerer."""

from __future__ import annotations

import pytest

from tests.system.local_emulator import LocalEmulator
from tests.system.private_airflow import PrivateAirflow
from tests.system.processes import wait_until

pytestmark = pytest.mark.system

TASK = "retrain"
TIMEOUT = 60.0


@pytest.mark.parametrize(
    ("dag_id", "waiting"), [("retraining_on_the_worker", "running"), ("retraining_deferred", "deferred")]
)
def test_marking_a_task_failed_stops_its_execution(
    dag_id: str, waiting: str, airflow: PrivateAirflow, emulator: LocalEmulator
) -> None:
    """``on_kill``, the operator's or the trigger's, asks AWS for one stop of just this execution."""
    client = airflow.client
    client.wait_for_dag(dag_id)
    before = len(emulator.control.calls("StopPipelineExecution"))
    run_id = client.trigger(dag_id)
    client.unpause(dag_id)
    assert wait_until(lambda: client.xcom(dag_id, run_id, TASK, "run") is not None, timeout=TIMEOUT)
    arn = client.xcom(dag_id, run_id, TASK, "execution_arn")

    def watched() -> bool:
        looks = emulator.control.calls("DescribePipelineExecution")
        return any(call["request"]["PipelineExecutionArn"] == arn for call in looks)

    # Before a triggerer has begun to look, there is nobody whom Airflow could tell of the mark.
    assert wait_until(watched, timeout=TIMEOUT)
    assert client.task_states(dag_id, run_id)[TASK] == waiting

    client.mark_task(dag_id, run_id, TASK, "failed")

    def stopped() -> bool:
        calls = emulator.control.calls("StopPipelineExecution")[before:]
        return [call["request"]["PipelineExecutionArn"] for call in calls] == [arn]

    assert wait_until(stopped, timeout=TIMEOUT)
    assert client.task_states(dag_id, run_id)[TASK] == "failed"
    # Whoever else waits in the same process, its log tells of its own execution.
    looks = [line for line in client.log(dag_id, run_id, TASK) if line.startswith("Executing after")]
    assert len(looks) == 1
    assert arn in looks[0]
