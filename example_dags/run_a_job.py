"""A processing job for each day, without a pipeline that somebody has to make."""

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncRunJobOperator

with DAG("run_a_job", schedule=None):
    report = PolysyncRunJobOperator(
        task_id="report",
        job_type="Processing",
        config={
            "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
            "AppSpecification": {
                "ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/report:1",
                "ContainerArguments": ["--run", "{{ run_id }}"],
            },
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceType": "ml.m5.large",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 10,
                }
            },
        },
        deferrable=True,
    )
