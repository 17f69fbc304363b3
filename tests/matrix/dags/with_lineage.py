"""
Tasks of which OpenLineage hears: in each mode, with an execution that succeeds and with
one that fails.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Asset

from polysync_airflow.operators import PolysyncStartPipelineOperator

PARAMETERS = {
    "abalone": {
        "InputDataUrl": "s3://ml-bucket/{{ dag.dag_id }}.csv",
        "DbPassword": "a-secret",
    },
    "churn-tuning": {"InputData": "s3://ml-bucket/raw"},
}

with DAG("with_lineage", schedule=None):
    for deferrable in (False, True):
        for pipeline, parameters in PARAMETERS.items():
            PolysyncStartPipelineOperator(
                task_id=f"{pipeline}_{'deferred' if deferrable else 'on_the_worker'}",
                pipeline_name=pipeline,
                pipeline_parameters=parameters,
                deferrable=deferrable,
                outlets=[Asset("s3://ml-bucket/published")],
            )
    PolysyncStartPipelineOperator(
        task_id="started",
        pipeline_name="abalone",
        pipeline_parameters=PARAMETERS["abalone"],
        wait_for_completion=False,
    )
