"""
React to each pipeline whose name begins with "churn" that ends, whoever has started it.

Rules of EventBridge fill a queue of SQS; the template ``sagemaker-events.yaml`` of the
documentation makes both. The watcher makes an event of the asset from each message, and
the event starts the DAG.

It needs Airflow 3.3, the environment variable ``SAGEMAKER_EVENTS_QUEUE_URL``, and a
connection ``polysync_default`` that may read the queue.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from polysync_airflow.events import PolysyncSageMakerEventTrigger

QUEUE_URL = os.environ.get(
    "SAGEMAKER_EVENTS_QUEUE_URL",
    "https://sqs.us-east-1.amazonaws.com/123456789012/sagemaker-events",
)

churn_pipelines = AssetWatcher(
    name="churn_pipelines",
    trigger=PolysyncSageMakerEventTrigger(queue_url=QUEUE_URL, pipelines=["churn*"]),
)
CHURN_EXECUTIONS = Asset(
    "sagemaker://pipeline/churn/executions", watchers=[churn_pipelines]
)

with DAG(
    dag_id="react_to_events",
    schedule=[CHURN_EXECUTIONS],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    doc_md=__doc__,
):

    @task
    def report(triggering_asset_events: Any = None) -> list[str]:
        """
        Return one line for each execution that has ended. One DAG run may have several
        events.
        """
        lines = []
        for events in (triggering_asset_events or {}).values():
            for event in events:
                change = event.extra["payload"]
                lines.append(
                    f"{change['pipeline_name']}: {change['state']}"
                    f" ({change['execution_arn']})"
                )
        return lines

    report()
