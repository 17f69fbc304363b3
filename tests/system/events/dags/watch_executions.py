"""
A DAG that runs when an execution of the pipeline "measured" ends. Its task needs no
worker.
"""

import os
from datetime import UTC, datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from polysync_airflow.events import PolysyncSageMakerEventTrigger

watcher = AssetWatcher(
    name="measured",
    trigger=PolysyncSageMakerEventTrigger(
        queue_url=os.environ["MEASURED_QUEUE_URL"], pipelines=["measured"]
    ),
)
MEASURED = Asset("sagemaker://measured", watchers=[watcher])

with DAG(
    "watch_executions",
    schedule=[MEASURED],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=100,
):
    EmptyOperator(task_id="done")
