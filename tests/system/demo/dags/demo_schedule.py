"""
Retrain a model every two minutes.

``make demo KEEP=1`` has this DAG, and nothing else. Each execution also starts two of
the example DAGs: ``announce_model`` by the asset that the task updates, and
``react_to_events`` by the event of its end.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Asset

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(
    dag_id="demo_schedule",
    schedule="*/2 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
):
    PolysyncStartPipelineOperator(
        task_id="retrain",
        pipeline_name="churn-tuning",
        deferrable=True,
        poll_interval=10,
        outlets=[Asset("sagemaker://model-package-group/churn")],
    )
