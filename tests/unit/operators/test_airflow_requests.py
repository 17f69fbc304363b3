"""
How many requests a deferred task sends to Airflow for its data, and what it pushes for
its buttons.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerStartPipelineOperator,
)
from airflow.sdk import BaseOperator
from jinja2 import UndefinedError

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.fakes.task_sessions import TaskSessions
from tests.world import World

PIPELINE = "two-steps"
DEFINITION = definition(step("Prepare"), step("Train"))
LINK = "_link_PolysyncPipelineExecutionLink"


@pytest.fixture(autouse=True)
def _pipeline(world: World) -> None:
    client: Any = PolysyncSageMakerHook().conn
    client.create_pipeline(
        PipelineName=PIPELINE,
        PipelineDefinition=DEFINITION,
        RoleArn="arn:aws:iam::123456789012:role/pipelines",
        ClientRequestToken=f"{0:0>40}",
    )


@pytest.fixture
def operator() -> BaseOperator:
    """
    Return a deferrable task whose pipeline has two steps, which run at the same time.
    """
    return PolysyncStartPipelineOperator(
        task_id="train", pipeline_name=PIPELINE, deferrable=True
    )


def test_deferred_task_sends_few_requests(
    operator: BaseOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nothing is pushed twice with the same value, and neither the trigger nor the end
    reads anything.
    """
    sessions = TaskSessions(monkeypatch)

    sessions.run(operator)

    assert sessions.counts == {
        # Four when the execution exists, one by the trigger, five at the end.
        "SetXCom": 10,
        # The record: when the try begins, with the request, with the ARN, and deleted;
        # and the identity of the deployment.
        "GetVariable": 2,
        "PutVariable": 2,
        "DeleteVariable": 1,
        # Whether this try is the current one, before the request is stored and sent.
        "ValidateInletsAndOutlets": 1,
        # Whether somebody has ended the task while its execution was started.
        "GetTaskStates": 1,
    }
    assert [request for request in sessions.requests if "_link" in str(request)] == []
    assert sessions.xcoms["console_url"].startswith(
        "https://us-east-1.console.aws.amazon.com/"
    )


def test_task_of_a_team_sends_four_requests_more(
    operator: BaseOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    For the copy of its record, which its triggerer and the DAG processor can read: with
    the request, with the ARN, and deleted.
    """
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    sessions = TaskSessions(monkeypatch)

    sessions.run(operator)

    assert sessions.counts == {
        "SetXCom": 12,
        # Airflow reads an XCom that it deletes.
        "GetXCom": 1,
        "DeleteXCom": 1,
        "GetVariable": 2,
        "PutVariable": 2,
        "DeleteVariable": 1,
        "ValidateInletsAndOutlets": 1,
        "GetTaskStates": 1,
    }


def test_custom_xcom_backend_costs_a_request_for_each_button(
    operator: BaseOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The UI shows what Airflow itself stores; a session that knows no URL leaves it as it
    is.
    """
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "example.Backend")
    sessions = TaskSessions(monkeypatch)

    sessions.run(operator)

    # While the task runs, and at the end of its first session, directly.
    assert [key for _, key in sessions.requests if key and "_link" in key] == [
        LINK,
        LINK,
    ]
    assert sessions.xcoms[LINK] == sessions.xcoms["console_url"]


def test_failure_before_the_first_session_pushes_no_button(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Airflow asks for the URLs of all tasks, also of one whose templates cannot be
    rendered.
    """
    sessions = TaskSessions(monkeypatch)

    with pytest.raises(UndefinedError):
        sessions.run(
            PolysyncStartPipelineOperator(
                task_id="train", pipeline_name="{{ nothing.at_all }}"
            )
        )

    assert sessions.counts["SetXCom"] == 0


def test_amazon_operator_pushes_its_result_only(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What the documentation compares with. It pushes its result alone, and has no record.
    """
    extra = {"region_name": "us-east-1", "endpoint_url": emulator.endpoint_url}
    connection = {
        "conn_type": "aws",
        "login": "test",
        "password": "test",
        "extra": extra,
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    sessions = TaskSessions(monkeypatch)

    operator = SageMakerStartPipelineOperator(
        task_id="train", pipeline_name=PIPELINE, deferrable=True
    )
    sessions.run(
        operator,
        event={"status": "success", "value": {"pipeline_execution_arn": "arn"}},
    )

    assert sessions.requests == [("SetXCom", "return_value")]
