"""A DAG whose file the suite edits while its task waits: it replaces the arguments."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

ARGUMENTS: dict[str, Any] = {
    "task_id": "start",
    "deferrable": Path(__file__).stem != "polysync_44d",
    "pipeline_parameters": {"Value": "first"},
}

# Airflow shows the description, so the suite knows which content of the file was
# parsed.
with DAG(dag_id=Path(__file__).stem, schedule=None, description=repr(ARGUMENTS)):
    PolysyncStartPipelineOperator(
        pipeline_name="{{ dag_run.conf['pipeline'] }}",
        poll_interval=2,
        retries=2,
        retry_delay=timedelta(seconds=2),
        **ARGUMENTS,
    )
