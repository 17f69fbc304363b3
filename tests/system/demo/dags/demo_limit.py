"""
A training that would never end, and a limit in money: ``max_cost=0.20``.

In the run **demo**, open the task **train** and its tab **SageMaker**: it says what was
spent, of how much, and what an hour costs. After a minute, the limit is reached: the
execution is stopped, and the task fails without its retries. The step **Train** is
stopped, too.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="demo_limit", schedule=None, tags=["demo"], doc_md=__doc__):
    PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="demo-limit",
        max_cost=0.20,
        deferrable=True,
        poll_interval=10,
        progress_interval=10,
        retries=2,
    )
