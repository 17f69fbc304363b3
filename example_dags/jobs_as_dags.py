"""
One DAG for each imported job, with a form under "Trigger" that knows the types of its
parameters.

``polysync jobs import jobs.yaml`` has written the jobs. The DAG of ``churn-tuning``
also runs every week, with the data of that week.

These DAGs need a connection ``polysync_default`` and the pipelines of ``jobs.yaml``.
"""

from __future__ import annotations

from polysync_airflow.dags import polysync_dags

polysync_dags(
    "jobs.yaml",
    dag_id_prefix="job-",
    schedule={"churn-tuning": "@weekly"},
    # A run that leaves the field empty uses the template. Everything else in the form
    # is sent as it is.
    parameters={
        "churn-tuning": {
            "InputData": (
                "s3://ml-bucket/churn/raw/{{ (data_interval_end if data_interval_end is"
                " defined else dag_run.run_after) | ds }}"
            )
        }
    },
    operator_args={"deferrable": True, "poll_interval": 10},
    default_args={"retries": 1},
)
