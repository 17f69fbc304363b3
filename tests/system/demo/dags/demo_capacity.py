"""
Twice, AWS has no instances for a step. The task waits and asks again, by
``wait_for_capacity=True``. It uses neither a worker meanwhile, nor its retries.

In the run **demo**, open the task **score** and its tab **SageMaker**: it says what AWS
has answered, and when the task asks again. After half a minute, the step **Score** has
its instances, and the execution goes on from there.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="demo_capacity", schedule=None, tags=["demo"], doc_md=__doc__):
    PolysyncStartPipelineOperator(
        task_id="score",
        pipeline_name="demo-capacity",
        deferrable=True,
        poll_interval=10,
        wait_for_capacity=True,
    )
