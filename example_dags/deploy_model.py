"""
Use what a pipeline has made: deploy the model that it registered, if its condition says
so.

``outputs`` is the XCom in which a Start task says what each step made. The second DAG
runs whenever the first one has updated the asset, and learns from the asset's event
which model that was.

The first DAG needs a connection ``polysync_default`` and a pipeline ``churn-tuning``
with a condition step ``AucCheck`` that ends well in both cases: in one, the step
``ChurnRegister`` registers a model.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, XComArg, task

from polysync_airflow.operators import PolysyncStartPipelineOperator

CHURN_MODEL = Asset("sagemaker://model-package-group/churn")

with DAG(
    dag_id="deploy_model",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    train = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="churn-tuning",
        deferrable=True,
        outlets=[CHURN_MODEL],
    )

    @task.branch
    def is_good_enough(outputs: Any) -> str:
        """
        Return the task that comes next, as the condition of the pipeline has decided.
        """
        return (
            "deploy"
            if outputs["AucCheck"]["outcome"] == "True"
            else "keep_the_old_model"
        )

    @task
    def deploy(outputs: Any) -> str:
        """Deploy the model; this example only returns its ARN."""
        return str(outputs["ChurnRegister"]["model_package_arn"])

    @task
    def keep_the_old_model() -> None:
        """Deploy nothing."""

    outputs = XComArg(train, key="outputs")
    is_good_enough(outputs) >> [deploy(outputs), keep_the_old_model()]

with DAG(
    dag_id="announce_model",
    schedule=[CHURN_MODEL],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md="Runs after each update of the model.",
):

    @task
    def announce(**context: Any) -> list[str]:
        """Return the ARNs of the new models."""
        by_asset = (
            context.get("triggering_asset_events")
            or context["triggering_dataset_events"]
        )
        events = [event for asset_events in by_asset.values() for event in asset_events]
        return [arn for event in events for arn in event.extra["model_package_arns"]]

    announce()
