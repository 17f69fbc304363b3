"""
Start an execution without waiting for it, and stop it from another task.

Use this pattern if something else decides when to stop: a budget, a deadline, a newer
dataset.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)

with DAG(
    dag_id="start_and_stop",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    start = PolysyncStartPipelineOperator(
        task_id="start",
        pipeline_name="fanout",
        pipeline_parameters={"Shards": 5},
        max_parallel_steps=2,
        wait_for_completion=False,
    )

    PolysyncStopPipelineOperator(
        task_id="stop", execution_arn=start.output, poll_interval=5
    )
