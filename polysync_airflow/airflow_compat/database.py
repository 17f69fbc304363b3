"""
Airflow's database, for commands that run beside the scheduler, and for the API server.

Tasks and triggers do not use it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.variable import Variable
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat import listeners, reads, teams, triggerers
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.what_next import TaskNow

log = logging.getLogger(__name__)

_ROWS_AT_ONCE: Final = 50


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
    if not teams.is_multi_team():
        return
    query = select(Connection).where(
        Connection.conn_id == connection_id, Connection.team_name.is_not(None)
    )
    try:
        for of_team in reads.entities(query):
            name = f"AIRFLOW_CONN_{connection_id.upper()}"
            os.environ.setdefault(name, of_team.as_json())
    except SQLAlchemyError as error:
        log.warning("The connections of teams cannot be read: %s", error)


def variable_keys(prefix: str) -> list[str]:
    """Return the keys of the Variables that begin with a prefix, sorted."""
    return sorted(listeners.variable_keys_in(None, prefix))


def has_dag(dag_id: str) -> bool:
    """Return whether Airflow knows a DAG."""
    query = select(DagModel.dag_id).where(DagModel.dag_id == dag_id)
    return reads.value(query) is not None


def is_paused(dag_id: str) -> bool:
    """Return whether Airflow starts no task of a DAG until somebody unpauses it."""
    query = select(DagModel.is_paused).where(DagModel.dag_id == dag_id)
    return bool(reads.value(query))


def has_task(dag_id: str, task_id: str) -> bool | None:
    """
    Return whether a DAG file has a task, as far as Airflow knows; None if the DAG is
    too large to be read.
    """
    dag = select(DagModel).where(DagModel.dag_id == dag_id)
    for row in reads.entities(dag):
        # Airflow 2 has is_active.
        if getattr(row, "is_stale", not getattr(row, "is_active", True)):
            return False
        versions = select(SerializedDagModel).filter_by(dag_id=dag_id)
        newest = versions.with_only_columns(func.max(SerializedDagModel.last_updated))
        newest_only = SerializedDagModel.last_updated == reads.value(newest)
        for version in reads.entities(
            versions.where(newest_only), max_bytes=reads.MAX_BYTES_ALONE
        ):
            return bool(version.dag.has_task(task_id))
        return None
    return False


def task_now(**key: Any) -> TaskNow | None:
    """
    Return what Airflow says of a task instance now, or of its last pass in a loop; None
    if there is none.

    :param key: the ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    query = (
        select(
            TaskInstance.state,
            TaskInstance.try_number,
            TaskInstance.max_tries,
            TaskInstance.operator,
            TaskInstance.end_date,
            DagModel.is_paused,
        )
        .join(DagModel, DagModel.dag_id == TaskInstance.dag_id, isouter=True)
        .where(*(getattr(TaskInstance, name) == key[name] for name in key))
        .order_by(TaskInstance.try_number.desc())
        .limit(1)
    )
    for state, try_number, max_tries, operator, ended_at, is_paused in reads.rows(
        query
    ):
        return TaskNow(
            state=_text_of(state),
            try_number=try_number,
            max_tries=max_tries,
            operator=operator,
            is_paused=bool(is_paused),
            ended_at=ended_at,
        )
    return None


def failed_tasks(
    operators: Collection[str], *, since: datetime | None, limit: int
) -> list[dict[str, Any]]:
    """
    Return the task instances of some operators whose last try has failed, the newest
    first: their key, ``try_number`` and ``ended_at``.

    :param operators: the names of the classes.
    :param since: when they have ended at the earliest; None for any time.
    """
    query = (
        select(
            TaskInstance.dag_id,
            TaskInstance.run_id,
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.try_number,
            TaskInstance.end_date.label("ended_at"),
        )
        .where(TaskInstance.state == "failed", TaskInstance.operator.in_(operators))
        .order_by(TaskInstance.end_date.desc())
        .limit(limit)
    )
    if since:
        query = query.where(TaskInstance.end_date >= since)
    return [dict(row._mapping) for row in reads.rows(query)]


class StoredVariable:
    """
    A Variable. If it is locked, nobody else can change it until the end of the ``with``
    statement, which is one transaction. If not, each question is one of its own, and no
    connection is held between them.

    (SQLite has no such lock. It is for development only.)

    :param limit: how long its text may be, if it is longer and was not read.
    """

    def __init__(self, session: Any, row: Any, limit: int | None = None) -> None:
        self._session = session
        self._row = row
        self._limit = limit

    @property
    def exists(self) -> bool:
        """Whether there is such a Variable."""
        return self._row is not None or self._limit is not None

    @property
    def value(self) -> str | None:
        """
        Its value; None if there is no such Variable, or if the Fernet key cannot
        decrypt it.

        :raises StoredRecordError: it is too large to be read.
        """
        if self._limit is not None:
            raise StoredRecordError(
                f"it has more than {self._limit:,} bytes, so it was not read"
            )
        if self._row is None:
            return None
        value: str | None = self._row.get_val()
        return value

    def value_of(self, key: str) -> str | None:
        """
        Return the value of another Variable; None as above, and if it is too large.

        In the same session: the end of a second one would end this one, too.
        """
        for row in reads.entities(_query(key), self._session):
            value: str | None = row.get_val()
            return value
        return None

    @property
    def team(self) -> str | None:
        """The team that owns the Variable; None without a team or a Variable."""
        team: str | None = getattr(self._row, "team_name", None)
        return team

    def replace(self, value: str) -> None:
        """
        Replace its value at the end of the ``with`` statement. After an error in it,
        nothing changes. Only if it is locked.
        """
        self._row.set_val(value)

    def delete(self) -> None:
        """Delete it at the end of the ``with`` statement. Only if it is locked."""
        self._session.delete(self._row)

    def dag_run(self, dag_id: str, run_id: str) -> tuple[str | None, datetime | None]:
        """
        Return the state of a DAG run and when it has ended; None and None if there is
        no such DAG run.
        """
        query = select(DagRun.state, DagRun.end_date).where(
            DagRun.dag_id == dag_id, DagRun.run_id == run_id
        )
        for state, ended_at in reads.rows(query, self._session):
            return _text_of(state), ended_at
        return None, None

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
        rows = reads.rows(query.order_by(TaskInstance.try_number), self._session)
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
        query = select(Log.id).filter_by(event="running", **key)
        return reads.value(query, self._session) is not None


def _text_of(state: Any) -> str | None:
    """Return the text of a state, which is an enum or already a text."""
    if state is None:
        return None
    return str(getattr(state, "value", state))


def _query(key: str) -> Any:
    return select(Variable).where(Variable.key == key)


@contextmanager
def stored_variable(
    key: str, *, lock: bool, max_bytes: int = reads.MAX_STORED_BYTES
) -> Iterator[StoredVariable]:
    """
    Read a Variable, and lock it on demand.

    :param max_bytes: how long its text may be.
    """
    if not lock:
        yield _read(None, _query(key), key, max_bytes)
        return
    with reads.transaction() as session:
        yield _read(session, _query(key).with_for_update(), key, max_bytes)


def _read(session: Any, query: Any, key: str, max_bytes: int) -> StoredVariable:
    limit = reads.encrypted(max_bytes)
    for row in reads.entities(query, session, max_bytes=limit):
        return StoredVariable(session, row)
    ids = select(Variable.id).where(Variable.key == key)
    if reads.value(ids, session) is None:
        return StoredVariable(session, None)
    return StoredVariable(session, None, max_bytes)


def stored_variables(prefix: str) -> Iterator[StoredVariable]:
    """
    Read the Variables whose keys begin with a prefix, in batches. No connection is held
    meanwhile. One that is larger than others is read alone. For commands.
    """
    keys = variable_keys(prefix)
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        some = keys[start : start + _ROWS_AT_ONCE]
        query = select(Variable).where(Variable.key.in_(some))
        found = {row.key: row for row in reads.entities(query)}
        for key in some:
            if key in found:
                yield StoredVariable(None, found[key])
                continue
            limit = reads.MAX_BYTES_ALONE
            with stored_variable(key, lock=False, max_bytes=limit) as large:
                yield large


def slots_of_triggerers(path: str) -> triggerers.Slots:
    """
    Return how full the triggerers are.

    :param path: the import path of the function whose waiting calls are counted.
    """
    with reads.transaction() as session:
        return triggerers.read_slots(session, path)
