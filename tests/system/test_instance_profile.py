"""
Tests of the authentication method ``instance_profile`` in a real worker and a real
triggerer.
"""

from __future__ import annotations

import pytest

from tests.fakes.endpoints.metadata.ecs import ContainerCredentials
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.emulator_process import EmulatorProcess

pytestmark = [pytest.mark.system, pytest.mark.nightly]

DAG_ID = "host_sign_in"
RUN_TIMEOUT = 90.0
TASK_ROLE = "arn:aws:sts::123456789012:assumed-role/host/task"


def test_worker_and_triggerer_use_the_role_of_the_host(
    airflow: PrivateAirflow, emulator: EmulatorProcess, host: ContainerCredentials
) -> None:
    """
    All calls of a deferred and of a synchronous task are made with the container's task
    role.
    """
    client = airflow.client
    client.wait_for_dag(DAG_ID)
    before = len(emulator.control.calls())
    run_id = client.trigger(DAG_ID)
    client.unpause(DAG_ID)

    ended = client.wait_for_run(DAG_ID, run_id, timeout=RUN_TIMEOUT)

    assert ended == "success", client.log(DAG_ID, run_id, "deferred")
    arns = {
        client.xcom(DAG_ID, run_id, task, "execution_arn")
        for task in ("deferred", "synchronous")
    }
    calls = [
        call
        for call in emulator.control.calls()[before:]
        if call["request"].get("PipelineExecutionArn") in arns
        or str(call["request"].get("PipelineExecutionDisplayName")).startswith("host-")
    ]
    assert {call["operation"] for call in calls} >= {
        "StartPipelineExecution",
        "DescribePipelineExecution",
    }
    assert {call["caller"] for call in calls} == {TASK_ROLE}
    assert host.calls.count("credentials") > 0
