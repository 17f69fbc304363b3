"""
Train a model, ask a person whether it may be deployed, and write the answer to
SageMaker's model registry.

The question is asked by Airflow's own ``ApprovalOperator`` (Airflow 3.1 and newer),
with the metrics of the model. The model is deployed only after SageMaker says that it
is approved.

The DAG needs a connection ``polysync_default``, which may call UpdateModelPackage, and
a pipeline ``churn-tuning`` with a tuning step ``ChurnTune`` and a step
``ChurnRegister`` that registers the model.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, XComArg, task
from airflow.providers.standard.operators.hitl import ApprovalOperator

from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.sensors import PolysyncModelApprovalSensor

with DAG(
    dag_id="approve_model",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    train = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="churn-tuning", deferrable=True
    )
    outputs = XComArg(train, key="outputs")

    @task
    def question(outputs: Any) -> str:
        """
        Return the text of the question.

        Whoever writes the pipeline chooses the names in it. Airflow shows the text as
        Markdown: as JSON in a block of code, no name can become a link or end the
        block. As the output of a task, the text is not rendered as a template.
        """
        facts = {
            "model": outputs["ChurnRegister"]["model_package_arn"],
            "metrics": outputs["ChurnTune"].get("metrics", {}),
        }
        return (
            "The new model and its"
            f" metrics:\n\n```json\n{json.dumps(facts, indent=2)}\n```"
        )

    ask = ApprovalOperator(
        task_id="ask",
        subject="Deploy the new churn model?",
        body=question(outputs),
        response_timeout=timedelta(days=3),
    )

    def set_status(status: Any, ti: Any, person: str) -> str:
        """
        Set the approval status of the model, with the person as the reason; return its
        ARN.
        """
        from polysync_airflow.hooks import PolysyncSageMakerHook

        arn = str(
            ti.xcom_pull(task_ids="train", key="outputs")["ChurnRegister"][
                "model_package_arn"
            ]
        )
        reason = f"{status} in Airflow by {person}, DAG run {ti.run_id}"
        PolysyncSageMakerHook().update_model_approval(arn, status, reason)
        return arn

    @task
    def approve(ti: Any = None) -> str:
        """
        Approve the model. If the person says no, the ApprovalOperator skips this task.
        """
        return set_status(
            "Approved", ti, ti.xcom_pull(task_ids="ask")["responded_by_user"]["name"]
        )

    @task(trigger_rule="all_skipped")
    def reject(ti: Any = None) -> str:
        """
        Reject the model. It must not come directly after the ApprovalOperator, which
        would skip it.

        After a no, the ApprovalOperator has no output: who it was is in Airflow, under
        Required Actions.
        """
        return set_status("Rejected", ti, "a person")

    approved = approve()
    is_approved = PolysyncModelApprovalSensor(
        task_id="is_approved",
        model_package_arn=approved,
        timeout=timedelta(hours=1),
        deferrable=True,
    )

    @task
    def deploy(model_package_arn: Any) -> str:
        """Deploy the model; this example only returns its ARN."""
        return str(model_package_arn)

    @task
    def keep_the_old_model() -> None:
        """Deploy nothing."""

    ask >> approved
    deploy(is_approved.output)
    approved >> reject() >> keep_the_old_model()
