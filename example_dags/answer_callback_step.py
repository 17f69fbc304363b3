"""
Start a pipeline with a callback step, and answer the step with what a function of the
DAG returns.

Use this pattern if a pipeline needs something in its middle that SageMaker does not
have: a check in another system, a decision, a job on another platform.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator, callback_step

with DAG(
    dag_id="answer_callback_step",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    # A task that waits for the end of the execution would wait for the answer.
    start = PolysyncStartPipelineOperator(
        task_id="start",
        pipeline_name="callback-lambda",
        pipeline_parameters={"Approver": "airflow"},
        wait_for_completion=False,
    )

    @callback_step(
        execution_arn=start.output, step_name="WaitForApproval", deferrable=True
    )
    def check_ticket(ticket: str, allowed: str) -> dict[str, str]:
        """
        Decide about the ticket that the step sends. An exception would fail the step.
        """
        return {"ok": "yes" if ticket.startswith(allowed) else "no"}

    check_ticket(allowed="T-")
