"""
One DAG for each test case in which both providers run a training job, with the operator
of this provider.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncRunJobOperator
from tests.chaos.compared import DAGRUN_TIMEOUT, NAME, TRAINING_JOB, compared_cases

for case, options in compared_cases("StartPipelineExecution").items():
    with DAG(
        dag_id=f"polysync_job_{case}",
        schedule=None,
        dagrun_timeout=DAGRUN_TIMEOUT.get(case),
    ):
        PolysyncRunJobOperator(
            **options,
            job_type="Training",
            config=TRAINING_JOB,
            pipeline_name=NAME,
            poll_interval=2,
        )
