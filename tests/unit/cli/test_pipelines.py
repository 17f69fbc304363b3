"""``polysync pipelines``: which pipelines no task needs any more, and their deletion."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.job_pipelines import origin_tags, pipeline_name
from polysync_airflow.testing import dag_files
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step
from tests.unit.cli.conftest import Polysync, Terminal
from tests.unit.events.conftest import client

pytestmark = pytest.mark.usefixtures("airflow_database", "stored_dag")
DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG
from polysync_airflow.operators import PolysyncListImportOperator

with DAG("made_nightly", schedule=None):
    PolysyncListImportOperator(task_id="train")
"""
OWN = ("prod", "made_nightly", "train")
NO_TASK = ("prod", "made_nightly", "score")
NO_DAG = ("prod", "made_weekly", "train")
OTHER = ("staging", "made_nightly", "score")
COPIED = f"{pipeline_name(*NO_TASK)[:-8]}00000000"


@pytest.fixture
def stored_dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Store a DAG as the DAG processor does."""
    from airflow.api.common.delete_dag import delete_dag

    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__DEPLOYMENT", "prod")
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "dag.py"
    path.write_text(DAG_FILE)
    bag = dag_files._parse(path)
    if CAPABILITIES.task_sdk:
        dag_files._store(bag)
    else:
        bag.sync_to_db()
    yield
    delete_dag("made_nightly")


@pytest.fixture
def sagemaker(emulator: EmulatorServer) -> Any:
    """A client of boto3, after tasks have made pipelines, and somebody copied tags."""
    sagemaker = client(emulator, "sagemaker")
    names = {pipeline_name(*each): each for each in (OWN, NO_TASK, NO_DAG, OTHER)}
    for name, origin in {**names, COPIED: NO_TASK, "named": NO_TASK}.items():
        tags = origin_tags(*origin).items()
        sagemaker.create_pipeline(
            PipelineName=name,
            PipelineDefinition=definition(step("A")),
            RoleArn=ROLE,
            Tags=[{"Key": key, "Value": value} for key, value in tags],
        )
    return sagemaker


def names_of(sagemaker: Any) -> set[str]:
    """Return the pipelines whose names follow from tasks."""
    listed = sagemaker.list_pipelines(PipelineNamePrefix="airflow")
    return {each["PipelineName"] for each in listed["PipelineSummaries"]}


def test_list_is_of_this_deployment_and_says_which_task_is_gone(
    polysync: Polysync, sagemaker: Any
) -> None:
    """Others have the same DAG, and anybody can copy tags."""
    listed = polysync("pipelines", "list", "--output", "json").document["pipelines"]
    unused = polysync("pipelines", "list", "--unused")

    exists = {each["name"]: each["task_exists"] for each in listed}
    gone = [pipeline_name(*each) for each in (NO_TASK, NO_DAG)]
    assert exists == {pipeline_name(*OWN): True, **dict.fromkeys(gone, False)}
    assert [line.split()[0] for line in unused.out.splitlines()[1:]] == gone
    assert (unused.code, unused.out.split()[-3:]) == (0, ["made_weekly", "train", "no"])


def test_delete_asks_and_deletes_no_other_pipeline(
    polysync: Polysync, sagemaker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is refused keeps all; AWS keeps one that has a running execution."""
    before = names_of(sagemaker)
    gone, running = (pipeline_name(*each) for each in (NO_TASK, OWN))
    sagemaker.start_pipeline_execution(PipelineName=running)
    delete = ("pipelines", "delete", gone)

    for other in (pipeline_name(*OTHER), COPIED, "named", "missing"):
        refused = polysync(*delete, other, "--yes")
        assert (refused.code, other in refused.err) == (2, True)
    unasked = polysync(*delete)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    declined = polysync(*delete)
    assert (unasked.code, declined.code, names_of(sagemaker)) == (2, 1, before)
    assert "made_nightly" in declined.err
    done = polysync(*delete, running, "--yes", "--output", "json")

    assert (done.code, names_of(sagemaker)) == (1, before - {gone})
    rows = {each["name"]: each["problem"] for each in done.document["pipelines"]}
    assert rows[gone] is None
    assert "has running executions" in rows[running]


def test_without_the_database_it_says_so(
    polysync: Polysync, sagemaker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each pipeline would seem to be unused."""
    from sqlalchemy.exc import OperationalError

    def refuse(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("no route to host"))

    with monkeypatch.context() as patches:
        patches.setattr("airflow.utils.session.create_session", refuse)
        result = polysync("pipelines", "list", "--unused")

    assert "Airflow's database cannot be used: no route to host" in result.refusal
