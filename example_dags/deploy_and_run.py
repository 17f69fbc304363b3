"""A pipeline whose definition is beside the DAG file: it is updated, and then run."""

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import (
    PolysyncPutPipelineOperator,
    PolysyncStartPipelineOperator,
)

with DAG("deploy_and_run", schedule=None):
    deploy = PolysyncPutPipelineOperator(
        task_id="deploy",
        pipeline_name="churn-deployed",
        definition="churn_tuning.json",
        role_arn="arn:aws:iam::123456789012:role/SageMakerRole",
    )
    PolysyncStartPipelineOperator(
        task_id="run",
        pipeline_name=deploy.output,
        pipeline_version_id=deploy.output["pipeline_version_id"],
        deferrable=True,
    )
