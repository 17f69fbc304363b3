"""
Runs a pipeline with each authentication method that uses STS, in the deferred and in
the synchronous mode.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="sign_in", schedule=None):
    for method in ("assume_role", "web_identity"):
        for mode in ("deferred", "synchronous"):
            PolysyncStartPipelineOperator(
                task_id=f"{method}_{mode}",
                polysync_conn_id=f"sign_in_{method}",
                pipeline_name="fanout",
                execution_display_name=f"{method}-{mode}".replace("_", "-"),
                deferrable=mode == "deferred",
                poll_interval=1,
            )
