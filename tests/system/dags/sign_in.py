"""One run of a pipeline by each way to sign in that asks STS, with and without holding the worker."""

from __future__ import annotations

from airflow.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="sign_in", schedule=None):
    for way in ("assume_role", "web_identity"):
        for mode in ("deferred", "synchronous"):
            PolysyncStartPipelineOperator(
                task_id=f"{way}_{mode}",
                polysync_conn_id=f"sign_in_{way}",
                pipeline_name="fanout",
                execution_display_name=f"{way}-{mode}".replace("_", "-"),
                deferrable=mode == "deferred",
                poll_interval=1,
            )
