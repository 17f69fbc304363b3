"""
Import pipelines as jobs, and start those whose parameters have values.

One mapped task starts each job, with ``values`` and with the default values that the
pipeline declares. The pipeline scoring-required-params needs values that nobody gives
here: the task ``jobs_to_start`` leaves it out and says why in its log.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.jobs import jobs_to_start
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
)

with DAG(
    dag_id="import_and_fan_out",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    jobs = PolysyncListImportOperator(
        task_id="import_jobs",
        pipeline_names=["churn-tuning", "fanout", "scoring-required-params"],
    )

    PolysyncStartPipelineOperator.partial(
        task_id="start",
        deferrable=True,
        poll_interval=10,
        on_completed_with_failures="succeed",
    ).expand_kwargs(jobs_to_start(jobs.output, values={"MaxJobs": 2}))
