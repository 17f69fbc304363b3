"""
Import pipelines as jobs, and start each pipeline with the default parameter values that it declares.

The imported jobs are mapped to start tasks: one mapped task for each job.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.jobs import start_arguments
from polysync_airflow.operators import PolysyncListImportOperator, PolysyncStartPipelineOperator

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
