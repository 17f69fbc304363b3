"""
Runs a pipeline with the credentials of the host, in the deferred and in the synchronous
mode.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="host_sign_in", schedule=None):
    for mode in ("deferred", "synchronous"):
        PolysyncStartPipelineOperator(
            task_id=mode,
            polysync_conn_id="sign_in_instance_profile",
            pipeline_name="fanout",
            execution_display_name=f"host-{mode}",
            deferrable=mode == "deferred",
            poll_interval=1,
        )
