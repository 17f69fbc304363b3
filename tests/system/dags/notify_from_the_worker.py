"""
The example that sends an e-mail in the synchronous mode: the worker waits for the
execution.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from polysync_airflow.notifications import PolysyncFailureNotifier
from polysync_airflow.operators import PolysyncStartPipelineOperator

notify = PolysyncFailureNotifier(
    SmtpNotifier(
        to="ml-team@example.com",
        subject="{{ ti.task_id }} has failed",
        html_content="<pre>{{ failure_text }}</pre>",
    )
)

with DAG("notify_from_the_worker", schedule=None):
    PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="abalone",
        pipeline_parameters={"InputDataUrl": "s3://ml-bucket/abalone.csv"},
        deferrable=False,
        poll_interval=1,
        on_failure_callback=notify,
    )
