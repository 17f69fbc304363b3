"""
Starts that AWS rejects: with the operators' default retry policy, and with a policy of
the DAG author.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.retrying import PolysyncRetryPolicy

POLICIES = {
    "rejected_starts": None,
    "rejected_starts_own_policy": PolysyncRetryPolicy(
        retry_after={"ResourceLimitExceeded": timedelta(seconds=2)}
    ),
}

for dag_id, policy in POLICIES.items():
    with DAG(
        dag_id=dag_id,
        schedule=None,
        default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
    ):
        PolysyncStartPipelineOperator(
            task_id="start",
            pipeline_name="fanout",
            wait_for_completion=False,
            retry_policy=policy,
        )
