"""A retraining whose retry resumes the failed steps."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="retried_retraining", schedule=None):
    PolysyncStartPipelineOperator(
        task_id="retrain",
        pipeline_name="churn-tuning",
        deferrable=True,
        poll_interval=2,
        progress_interval=10,
        retry_mode="resume",
        retries=1,
        retry_delay=timedelta(seconds=15),
    )
