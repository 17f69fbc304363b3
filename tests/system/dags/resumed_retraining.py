"""
A retraining whose failed execution goes on from the failed step when a person clears
its task.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="resumed_retraining", schedule=None):
    PolysyncStartPipelineOperator(
        task_id="retrain",
        pipeline_name="churn-tuning",
        deferrable=True,
        poll_interval=2,
        progress_interval=10,
        on_clear="resume",
    )
