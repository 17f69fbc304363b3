"""
The retraining example in the synchronous mode: the worker waits for the execution.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="retraining_on_the_worker", schedule=None):
    PolysyncStartPipelineOperator(
        task_id="retrain",
        pipeline_name="churn-tuning",
        deferrable=False,
        poll_interval=1,
        progress_interval=10,
        job_logs=True,
    )
