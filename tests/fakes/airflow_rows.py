"""Rows of Airflow's database."""

from __future__ import annotations

from typing import Any

from polysync_airflow.airflow_compat.database import stored_variable


def dag_run_state(dag_id: str, run_id: str) -> str | None:
    """Return the state of a DAG run; None if there is no such DAG run."""
    with stored_variable("", lock=False) as row:
        return row.dag_run(dag_id, run_id)[0]


def add_variable(key: str, value: str | None, **columns: Any) -> None:
    """Store a Variable."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Variable(key=key, val=value, **columns))  # type: ignore[no-untyped-call]
