from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG("quickstart", schedule=None):
    PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="abalone",
        pipeline_parameters={"InputDataUrl": "s3://ml-bucket/abalone.csv"},
        deferrable=True,
    )
