"""
A retraining that a person resumes, repeats or stops in the tab, and a task after it.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="failed_retraining", schedule=None):
    retrain = PolysyncStartPipelineOperator(
        task_id="retrain",
        pipeline_name="churn-tuning",
        deferrable=True,
        poll_interval=2,
    )

    @task
    def deploy() -> None:
        """Do nothing: the task shows what runs after the retraining."""

    retrain >> deploy()
