"""
Deploy no model while the Variable ``deployment_freeze`` is set, for example to "until 7
January".

Training goes on. The tasks after ``is_allowed`` are skipped, and the first run after
the freeze deploys its model. Put the same task before a ``PolysyncPutPipelineOperator``
if pipelines are not to change, either.

This DAG needs a connection ``polysync_default`` and the pipeline ``churn-tuning``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Variable, XComArg, task

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(
    dag_id="freeze_deployments",
    schedule="@weekly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    doc_md=__doc__,
):
    train = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="churn-tuning", deferrable=True
    )

    @task.short_circuit
    def is_allowed() -> bool:
        """Return whether deployments are not frozen, and say until when they are."""
        freeze = Variable.get("deployment_freeze", None)
        print(f"Deployments are frozen: {freeze}" if freeze else "No freeze.")
        return not freeze

    @task
    def deploy(outputs: Any) -> str:
        """Deploy the model; this example only returns its ARN."""
        return str(outputs["ChurnRegister"]["model_package_arn"])

    train >> is_allowed() >> deploy(XComArg(train, key="outputs"))
