"""
Deploy the newest version of a model, once a person has approved it in SageMaker Studio.

The task ``wait_for_approval`` takes the version that was registered last, and waits
without a worker until somebody approves it. A rejected version is not deployed. All
versions of Airflow have this DAG.

The DAG needs a connection ``polysync_default``, which may call ListModelPackages and
DescribeModelPackage, and a model package group ``ChurnGroup`` with at least one
version.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from polysync_airflow.sensors import PolysyncModelApprovalSensor

with DAG(
    dag_id="deploy_approved_model",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    wait_for_approval = PolysyncModelApprovalSensor(
        task_id="wait_for_approval",
        model_package_group="ChurnGroup",
        on_rejected="skip",
        timeout=timedelta(days=3),
        poke_interval=timedelta(minutes=1),
        deferrable=True,
    )

    @task
    def deploy(model_package_arn: Any) -> str:
        """Deploy the model; this example only returns its ARN."""
        return str(model_package_arn)

    deploy(wait_for_approval.output)
