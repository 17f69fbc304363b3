"""
Retrain a model every week, without holding a worker while SageMaker works.

If a step fails, the retry goes on from there: what was prepared for hours is not paid for again.

Needs a connection ``polysync_default`` and a pipeline ``churn-tuning``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, XComArg, task

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(
    dag_id="scheduled_retraining",
    schedule="@weekly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"auc_threshold": 0.75},
    doc_md=__doc__,
):
    retrain = PolysyncStartPipelineOperator(
        task_id="retrain",
        pipeline_name="churn-tuning",
        pipeline_parameters={
            "InputData": "s3://ml-bucket/churn/raw/{{ dag_run.run_after | ds }}",
            "MaxJobs": 8,
            "AucThreshold": "{{ params.auc_threshold }}",
        },
        execution_description="Run {{ run_id }} of {{ dag.dag_id }}",
        deferrable=True,
        poll_interval=10,
        timeout=6 * 3600,
        retries=1,
        retry_mode="resume",
        retry_delay=timedelta(minutes=5),
    )

    @task
    def report(run: Any) -> str:
        """Pass on what happened; ``run`` is what the retraining pushed."""
        return f"{run['pipeline_name']} ended as {run['state']} after {run['seconds']:.0f} s"

    report(XComArg(retrain, key="run"))
