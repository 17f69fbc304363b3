"""
Start a pipeline when the data of the day has arrived in S3.

The sensor waits for the object ``_SUCCESS``, which whoever writes the data writes last.
It needs ``apache-airflow-providers-amazon``, and a connection ``aws_default`` that may
read the bucket; with its extra ``aiobotocore``, ``deferrable=True`` waits without a
worker in place of ``mode="reschedule"``.

The pipeline needs a connection ``polysync_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

DATA = "s3://ml-bucket/incoming/{{ ds }}"

with DAG(
    dag_id="start_on_new_data",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    doc_md=__doc__,
):
    arrived = S3KeySensor(
        task_id="arrived",
        bucket_key=f"{DATA}/_SUCCESS",
        mode="reschedule",
        poke_interval=300,
        timeout=timedelta(hours=12),
    )
    train = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="churn-tuning",
        pipeline_parameters={"InputData": DATA},
        deferrable=True,
    )
    arrived >> train
