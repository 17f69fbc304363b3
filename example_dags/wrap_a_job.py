"""A processing job as a pipeline with one step, which is made before it is started."""

import json
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from polysync_airflow.operators import PolysyncStartPipelineOperator

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
REPORT = {
    "Name": "Report",
    "Type": "Processing",
    "Arguments": {
        "RoleArn": ROLE,
        "AppSpecification": {
            "ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/report:1",
            "ContainerArguments": ["--day", {"Get": "Parameters.Day"}],
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 10,
            }
        },
    },
}
DEFINITION = {
    "Version": "2020-12-01",
    "Parameters": [{"Name": "Day", "Type": "String"}],
    "Steps": [REPORT],
}


with DAG("wrap_a_job", schedule=None):

    @task
    def define() -> None:
        from polysync_airflow.hooks import PolysyncSageMakerHook

        client: Any = PolysyncSageMakerHook().get_conn()  # of boto3
        pipeline = {
            "PipelineName": "daily-report",
            "PipelineDefinition": json.dumps(DEFINITION),
            "RoleArn": ROLE,
        }
        try:
            client.update_pipeline(**pipeline)
        except client.exceptions.ResourceNotFound:
            client.create_pipeline(**pipeline)

    report = PolysyncStartPipelineOperator(
        task_id="report",
        pipeline_name="daily-report",
        pipeline_parameters={"Day": "2026-11-26"},
        deferrable=True,
    )
    define() >> report
