"""
A step of the execution fails, once.

1. In the run **demo**, open the task **retrain** and its tab **SageMaker**: the failed
   step **TrainBest** has AWS's reason, and the last lines of the log of its job.
2. Click **Resume failed steps**: AWS repeats TrainBest, and what follows it. What has
   succeeded is kept, and costs nothing again.
3. **Browse > SageMaker** has the executions of all DAGs, with what each has cost.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(dag_id="demo_failure", schedule=None, tags=["demo"], doc_md=__doc__):
    PolysyncStartPipelineOperator(
        task_id="retrain",
        pipeline_name="demo-failure",
        deferrable=True,
        poll_interval=10,
    )
