"""
One DAG for each test case that the amazon provider is measured in, with the operator of
that provider.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerStartPipelineOperator,
)
from airflow.providers.common.compat.sdk import DAG

from tests.chaos.kill_points import kill_at_call

# The operator's arguments, by test case.
CASES: dict[str, dict[str, Any]] = {
    "2": {"pre_execute": kill_at_call("StartPipelineExecution", after_response=True)},
    "6a": {},
    "6b": {},
    "8a": {},
    "8b": {},
    "8c": {},
    "8d": {},
    "9a": {"execution_timeout": timedelta(seconds=60), "retries": 0},
    "9b": {
        "execution_timeout": timedelta(seconds=60),
        "retries": 0,
        "deferrable": False,
    },
    "9c": {},
}
DAGRUN_TIMEOUT = {"9c": timedelta(seconds=90)}

COMMON: dict[str, Any] = {
    "task_id": "start",
    "pipeline_name": "{{ dag_run.conf['pipeline'] }}",
    "deferrable": True,
    "wait_for_completion": True,
    "check_interval": 2,
    "retries": 2,
    "retry_delay": timedelta(seconds=2),
}

for case, options in CASES.items():
    with DAG(
        dag_id=f"amazon_{case}", schedule=None, dagrun_timeout=DAGRUN_TIMEOUT.get(case)
    ):
        SageMakerStartPipelineOperator(**{**COMMON, **options})
