"""
Stop the executions that still run although their tasks have ended or were deleted.

A task usually stops its own execution. This finds what is left if no process of the
task ran when it ended, and Airflow has told nobody: for example after a DAG was
deleted, and always on Airflow 2.

The command needs Airflow's database. Tasks of Airflow 3 do not get its address, so the
connection ``airflow_metadata`` has it: type Generic, with the value of ``[database]
sql_alchemy_conn`` as its password.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

with DAG(
    dag_id="stop_orphans",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    doc_md=__doc__,
):

    @task.bash(
        env={
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
                "{{ conn.airflow_metadata.password }}"
            )
        },
        append_env=True,
    )
    def stop() -> str:
        """Return the command."""
        return "polysync records --stop-orphans"

    stop()
