"""An e-mail when a pipeline fails, by the notifier of the SMTP provider."""

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from polysync_airflow.notifications import PolysyncFailureNotifier
from polysync_airflow.operators import PolysyncStartPipelineOperator

notify = PolysyncFailureNotifier(
    SmtpNotifier(
        to="ml-team@example.com",
        subject="{{ ti.task_id }} has failed",
        html_content="<pre>{{ failure_text }}</pre>",
        smtp_conn_id="smtp_default",
    )
)

with DAG(
    "notify_by_email", schedule=None, default_args={"on_failure_callback": notify}
):
    PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="abalone",
        pipeline_parameters={"InputDataUrl": "s3://ml-bucket/abalone.csv"},
        deferrable=True,
    )
