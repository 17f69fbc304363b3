"""Signing in as the host, in a real worker and a real triggerer."""

from __future__ import annotations

import pytest

from tests.auth.endpoints.ecs import ContainerCredentials
from tests.system.local_emulator import LocalEmulator
from tests.system.private_airflow import PrivateAirflow

pytestmark = pytest.mark.system

DAG_ID = "host_sign_in"
RUN_TIMEOUT = 90.0
HOST = "arn:aws:sts::123456789012:assumed-role/host/task"


def test_worker_and_triggerer_use_what_the_host_was_given(
    airflow: PrivateAirflow, emulator: LocalEmulator, host: ContainerCredentials
) -> None:
    """Starts and looks, deferred and not, are made as the container's task role, and by nobody else's key."""
    client = airflow.client
    client.wait_for_dag(DAG_ID)
    before = len(emulator.control.calls())
    run_id = client.trigger(DAG_ID)
    client.unpause(DAG_ID)

    ended = client.wait_for_run(DAG_ID, run_id, timeout=RUN_TIMEOUT)

    assert ended == "success", client.log(DAG_ID, run_id, "deferred")
    arns = {client.xcom(DAG_ID, run_id, task, "execution_arn") for task in ("deferred", "synchronous")}
    calls = [
        call
        for call in emulator.control.calls()[before:]
        if call["request"].get("PipelineExecutionArn") in arns
        or str(call["request"].get("PipelineExecutionDisplayName")).startswith("host-")
    ]
    assert {call["operation"] for call in calls} >= {"StartPipelineExecution", "DescribePipelineExecution"}
    assert {call["caller"] for call in calls} == {HOST}
    assert host.calls.count("credentials") > 0
