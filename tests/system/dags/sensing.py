"""Sensors that are deferred until others have acted: ``conf`` has the ARNs of what they wait for."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.sensors import PolysyncModelApprovalSensor, PolysyncPipelineSensor

DEFERRED: dict[str, Any] = {"deferrable": True, "poke_interval": 1, "retries": 0}

with DAG(dag_id="sensing", schedule=None):
    PolysyncPipelineSensor(
        task_id="find",
        pipeline_name="sensed",
        created_after="2026-01-01",
        display_name_pattern="nightly-*",
        **DEFERRED,
    )
    PolysyncPipelineSensor(task_id="failing", execution_arn="{{ dag_run.conf['failing'] }}", **DEFERRED)
    PolysyncModelApprovalSensor(
        task_id="approved", model_package_arn="{{ dag_run.conf['approved'] }}", **DEFERRED
    )
    # A rejection uses up no retry.
    PolysyncModelApprovalSensor(
        task_id="rejected",
        model_package_arn="{{ dag_run.conf['rejected'] }}",
        **{**DEFERRED, "retries": 1},
    )
