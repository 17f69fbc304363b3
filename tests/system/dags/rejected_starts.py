"""
Starts that AWS rejects: with the operators' default retry policy, and with a policy of
the DAG author.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.airflow_compat.sdk import RetryDecision, RetryPolicy
from polysync_airflow.operators import PolysyncStartPipelineOperator


class RetryEverything(RetryPolicy):
    """A policy that retries permanent errors, too."""

    def evaluate(self, *_: Any, **__: Any) -> RetryDecision:
        """Return Airflow's own decision."""
        return RetryDecision.default()


POLICIES = {
    "rejected_starts": None,
    "rejected_starts_own_policy": RetryEverything(),
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
