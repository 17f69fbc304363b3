"""
DAGs that each start the executions of one pipeline, for the page with the executions of
all DAGs.
"""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

for number in range(int(os.environ.get("POLYSYNC_TEST_DAGS", "4"))):
    with DAG(f"retraining_{number:02}", schedule=None):
        PolysyncStartPipelineOperator(
            task_id="train", pipeline_name=f"pipeline-{number:02}", deferrable=True
        )
