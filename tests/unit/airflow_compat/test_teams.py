"""What Airflow hides of a team: the warning at parse time, errors, and Variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from polysync_airflow.airflow_compat import teams
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import (
    PolysyncCallbackStepOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.sensors import PolysyncModelApprovalSensor, PolysyncPipelineSensor
from tests.conftest import ARN, use_connection
from tests.unit.operators.recovery.harness import Task

if not CAPABILITIES.variable_keys:
    pytest.skip("teams are tested from Airflow 3.3 on", allow_module_level=True)

CONNECTION = "of_team"
START: dict[str, Any] = {"task_id": "train", "pipeline_name": "fanout"}
OTHERS: dict[type, dict[str, Any]] = {
    PolysyncStopPipelineOperator: {"execution_arn": ARN},
    PolysyncCallbackStepOperator: {
        "execution_arn": ARN,
        "step_name": "Ask",
        "python_callable": dict,
    },
    PolysyncPipelineSensor: {"execution_arn": ARN},
    PolysyncModelApprovalSensor: {
        "model_package_arn": "arn:aws:sagemaker:us-east-1:123456789012:model-package/a/1"
    },
}
TEAMS = " With [core] multi_team = True"


@pytest.fixture(autouse=True)
def _teams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Behave as the DAG processor of a deployment with teams."""
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    teams._warn_if_missing.cache_clear()
    yield
    teams._warn_if_missing.cache_clear()


def start(**arguments: Any) -> None:
    """Parse a Start task."""
    PolysyncStartPipelineOperator(
        **{"polysync_conn_id": CONNECTION, **START, **arguments}
    )


@pytest.mark.parametrize("deferrable", [True, False])
def test_connection_that_the_dag_processor_does_not_find(
    deferrable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Also for a task that waits on a worker: its failure callback needs it. One warning
    is enough for a file.
    """
    start(deferrable=deferrable)
    start(deferrable=deferrable)

    (line,) = caplog.messages
    assert line.startswith(f"polysync_conn_id = '{CONNECTION}'")
    assert TEAMS in line


def test_mapped_task_logs_the_same_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The DAG processor does not create its operators."""
    PolysyncStartPipelineOperator.partial(
        task_id="train", polysync_conn_id=CONNECTION
    ).expand(pipeline_name=["fanout"])
    PolysyncStartPipelineOperator.partial(task_id="more").expand(pipeline_name=["a"])

    assert [line.split(":")[0] for line in caplog.messages] == [
        f"polysync_conn_id = '{CONNECTION}'",
        "polysync_conn_id = 'polysync_default'",
    ]


@pytest.mark.parametrize("operator", OTHERS)
def test_only_deferred_tasks_of_others_need_it(
    operator: type, caplog: pytest.LogCaptureFixture
) -> None:
    """On a worker, they find the connection of their team."""
    arguments = {"task_id": "other", "polysync_conn_id": CONNECTION, **OTHERS[operator]}

    operator(**arguments, deferrable=False)
    assert caplog.messages == []

    operator(**arguments, deferrable=True)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("context", "multi_team", "connection_id"),
    [
        # The process of a task, which parses the DAG, too.
        (None, "True", CONNECTION),
        ("server", "True", CONNECTION),
        ("client", "False", CONNECTION),
        ("client", "True", "{{ params.connection }}"),
        ("client", "True", "in_the_environment"),
    ],
)
def test_nothing_is_logged_if_nothing_is_known_to_be_missing(
    context: str | None,
    multi_team: str,
    connection_id: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is missing, or that is not known."""
    use_connection(monkeypatch, "in_the_environment")
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", multi_team)
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT")
    if context:
        monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", context)

    start(polysync_conn_id=connection_id)

    assert caplog.messages == []


@pytest.mark.parametrize("multi_team", ["True", "False"])
def test_error_of_a_missing_connection_names_teams(
    multi_team: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a triggerer, the connection exists, but is not found."""
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", multi_team)

    with pytest.raises(CredentialsError) as raised:
        _ = PolysyncSageMakerHook(CONNECTION).credentials

    assert (TEAMS in str(raised.value)) == (multi_team == "True")


def test_worker_knows_the_team_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own configuration may not name teams."""
    monkeypatch.delenv("AIRFLOW__CORE__MULTI_TEAM")
    context: Any = Task().ti.context(Task().operator)
    assert not teams.may_be_hidden(context)

    context["dag_run"].team_name = "research"

    assert teams.may_be_hidden(context)
