"""
Prepare the data of one day after the other, until that has cost too much.

``make demo KEEP=1`` has this DAG, and nothing else. Its run fails: the execution is
stopped when the task has spent ``max_cost``. By the clock of the emulator, that takes
an hour; the steps are listed every 20 minutes.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(
    dag_id="demo_limit",
    schedule="@once",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    PolysyncStartPipelineOperator(
        task_id="prepare",
        pipeline_name="demo-limit",
        max_cost=0.10,
        deferrable=True,
        poll_interval=10,
        progress_interval=10,
    )
