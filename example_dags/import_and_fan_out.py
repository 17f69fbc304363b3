"""
Import pipelines as jobs and start each of them with the defaults that it declares.

The imported jobs map straight onto Start: one mapped task for each.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG

from polysync_airflow.operators import PolysyncListImportOperator, PolysyncStartPipelineOperator


def start_arguments(job: dict[str, Any]) -> dict[str, Any]:
    """Choose a start's arguments from an imported job: every declared default, spelled out."""
    defaults = {p["name"]: p["default"] for p in job["parameters"] if p["default"] is not None}
    return {"pipeline_name": job["name"], "pipeline_parameters": defaults}


with DAG(
    dag_id="import_and_fan_out",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    jobs = PolysyncListImportOperator(task_id="import_jobs", pipeline_names=["churn-tuning", "fanout"])

    PolysyncStartPipelineOperator.partial(
        task_id="start", deferrable=True, poll_interval=10, on_completed_with_failures="succeed"
    ).expand_kwargs(jobs.output.map(start_arguments))
