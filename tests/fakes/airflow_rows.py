"""What Airflow's database has of a DAG run."""

from __future__ import annotations

from polysync_airflow.airflow_compat.database import stored_variable


def dag_run_state(dag_id: str, run_id: str) -> str | None:
    """Return the state of a DAG run; None if there is no such DAG run."""
    with stored_variable("", lock=False) as row:
        return row.dag_run(dag_id, run_id)[0]
