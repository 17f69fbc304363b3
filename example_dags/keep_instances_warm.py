"""
Train again and again, without the wait for instances.

After a run, AWS keeps the instances for 20 minutes, and bills them. A run that begins
in this time gets them.
"""

from airflow.providers.common.compat.sdk import DAG, Param

from polysync_airflow.operators import PolysyncRunJobOperator

with DAG(
    "keep_instances_warm",
    schedule=None,
    params={"epochs": Param(10, type="integer", minimum=1)},
    doc_md=__doc__,
):
    PolysyncRunJobOperator(
        task_id="train",
        job_type="Training",
        config={
            "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
            "AlgorithmSpecification": {
                "TrainingImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/train:1",
                "TrainingInputMode": "File",
            },
            "HyperParameters": {"epochs": "{{ params.epochs }}"},
            "OutputDataConfig": {"S3OutputPath": "s3://ml-bucket/models"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.xlarge",
                "InstanceCount": 1,
                "VolumeSizeInGB": 30,
                "KeepAlivePeriodInSeconds": 1200,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        },
        deferrable=True,
    )
