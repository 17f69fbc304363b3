"""
The tasks whose pages the tests open. They never run: the tests write what such tasks
would have stored.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

from polysync_airflow.operators import (
    PolysyncCallbackStepOperator,
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.sensors import PolysyncPipelineSensor
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup

with DAG("churn_retraining", schedule=None):
    PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="churn-tuning", deferrable=True
    )
    PolysyncStartPipelineOperator.partial(
        task_id="train_each", pipeline_name="churn-tuning"
    ).expand(
        pipeline_parameters=[{"Region": "eu"}, {"Region": "us"}, {"Region": "apac"}]
    )
    # Their runs are compared: each test has a task of its own.
    for name in ("train_us", "train_apac", "train_eu", "tune"):
        PolysyncStartPipelineOperator(task_id=name, pipeline_name="churn-tuning")
    PolysyncStartPipelineOperator.partial(
        task_id="tune_each", pipeline_name="churn-tuning"
    ).expand(pipeline_parameters=[{"Region": "eu"}, {"Region": "us"}])
    PolysyncListImportOperator(task_id="import_jobs")
    PolysyncStopPipelineOperator(
        task_id="stop",
        execution_arn="arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn-tuning/execution/k3m9x2p7q1ab",
    )
    PolysyncCallbackStepOperator(
        task_id="approve",
        execution_arn="arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn-tuning/execution/k3m9x2p7q1ab",
        step_name="Approve",
        python_callable=dict,
    )
    PolysyncPipelineSensor(task_id="find", pipeline_name="churn-tuning")
    EmptyOperator(task_id="notify")

with DAG("churn_steps", schedule=None):
    churn = PolysyncPipelineTaskGroup(
        "churn", pipeline_name="churn-tuning", definition="churn_steps.json"
    )
    EmptyOperator(task_id="prepare") >> churn
    churn["Train"] >> EmptyOperator(task_id="compare")
