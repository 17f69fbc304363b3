"""
One DAG for each test case that the Amazon provider is measured in, with its operator
for a training job.
"""

from __future__ import annotations

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator
from airflow.providers.common.compat.sdk import DAG

from tests.chaos.compared import DAGRUN_TIMEOUT, NAME, TRAINING_JOB, compared_cases

CASES = compared_cases("CreateTrainingJob")
CASES["2a"] = {**CASES["2"], "action_if_job_exists": "fail"}

for case, options in CASES.items():
    with DAG(
        dag_id=f"amazon_job_{case}",
        schedule=None,
        dagrun_timeout=DAGRUN_TIMEOUT.get(case),
    ):
        SageMakerTrainingOperator(
            **options,
            config={**TRAINING_JOB, "TrainingJobName": NAME},
            check_interval=2,
            # The default is 60, here two minutes.
            max_attempts=9999,
        )
