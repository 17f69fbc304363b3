"""A task that is killed on its worker stops its execution, in a real worker under a real supervisor."""

from __future__ import annotations

import pytest

from tests.system.local_emulator import LocalEmulator
from tests.system.private_airflow import PrivateAirflow
from tests.system.processes import wait_until

pytestmark = pytest.mark.system

DAG_ID, TASK = "retraining_on_the_worker", "retrain"
TIMEOUT = 60.0


def test_marking_a_running_task_failed_stops_its_execution(
    airflow: PrivateAirflow, emulator: LocalEmulator
) -> None:
    """The supervisor ends the task's process, whose ``on_kill`` asks AWS for one stop of just this execution."""
    client = airflow.client
    client.wait_for_dag(DAG_ID)
    before = len(emulator.control.calls("StopPipelineExecution"))
    run_id = client.trigger(DAG_ID)
    client.unpause(DAG_ID)
    assert wait_until(lambda: client.xcom(DAG_ID, run_id, TASK, "run") is not None, timeout=TIMEOUT)
    arn = client.xcom(DAG_ID, run_id, TASK, "execution_arn")

    client.mark_task(DAG_ID, run_id, TASK, "failed")

    def stopped() -> bool:
        calls = emulator.control.calls("StopPipelineExecution")[before:]
        return [call["request"]["PipelineExecutionArn"] for call in calls] == [arn]

    assert wait_until(stopped, timeout=TIMEOUT)
    assert client.task_states(DAG_ID, run_id)[TASK] == "failed"
