"""
How many requests a deferred task sends to Airflow for its data, and what it pushes for
its buttons.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest
from airflow.sdk import BaseOperator
from jinja2 import UndefinedError

from polysync_airflow.deployment import DEPLOYMENT_KEY
from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator.builders import definition, step
from tests.fakes.task_sessions import TaskSessions
from tests.unit.jobs.catalogue.builders import put_pipelines
from tests.world import World

PIPELINE = "two-steps"
DEFINITION = definition(step("Prepare"), step("Train"))
LINK = "_link_PolysyncPipelineExecutionLink"


@pytest.fixture(autouse=True)
def _pipeline(world: World) -> None:
    put_pipelines(world.emulator, {PIPELINE: json.loads(DEFINITION)})


@pytest.fixture
def operator() -> BaseOperator:
    """
    Return a deferrable task whose pipeline has two steps, which run at the same time.
    """
    return PolysyncStartPipelineOperator(
        task_id="train", pipeline_name=PIPELINE, deferrable=True
    )


# With the request, with the ARN, and deleted, which Airflow reads before.
COPY_OF_RECORD = {"SetXCom": 2, "GetXCom": 1, "DeleteXCom": 1}


@pytest.mark.parametrize("copy", [{}, COPY_OF_RECORD], ids=["alone", "team"])
def test_deferred_task_sends_few_requests(
    copy: dict[str, int], operator: BaseOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where the deployment has a name, a task sends 20 requests: these 16, and four that
    Airflow sends for any deferred task (twice its rendered fields, the deferral, the
    success). Its identity is not read then. Neither the trigger nor the end reads
    anything. A team has a copy of the record, which its triggerer and the DAG processor
    can read.
    """
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", str(bool(copy)))
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__DEPLOYMENT", "prod")
    sessions = TaskSessions(monkeypatch)

    sessions.run(operator)

    without_copy = Counter(sessions.counts)
    without_copy.subtract(copy)
    assert +without_copy == {
        # Each XCom is a request of its own: Airflow has none for several. When the
        # execution exists, execution_arn, console_url, run and steps; by the trigger,
        # steps; at the end, steps, outputs, state, run, and Airflow's return_value.
        "SetXCom": 10,
        # The record: when the try begins, with the request, with the ARN, and deleted.
        "GetVariable": 1,
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


def test_deployment_without_a_name_costs_a_request(
    operator: BaseOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its identity is in a Variable, which a try reads once."""
    sessions = TaskSessions(monkeypatch)

    sessions.run(operator)

    assert sessions.requests.count(("GetVariable", DEPLOYMENT_KEY)) == 1


def test_password_of_the_connection_is_masked_once(
    operator: BaseOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow masks it, with the extra, at each read of the connection; no one else."""
    sessions = TaskSessions(monkeypatch)

    sessions.run(operator)

    extras = [each for each in sessions.masked if str(each).startswith('{"')]
    assert extras
    assert sessions.masked.count("emulated-secret-key") == len(extras)


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
