"""A message in Microsoft Teams when a pipeline fails."""

from typing import Any

import requests
from airflow.providers.common.compat.sdk import DAG, BaseHook

from polysync_airflow.notifications import failure_text
from polysync_airflow.operators import PolysyncStartPipelineOperator


def notify(context: Any) -> None:
    # A TextRun is no Markdown: a reason cannot become a link.
    lines = [
        {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": line}]}
        for line in failure_text(context).splitlines()
    ]
    open_log = {
        "type": "Action.OpenUrl",
        "title": "Log of the task",
        "url": context["ti"].log_url,
    }
    card: dict[str, Any] = {
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": lines,
        "actions": [open_log],
    }
    message: dict[str, Any] = {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        ],
    }
    url = BaseHook.get_connection("teams").password or ""
    requests.post(url, json=message, timeout=10).raise_for_status()


with DAG("notify_teams", schedule=None, default_args={"on_failure_callback": notify}):
    PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="abalone",
        pipeline_parameters={"InputDataUrl": "s3://ml-bucket/abalone.csv"},
        deferrable=True,
    )
