"""Tasks that the benchmark defers in the database; no worker executes them."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

with DAG("benchmark_waits", schedule=None, max_active_runs=1000):
    for number in range(20):
        EmptyOperator(task_id=f"wait_{number}")
