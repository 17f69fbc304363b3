"""DAGs whose tasks end in all the ways in which people and Airflow end them."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

ENDS: dict[str, dict[str, Any]] = {
    "ends_deferred": {"deferrable": True},
    "ends_on_worker": {"deferrable": False},
    "ends_by_timeout": {"deferrable": True, "timeout": 30},
}

for dag_id, arguments in ENDS.items():
    with DAG(dag_id, schedule=None):
        PolysyncStartPipelineOperator(
            task_id="retrain",
            pipeline_name="churn-tuning",
            poll_interval=5,
            **arguments,
        )
