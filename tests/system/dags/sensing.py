"""
Sensors that are deferred until others have acted: ``conf`` has the ARNs of what they
wait for.

From Airflow 3.3 on, there is a second DAG, whose tasks are on no worker.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.sensors import PolysyncModelApprovalSensor, PolysyncPipelineSensor

MODES = {"sensing": {"deferrable": True}}
if CAPABILITIES.start_from_trigger:
    MODES["sensing_without_worker"] = {"start_from_trigger": True}

for dag_id, mode in MODES.items():
    arguments: dict[str, Any] = {"poke_interval": 1, "retries": 0, **mode}
    with DAG(dag_id=dag_id, schedule=None):
        PolysyncPipelineSensor(
            task_id="find",
            pipeline_name="sensed",
            created_after="2026-01-01",
            display_name_pattern="nightly-*",
            **arguments,
        )
        PolysyncPipelineSensor(
            task_id="failing",
            execution_arn="{{ dag_run.conf['failing'] }}",
            **arguments,
        )
        PolysyncModelApprovalSensor(
            task_id="approved",
            model_package_arn="{{ dag_run.conf['approved'] }}",
            **arguments,
        )
        # A rejection uses up no retry.
        PolysyncModelApprovalSensor(
            task_id="rejected",
            model_package_arn="{{ dag_run.conf['rejected'] }}",
            **{**arguments, "retries": 1},
        )
