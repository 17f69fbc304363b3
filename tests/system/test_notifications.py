"""
The notifier of failures in a real Airflow: the text that Airflow's own notifier sends
to a mail server, in both modes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fakes.message_receiver import MessageReceiver
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.emulator_process import EmulatorProcess
from tests.system.process.sessions import wait_until

pytestmark = [pytest.mark.system, pytest.mark.nightly]

REASON = "No data {{ 7 * 7 }} <b>"


@pytest.fixture
def receiver(airflow: PrivateAirflow) -> Iterator[MessageReceiver]:
    """A mail server, to which the connection ``smtp_default`` leads."""
    with MessageReceiver().running() as receiver:
        connection = json.loads(receiver.connections()["smtp_default"])
        airflow.client.create_connection("smtp_default", connection)
        yield receiver
        airflow.client.delete_connection("smtp_default")


@pytest.mark.parametrize("dag_id", ["notify_by_email", "notify_from_the_worker"])
def test_mail_says_what_failed_and_what_comes_next(
    dag_id: str,
    airflow: PrivateAirflow,
    emulator: EmulatorProcess,
    receiver: MessageReceiver,
) -> None:
    """Once, with the links of the task, and with nothing of AWS's text rendered."""
    client = airflow.client
    emulator.control.put_scenario(
        {"speed": 10, "steps": {"AbaloneTrain": {"fail": {"reason": REASON}}}},
        pipeline="abalone",
    )
    client.wait_for_dag(dag_id)
    run_id = client.trigger(dag_id)
    client.unpause(dag_id)

    try:
        assert client.wait_for_run(dag_id, run_id, timeout=180) == "failed"
        assert wait_until(lambda: bool(receiver.messages), timeout=60), client.log(
            dag_id, run_id, "train"
        )
    finally:
        emulator.control.put_scenario({}, pipeline="abalone")
    (message,) = receiver.messages
    first, verdict, step, comes_next, *links = message.splitlines()
    assert first.endswith(
        f"Task train of DAG {dag_id} has failed (try 1, run {run_id})."
    )
    assert verdict.startswith("Pipeline abalone failed after ")
    assert step == "Step AbaloneTrain: No data {{ 7 * 7 }} &lt;b&gt;"
    assert comes_next.startswith("Nothing follows by itself: the task has failed.")
    console = client.links(dag_id, run_id, "train")["SageMaker Console"]
    assert console
    assert links[0] == "Execution: " + console.replace("&", "&amp;")
    page = f"{airflow.url}/dags/{dag_id}/runs/{run_id}/tasks/train"
    assert links[-1].startswith(f"Log of the task: {page}")
