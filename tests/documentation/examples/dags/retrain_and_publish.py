"""
A retraining whose asset event names the execution, in each of the ways in which a task
can wait.
"""

from airflow.providers.common.compat.sdk import DAG, Asset

from polysync_airflow.operators import PolysyncStartPipelineOperator

WAYS = {
    "on_the_worker": (True, False),
    "deferred": (True, True),
    "started": (False, False),
}

with DAG("retrain_and_publish", schedule=None):
    for task_id, (wait, deferrable) in WAYS.items():
        PolysyncStartPipelineOperator(
            task_id=task_id,
            pipeline_name="fanout",
            poll_interval=1,
            wait_for_completion=wait,
            deferrable=deferrable,
            outlets=[Asset(uri=f"s3://ml-bucket/models/{task_id}")],
        )
