"""
Train a model, compare its metric with that of the model that was deployed last, and
deploy the better one.

``outputs`` is the XCom in which a Start task says what each step made. For a training
or tuning step, it has the final metrics of the training job, too, so the pipeline needs
no condition.

The DAG needs a connection ``polysync_default``, which may describe training and tuning
jobs, and a pipeline ``churn-tuning`` with a tuning step ``ChurnTune`` whose training
jobs have the metric ``validation:auc``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, XComArg, task

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(
    dag_id="deploy_if_better",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    # The next run compares with what this one has deployed.
    max_active_runs=1,
    doc_md=__doc__,
):
    train = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="churn-tuning", deferrable=True
    )

    @task.branch
    def is_better(outputs: Any, **context: Any) -> str:
        """Return the task that comes next."""
        # Of the last run in which it ran: in this run, it has not run yet.
        deployed = context["ti"].xcom_pull(task_ids="deploy", include_prior_dates=True)
        auc = outputs["ChurnTune"]["metrics"]["validation:auc"]
        return "deploy" if deployed is None or auc > deployed else "keep_the_old_model"

    @task
    def deploy(outputs: Any) -> float:
        """
        Deploy the model, which is in ``model_artifact``; this example only returns its
        metric.
        """
        print("deployed", outputs["ChurnTune"]["model_artifact"])
        return float(outputs["ChurnTune"]["metrics"]["validation:auc"])

    @task
    def keep_the_old_model() -> None:
        """Deploy nothing."""

    outputs = XComArg(train, key="outputs")
    is_better(outputs) >> [deploy(outputs), keep_the_old_model()]
