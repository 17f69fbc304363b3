"""
Tests of ``on_kill`` in a real worker and a real triggerer: a task that is ended stops
its execution.
"""

from __future__ import annotations

import pytest

from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.emulator_process import EmulatorProcess
from tests.system.process.sessions import wait_until

pytestmark = pytest.mark.system

TASK = "retrain"
TIMEOUT = 60.0


@pytest.mark.parametrize(
    ("dag_id", "waiting_state"),
    [("retraining_on_the_worker", "running"), ("retraining_deferred", "deferred")],
)
def test_task_marked_failed_stops_its_execution(
    dag_id: str, waiting_state: str, airflow: PrivateAirflow, emulator: EmulatorProcess
) -> None:
    """
    ``on_kill`` of the operator or of the trigger sends one StopPipelineExecution, for
    this execution only.
    """
    client = airflow.client
    client.wait_for_dag(dag_id)
    before = len(emulator.control.calls("StopPipelineExecution"))
    run_id = client.trigger(dag_id)
    client.unpause(dag_id)
    assert wait_until(
        lambda: client.xcom(dag_id, run_id, TASK, "run") is not None, timeout=TIMEOUT
    )
    arn = client.xcom(dag_id, run_id, TASK, "execution_arn")

    def polled() -> bool:
        calls = emulator.control.calls("DescribePipelineExecution")
        return any(call["request"]["PipelineExecutionArn"] == arn for call in calls)

    # Airflow can call the trigger's on_kill only after a triggerer has started the
    # trigger.
    assert wait_until(polled, timeout=TIMEOUT)
    assert client.task_states(dag_id, run_id)[TASK] == waiting_state

    client.mark_task(dag_id, run_id, TASK, "failed")

    def stops() -> list[tuple[str, str]]:
        calls = emulator.control.calls("StopPipelineExecution")[before:]
        requests = [call["request"] for call in calls]
        return [
            (request["PipelineExecutionArn"], request["ClientRequestToken"])
            for request in requests
        ]

    assert wait_until(lambda: bool(stops()), timeout=TIMEOUT), client.log(
        dag_id, run_id, TASK
    )
    # Two processes may ask for it. For AWS, that is one stop.
    assert {stopped_arn for stopped_arn, _ in stops()} == {arn}
    assert len(set(stops())) == 1
    assert client.task_states(dag_id, run_id)[TASK] == "failed"

    # The trigger has gone by then, and the process on the worker may have been killed.
    def stored() -> bool:
        run = client.xcom(dag_id, run_id, TASK, "run")
        return (run["state"], (run["stop"] or {}).get("result")) == (
            "Cancelled",
            "accepted",
        )

    assert wait_until(stored, timeout=TIMEOUT)
    # The log has only this task's execution, although other triggers run in the same
    # process.
    polls = [
        line
        for line in client.log(dag_id, run_id, TASK)
        if line.startswith("Executing: ")
    ]
    assert len(polls) == 1
    assert arn in polls[0]
