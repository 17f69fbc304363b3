"""
Delete the records of executions whose tasks ended more than 30 days ago.

The command needs Airflow's database. Tasks of Airflow 3 do not get its address, so the
connection ``airflow_metadata`` has it: type Generic, with the value of ``[database]
sql_alchemy_conn`` as its password.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

with DAG(
    dag_id="delete_old_records",
    schedule="@weekly",
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
    def delete() -> str:
        """Return the command."""
        return "polysync records --older-than 30d"

    delete()
