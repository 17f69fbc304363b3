"""
Retrain a model every week, without holding a worker slot while SageMaker runs the
pipeline.

If a step fails, the retry resumes the execution: the steps that have succeeded are not
repeated, and are not paid for again.

This DAG needs a connection ``polysync_default`` and a pipeline ``churn-tuning``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, XComArg, task

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
            # A run that the REST API triggers may have no data interval.
            "InputData": (
                "s3://ml-bucket/churn/raw/{{ (data_interval_end if data_interval_end is"
                " defined else dag_run.run_after) | ds }}"
            ),
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
        """
        Return a summary of the execution; ``run`` is the XCom that the task ``retrain``
        pushes.
        """
        return (
            f"{run['pipeline_name']} ended as {run['state']} after"
            f" {run['seconds']:.0f} s"
        )

    report(XComArg(retrain, key="run"))
