"""Reads Airflow's database, for commands that run beside the scheduler. Tasks and triggers do not use it."""

from __future__ import annotations

import os
from collections.abc import Sequence


def use_connections_of_the_database() -> None:
    """
    Let this process find the connections of Airflow's database, beside those of the environment.

    Airflow 3 looks for them there only in a process with this environment variable, which Airflow's own
    command ``airflow connections test`` sets too (``ensure_secrets_backend_loaded`` in
    airflow/sdk/execution_time/supervisor.py). Airflow 2 always looks there.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


def variables_with_prefix(prefix: str) -> list[tuple[str, str]]:
    """Return the keys and values of the Variables whose keys begin with a prefix, sorted by key."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalars(select(Variable).where(Variable.key.startswith(prefix, autoescape=True)))
        return sorted((variable.key, variable.val or "") for variable in found)


def dag_run_state(dag_id: str, run_id: str) -> str | None:
    """Return the state of a DAG run; None if there is no such DAG run."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        state = session.scalar(select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        return None if state is None else str(state)


def delete_variables(keys: Sequence[str]) -> None:
    """Delete Variables."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(Variable).where(Variable.key.in_(keys)))
