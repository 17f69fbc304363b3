"""
What a plugin's listeners may do in the scheduler and in the API server: read and add
rows in the transaction of their caller.

Both call them before the commit, with an object of their own session. A statement that
fails there ends the scheduler, even if its exception is caught, unless it is in a
savepoint. What the caller has changed and not flushed is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.variable import Variable
from airflow.providers.common.compat.sdk import conf
from sqlalchemy import or_, select
from sqlalchemy.orm import Session, object_session

from polysync_airflow.airflow_compat import reads
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.triggerers import least_busy_triggerers
from polysync_airflow.execution.lifecycle.orphans import queue_of_watch

if CAPABILITIES.triggerer_callbacks:
    from airflow.models.callback import TriggererCallback

# By transaction and team. One transaction may end a thousand tasks.
_TRIGGERERS: Final[WeakKeyDictionary[Any, dict[str | None, dict[str | None, int]]]] = (
    WeakKeyDictionary()
)


def session_of(row: Any) -> Any:
    """
    Return the session of what a listener was called with; None if it is no row of the
    database, as in the process of a task.
    """
    if not hasattr(row, "_sa_instance_state"):
        return None
    return object_session(row)


@contextmanager
def savepoint(session: Any) -> Iterator[Any]:
    """
    Yield a new session in a savepoint of a transaction. An error undoes what this
    session has done, and nothing else.

    The other session notices nothing: the scheduler raises an error if one of its own
    savepoints ends (``CommitProhibitorGuard`` in airflow/utils/sqlalchemy.py).
    """
    connection = session.connection()
    with Session(connection, join_transaction_mode="create_savepoint") as nested:
        yield nested
        nested.commit()


def variable_keys_in(session: Any, prefix: str) -> set[str]:
    """
    Return the keys of the Variables that begin with a prefix.

    :param session: that of the transaction to use; None for one of its own.
    """
    query = select(Variable.key).where(Variable.key.startswith(prefix, autoescape=True))
    return {row.key for row in reads.rows(query, session)}


class EndedTask(NamedTuple):
    """
    What identifies a task instance of a DAG run.

    :param queue: the queue of its workers.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    queue: str | None


def unattended_tasks(session: Any, dag_id: str, run_id: str) -> list[EndedTask]:
    """
    Return the task instances of a DAG run, without those that have succeeded by
    themselves, or that have never begun.

    From Airflow 3.3 on, no mark of a DAG run makes a task succeed without a call for
    the task itself.
    """
    query = select(
        TaskInstance.task_id, TaskInstance.map_index, TaskInstance.queue
    ).where(
        TaskInstance.dag_id == dag_id,
        TaskInstance.run_id == run_id,
        TaskInstance.try_number > 0,
    )
    if CAPABILITIES.run_marks_skip_tasks:
        is_other = TaskInstance.state != "success"
        query = query.where(or_(TaskInstance.state.is_(None), is_other))
    return [
        EndedTask(dag_id, run_id, row.task_id, row.map_index, row.queue)
        for row in reads.rows(query, session)
    ]


def let_triggerer_call(
    session: Any,
    path: str,
    arguments: Mapping[str, Any],
    dag_id: str,
    task_queue: str | None,
) -> None:
    """
    Let a triggerer call a coroutine function, if the transaction is committed.

    A triggerer calls it also if it has no free slot. An ``ExecutorCallback`` would not
    need a triggerer, but a worker, which may not ask for the state of the task.
    Executors that know none raise an error in the scheduler's loop, and that of a DAG
    run that was deleted is a warning in each loop.

    With several triggerers, Airflow 3.2 and 3.3 call it in each of them.

    :param arguments: its keyword arguments, as JSON.
    :param dag_id: the DAG whose team has the triggerer.
    :param task_queue: the queue of the task.
    """
    definition: Any = _CallbackDefinition(path, dict(arguments))
    callback: Any = TriggererCallback(definition)
    if conf.getboolean("core", "multi_team", fallback=False):
        query = select(DagModel.bundle_name).where(DagModel.dag_id == dag_id)
        callback.bundle_name = reads.value(query, session)
    if CAPABILITIES.callbacks_need_session:
        callback.queue(session=session)
    else:
        callback.queue()
    trigger = callback.trigger
    triggerers = _least_busy_triggerers(session, trigger)
    if conf.getboolean("triggerer", "queues_enabled", fallback=False):
        # Airflow 3.2 and 3.3 give the triggers of callbacks no queue.
        trigger.queue = queue_of_watch(task_queue, triggerers)
    trigger.triggerer_id = triggerers.get(trigger.queue)
    session.add(callback)


def _least_busy_triggerers(session: Any, trigger: Any) -> dict[str | None, int]:
    """Return the same as ``least_busy_triggerers``, asked once in a transaction."""
    by_team = _TRIGGERERS.setdefault(session.connection().get_transaction(), {})
    team = getattr(trigger, "team_name", None)
    if team not in by_team:
        by_team[team] = least_busy_triggerers(session, trigger)
    return by_team[team]


class _CallbackDefinition(NamedTuple):
    """
    What Airflow's ``AsyncCallback`` is. That one would import the function, for which
    the scheduler and the API server have no use.
    """

    path: str
    kwargs: dict[str, Any]

    def serialize(self) -> dict[str, Any]:
        """Return what the row stores."""
        return self._asdict()
