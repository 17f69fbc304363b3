"""
Stop an execution that costs too much.

All executions, resumes and retries of a task count together, from one clear to the
next. The limit is a parameter of the DAG, so that a run may get more.

This DAG needs a connection ``polysync_default``, a pipeline ``churn-tuning``, and
``[polysync_sagemaker] hourly_prices``, which ``polysync prices`` writes.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Param

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(
    dag_id="limit_costs",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={"max_cost": Param(50, type="number", exclusiveMinimum=0)},
    doc_md=__doc__,
):
    PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="churn-tuning",
        pipeline_parameters={"MaxJobs": 8},
        max_cost="{{ params.max_cost }}",
        deferrable=True,
        poll_interval=30,
        progress_interval=30,
        retries=2,
        retry_mode="resume",
    )
