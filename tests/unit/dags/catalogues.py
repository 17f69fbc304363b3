"""Writes catalogue files and DAG files, and lets Airflow parse them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.jobs.catalogue import CatalogueJob, catalogue_text

# The imports of each DAG file.
IMPORTS = """
from airflow.providers.common.compat.sdk import DAG, task
from polysync_airflow.dags import polysync_dags, polysync_task_group
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
"""
PIPELINES = "arn:aws:sagemaker:us-east-1:123456789012:pipeline"


class Parsed(NamedTuple):
    """
    What Airflow has found in a DAG file.

    :param dags: the DAGs by id.
    :param errors: the import errors by file name.
    """

    dags: dict[str, Any]
    errors: dict[str, str]


def parameter(name: str, kind: str = "String", **members: Any) -> dict[str, Any]:
    """Return a parameter of a catalogue's job."""
    return {"name": name, "type": kind, **members}


def job(name: str, *parameters: dict[str, Any], **members: Any) -> CatalogueJob:
    """Return a job of a catalogue."""
    return CatalogueJob.model_validate(
        {
            "name": name,
            "arn": f"{PIPELINES}/{name}",
            "region": "us-east-1",
            "parameters": list(parameters),
            **members,
        }
    )


def parse(
    folder: Path, code: str, *jobs: CatalogueJob, text: str | None = None
) -> Parsed:
    """
    Write ``jobs.yaml`` and a DAG file with this code, and return what Airflow finds in
    it.
    """
    (folder / "jobs.yaml").write_text(catalogue_text(jobs) if text is None else text)
    file = folder / "dag_file.py"
    file.write_text(IMPORTS + dedent(code))
    module = (
        "airflow.dag_processing.dagbag"
        if CAPABILITIES.task_sdk
        else "airflow.models.dagbag"
    )
    bag = import_module(module).DagBag(file)
    return Parsed(
        dict(bag.dags),
        {Path(path).name: error for path, error in bag.import_errors.items()},
    )
