"""
Wait until AWS has room for a nightly retraining, in place of a failure in the night.

AWS may refuse the start, because the account already runs as many executions as its
quota allows, and a step may get no instances. The task then asks again for six hours,
without a worker and without using its retries. After that, it fails with AWS's reason.

If you write the definition of the pipeline, let AWS repeat its steps first, with a
retry policy for ``SageMaker.CAPACITY_ERROR`` and ``SageMaker.RESOURCE_LIMIT``: see
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html.

The DAG needs a connection ``polysync_default`` and the pipeline ``fanout``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG(
    dag_id="wait_for_capacity",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"wait_for_capacity": True, "deferrable": True},
    doc_md=__doc__,
):
    PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="fanout",
        pipeline_parameters={"Shards": 5},
        poll_interval=10,
        timeout=timedelta(hours=6),
    )
