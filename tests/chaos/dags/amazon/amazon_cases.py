"""
One DAG for each test case that the Amazon provider is measured in, with the operator of
that provider.
"""

from __future__ import annotations

from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerStartPipelineOperator,
)
from airflow.providers.common.compat.sdk import DAG

from tests.chaos.compared import DAGRUN_TIMEOUT, NAME, compared_cases

for case, options in compared_cases("StartPipelineExecution").items():
    with DAG(
        dag_id=f"amazon_{case}", schedule=None, dagrun_timeout=DAGRUN_TIMEOUT.get(case)
    ):
        SageMakerStartPipelineOperator(
            **options, pipeline_name=NAME, wait_for_completion=True, check_interval=2
        )
