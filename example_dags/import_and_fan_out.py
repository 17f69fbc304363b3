"""
Import pipelines as jobs, and start those whose parameters have values.

One mapped task starts each job, with ``VALUES`` and with the default values that the
pipeline declares. The pipeline scoring-required-params needs values that nobody gives
here: its task is skipped, and says why in its log.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException

from polysync_airflow.jobs import start_arguments
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
)

VALUES = {"MaxJobs": 2}


def arguments_of(job: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that start a job. Skip it if a parameter has no value."""
    arguments = start_arguments(job)
    for parameter in job["parameters"]:
        name = parameter["name"]
        if name in VALUES:
            arguments["pipeline_parameters"][name] = VALUES[name]
        elif parameter["default"] is None:
            raise AirflowSkipException(f"{job['name']} needs a value for {name}")
    return arguments


with DAG(
    dag_id="import_and_fan_out",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
):
    jobs = PolysyncListImportOperator(
        task_id="import_jobs",
        pipeline_names=["churn-tuning", "fanout", "scoring-required-params"],
    )

    PolysyncStartPipelineOperator.partial(
        task_id="start",
        deferrable=True,
        poll_interval=10,
        on_completed_with_failures="succeed",
    ).expand_kwargs(jobs.output.map(arguments_of))
