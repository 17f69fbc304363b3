"""
A step of the execution fails, once. A minute later, the retry of the task resumes the
execution, by ``retry_mode="resume"``.

In the run **demo**, open the task **retrain** and its tab **SageMaker**: it says when
the next try begins, and what that does; then, that the execution was resumed. The step
**Preprocess** has run once only, the step **Train** twice.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="demo_resume", schedule=None, tags=["demo"], doc_md=__doc__):
    PolysyncStartPipelineOperator(
        task_id="retrain",
        pipeline_name="demo-resume",
        deferrable=True,
        poll_interval=10,
        retries=1,
        retry_delay=timedelta(minutes=1),
        retry_mode="resume",
    )
