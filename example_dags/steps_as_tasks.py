"""
Show each step of a pipeline as a task of its own, and deploy the model as soon as its
step has registered it.

The graph comes from ``churn_tuning.json``, the definition of the pipeline: ``aws
sagemaker describe-pipeline --pipeline-name churn-tuning --query PipelineDefinition
--output text``. The task ``deploy`` needs the step ``ChurnRegister`` only, and is
skipped if the condition of the pipeline does not let that run. To repeat some steps,
clear their tasks with "Downstream".

The DAG needs a connection ``polysync_default`` and the pipeline ``churn-tuning``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from polysync_airflow.task_groups import PolysyncPipelineTaskGroup

with DAG(
    dag_id="steps_as_tasks",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    churn = PolysyncPipelineTaskGroup(
        "churn",
        pipeline_name="churn-tuning",
        definition="churn_tuning.json",
        pipeline_parameters={"MaxJobs": 8},
        retries=1,
    )

    @task
    def deploy(made: Any) -> str:
        """Deploy the model; this example only returns its ARN."""
        return str(made["model_package_arn"])

    deploy(churn["ChurnRegister"].output)
