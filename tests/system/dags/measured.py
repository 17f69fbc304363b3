"""
Two executions whose metrics are received: one task waits on the worker, and one is
deferred.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="measured", schedule=None):
    for deferrable in (False, True):
        PolysyncStartPipelineOperator(
            task_id="deferred" if deferrable else "on_the_worker",
            pipeline_name="fanout",
            deferrable=deferrable,
            poll_interval=1,
            progress_interval=None,
        )
