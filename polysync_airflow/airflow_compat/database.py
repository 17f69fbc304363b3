"""
Airflow's database, for commands that run beside the scheduler, and for the API server.

Tasks and triggers do not use it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from airflow.models import xcom
from airflow.models.connection import Connection
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.models.variable import Variable
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.listeners import variable_keys_in
from polysync_airflow.airflow_compat.teams import is_multi_team
from polysync_airflow.airflow_compat.triggerers import Slots, read_slots

log = logging.getLogger(__name__)

XCOM_MODEL: Any = getattr(xcom, "XComModel" if CAPABILITIES.task_sdk else "XCom")


def use_connection_of_the_database(connection_id: str) -> None:
    """
    Let this process find a connection of Airflow's database, beside those of the
    environment.

    Airflow 3 looks for it there only in a process with this environment variable, which
    Airflow's own command ``airflow connections test`` sets too
    (``ensure_secrets_backend_loaded`` in airflow/sdk/execution_time/supervisor.py).
    Airflow 2 always looks there.

    Airflow finds the connection of a team for a task of the team only, so this process
    gets that as an environment variable.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    if not is_multi_team():
        return
    query = select(Connection).where(
        Connection.conn_id == connection_id, Connection.team_name.is_not(None)
    )
    try:
        with create_session() as session:
            of_team = session.scalar(query)
            if of_team:
                name = f"AIRFLOW_CONN_{connection_id.upper()}"
                os.environ.setdefault(name, of_team.as_json())
    except SQLAlchemyError as error:
        log.warning("The connections of teams cannot be read: %s", error)


def variable_keys(prefix: str) -> list[str]:
    """Return the keys of the Variables that begin with a prefix, sorted."""
    with create_session() as session:
        return sorted(variable_keys_in(session, prefix))


class StoredVariable:
    """
    A Variable. If it is locked, nobody else can change it until the end of the ``with``
    statement.

    (SQLite has no such lock. It is for development only.)
    """

    def __init__(self, session: Any, row: Any) -> None:
        self._session = session
        self._row = row

    @property
    def exists(self) -> bool:
        """Whether there is such a Variable."""
        return self._row is not None

    @property
    def value(self) -> str | None:
        """
        Its value; None if there is no such Variable, or if the Fernet key cannot
        decrypt it.
        """
        if not self.exists:
            return None
        value: str | None = self._row.get_val()
        return value

    def value_of(self, key: str) -> str | None:
        """
        Return the value of another Variable; None as above.

        In the same session: the end of a second one would end this one, too.
        """
        row: Any = self._session.scalar(select(Variable).where(Variable.key == key))
        return StoredVariable(self._session, row).value

    @property
    def team(self) -> str | None:
        """The team that owns the Variable; None without a team or a Variable."""
        team: str | None = getattr(self._row, "team_name", None)
        return team

    def replace(self, value: str) -> None:
        """
        Replace its value at the end of the ``with`` statement. After an error in it,
        nothing changes.
        """
        self._row.set_val(value)

    def delete(self) -> None:
        """Delete it at the end of the ``with`` statement."""
        self._session.delete(self._row)

    def dag_run(self, dag_id: str, run_id: str) -> tuple[str | None, datetime | None]:
        """
        Return the state of a DAG run and when it has ended; None and None if there is
        no such DAG run.
        """
        query = select(DagRun.state, DagRun.end_date).where(
            DagRun.dag_id == dag_id, DagRun.run_id == run_id
        )
        row = self._session.execute(query).one_or_none()
        if row is None:
            return None, None
        state, ended_at = row
        return _text_of(state), ended_at

    def states_of(self, **key: Any) -> list[str | None]:
        """
        Return the state of a task instance, or of each of its passes in a loop; empty
        if there is none.

        :param key: the ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
        """
        return [state for state, _ in self.tries_of(**key)]

    def tries_of(self, **key: Any) -> list[tuple[str | None, int]]:
        """
        Return the state and the number of the newest try of a task instance, or of each
        of its passes in a loop, the highest number last; empty if there is none.

        :param key: the ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
        """
        query = select(TaskInstance.state, TaskInstance.try_number).filter_by(**key)
        rows = self._session.execute(query.order_by(TaskInstance.try_number))
        return [(_text_of(state), number) for state, number in rows]

    def has_begun(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> bool:
        """
        Return whether Airflow's audit log has a try of a task, also if its task
        instance was deleted since.

        Airflow writes it with each begin (``ti_run`` in
        airflow/api_fastapi/execution_api/routes/task_instances.py), and keeps it until
        ``airflow db clean`` deletes it. All map indices count for one, since Airflow
        3.4 writes another number in its place.
        """
        key = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}
        query = select(Log.id).filter_by(event="running", **key).limit(1)
        return self._session.scalar(query) is not None


def _text_of(state: Any) -> str | None:
    """Return the text of a state, which is an enum or already a text."""
    if state is None:
        return None
    return str(getattr(state, "value", state))


@contextmanager
def stored_variable(key: str, *, lock: bool) -> Iterator[StoredVariable]:
    """Read a Variable, and lock it on demand."""
    query = select(Variable).where(Variable.key == key)
    if lock:
        query = query.with_for_update()
    with create_session() as session:
        yield StoredVariable(session, session.scalar(query))


def stored_variables(prefix: str) -> Iterator[StoredVariable]:
    """Read the Variables whose keys begin with a prefix, all with one query."""
    query = select(Variable).where(Variable.key.startswith(prefix, autoescape=True))
    with create_session() as session:
        for row in session.scalars(query).all():
            yield StoredVariable(session, row)


def slots_of_triggerers(path: str) -> Slots:
    """
    Return how full the triggerers are.

    :param path: the import path of the function whose waiting calls are counted.
    """
    with create_session() as session:
        return read_slots(session, path)


def read_xcom(key: str, **task: Any) -> Any:
    """
    Return the value of an XCom of a task instance; None if there is none.

    :param task: the ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    with create_session() as session:
        if not CAPABILITIES.task_sdk:
            return XCOM_MODEL.get_one(key=key, session=session, **task)
        query = select(XCOM_MODEL.value).filter_by(key=key, **task)
        return session.scalar(query)


def write_xcom(key: str, value: Any, **task: Any) -> None:
    """
    Store an XCom of a task instance, which must exist.

    :param value: its value, as JSON.
    """
    arguments: dict[str, Any] = {"key": key, "value": value, **task}
    if CAPABILITIES.task_sdk:
        # As the API server stores it.
        arguments["serialize"] = False
    with create_session() as session:
        XCOM_MODEL.set(session=session, **arguments)
