"""
Sensors in a real triggerer: what others do ends them, and the button leads to what
others have started.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.console import execution_url
from polysync_airflow.links import PolysyncPipelineExecutionLink
from sagemaker_emulator.builders import ROLE, definition, step
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.emulator_process import EmulatorProcess
from tests.system.process.sessions import wait_until

pytestmark = [pytest.mark.system, pytest.mark.nightly]

DAG_IDS = ["sensing"]
if CAPABILITIES.start_from_trigger:
    DAG_IDS.append("sensing_without_worker")
LINK = PolysyncPipelineExecutionLink.name
TIMEOUT = 60.0
QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/sensed"
PIPELINE, FAILING_PIPELINE = "sensed", "sensed-failing"


@dataclass(frozen=True)
class Others:
    """What people have started and registered."""

    emulator: EmulatorProcess

    def create_pipeline(self, name: str) -> None:
        """Create a pipeline with a step that waits for its answer."""
        only = step("Only", "Callback", SqsQueueUrl=QUEUE)
        self.emulator.client().create_pipeline(
            PipelineName=name, PipelineDefinition=definition(only), RoleArn=ROLE
        )

    def token(self, arn: str) -> str | None:
        """Return the token of the step; None if it does not wait yet."""
        response = self.emulator.client().list_pipeline_execution_steps(
            PipelineExecutionArn=arn
        )
        steps = response["PipelineExecutionSteps"]
        token = (
            steps[0].get("Metadata", {}).get("Callback", {}).get("CallbackToken")
            if steps
            else None
        )
        return str(token) if token else None

    def start(self, pipeline: str, display_name: str) -> str:
        """Start an execution, and return its ARN."""
        response = self.emulator.client().start_pipeline_execution(
            PipelineName=pipeline, PipelineExecutionDisplayName=display_name
        )
        return str(response["PipelineExecutionArn"])

    def register(self, group: str) -> str:
        """Register a model that waits for its approval, and return its ARN."""
        response = self.emulator.client().create_model_package(
            ModelPackageGroupName=group, ModelApprovalStatus="PendingManualApproval"
        )
        return str(response["ModelPackageArn"])

    def decide(self, arn: str, status: str) -> None:
        """Approve or reject a model."""
        self.emulator.client().update_model_package(
            ModelPackageArn=arn,
            ModelApprovalStatus=status,
            ApprovalDescription=f"{status} by a test",
        )

    def remove(self, pipeline: str) -> None:
        """End what runs of a pipeline, and delete it."""
        sagemaker = self.emulator.client()

        def running() -> list[str]:
            listed = sagemaker.list_pipeline_executions(PipelineName=pipeline)[
                "PipelineExecutionSummaries"
            ]
            return [
                each["PipelineExecutionArn"]
                for each in listed
                if each["PipelineExecutionStatus"] == "Executing"
            ]

        for token in filter(None, map(self.token, running())):
            sagemaker.send_pipeline_execution_step_success(CallbackToken=token)
        assert wait_until(lambda: not running(), timeout=TIMEOUT)
        sagemaker.delete_pipeline(
            PipelineName=pipeline, ClientRequestToken=str(uuid.uuid4())
        )


@pytest.fixture
def others(emulator: EmulatorProcess) -> Iterator[Others]:
    """People with two pipelines, which other tests must not see."""
    others = Others(emulator)
    pipelines = (PIPELINE, FAILING_PIPELINE)
    for name in pipelines:
        others.create_pipeline(name)
    yield others
    for name in pipelines:
        others.remove(name)


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_others_end_deferred_sensors(
    dag_id: str, airflow: PrivateAirflow, emulator: EmulatorProcess, others: Others
) -> None:
    """
    One DAG run: a search and an approval succeed, a failed execution and a rejection
    fail.
    """
    client, sagemaker = airflow.client, emulator.client()
    group = dag_id.replace("_", "-")
    sagemaker.create_model_package_group(ModelPackageGroupName=group)
    models = {name: others.register(group) for name in ("approved", "rejected")}
    failing = others.start(FAILING_PIPELINE, "x")
    # One that the search does not mean.
    others.start(PIPELINE, "manual-1")
    client.wait_for_dag(dag_id)
    run_id = client.trigger(dag_id, conf={"failing": failing, **models})
    client.unpause(dag_id)

    def states() -> dict[str, str]:
        return client.task_states(dag_id, run_id)

    def link(task: str) -> str | None:
        return client.links(dag_id, run_id, task)[LINK]

    assert wait_until(
        lambda: set(states().values()) == {"deferred"}, timeout=TIMEOUT
    ), states()
    assert link("find") is None
    found = others.start(PIPELINE, "nightly-1")
    assert wait_until(lambda: link("find") is not None, timeout=TIMEOUT)
    assert states()["find"] in ("running", "deferred")
    assert link("find") == execution_url(found, PIPELINE)
    assert wait_until(lambda: others.token(found) is not None, timeout=TIMEOUT)
    assert wait_until(lambda: others.token(failing) is not None, timeout=TIMEOUT)
    sagemaker.send_pipeline_execution_step_success(CallbackToken=others.token(found))
    sagemaker.send_pipeline_execution_step_failure(
        CallbackToken=others.token(failing), FailureReason="No data"
    )
    others.decide(models["approved"], "Approved")
    others.decide(models["rejected"], "Rejected")
    assert client.wait_for_run(dag_id, run_id, timeout=TIMEOUT) == "failed"

    ends = {
        "find": "success",
        "approved": "success",
        "failing": "failed",
        "rejected": "failed",
    }
    assert states() == ends
    assert {task["try_number"] for task in client.tasks(dag_id, run_id)} == {1}
    if dag_id == "sensing_without_worker":
        # Only a worker can fail a task without the retries that it has.
        without_worker = {
            t["task_id"]
            for t in client.tasks(dag_id, run_id)
            if not t["hostname"] and not t["pid"]
        }
        assert without_worker == {"find", "approved", "failing"}
    assert client.xcom(dag_id, run_id, "find", "return_value") == found
    assert client.xcom(dag_id, run_id, "find", "state") == "Success"
    assert link("find") == execution_url(found, PIPELINE)
    assert link("failing") == execution_url(failing, FAILING_PIPELINE)
    for task, text in (
        ("failing", "Step Only failed: No data"),
        ("rejected", f"Model package {models['rejected']} is rejected"),
        ("rejected", "Rejected by a test"),
    ):
        assert text in "\n".join(client.log(dag_id, run_id, task))
    # Nobody has stopped or changed what others have started.
    assert not [
        call
        for call in emulator.control.calls("StopPipelineExecution")
        if "sensed" in str(call["request"])
    ]
