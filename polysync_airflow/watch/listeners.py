"""
The listener that the scheduler and the API server call when a DAG run or a task ends.

For each record of an execution that is stored for the task, or for a task of the run,
it adds a row by which a triggerer calls ``callback.stop_if_left``. It runs in the
transaction of its caller, which must not wait, and must not fail because of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final
from weakref import WeakKeyDictionary

from airflow.listeners import hookimpl

from polysync_airflow.airflow_compat import listeners
from polysync_airflow.execution.lifecycle import instructions, orphans
from polysync_airflow.records.keys import dag_prefix, variable_key

log = logging.getLogger(__name__)

# Airflow stores it, so it must not change while a row waits. A triggerer imports it.
CALLBACK: Final = f"{__package__}.callback.stop_if_left"


class EndListener:
    """
    Lets a triggerer look after each execution that the end of a DAG run or of a task
    may leave.

    A task that ends by itself decides about its execution in its own process, and
    deletes its record if it succeeds. So there is something to look after if its record
    is stored, and the task

    - ends by a user, in the API server,
    - has not succeeded when its DAG run ends: a user or ``dagrun_timeout`` may have
      ended both, or its process was killed.
    """

    def __init__(self) -> None:
        # By transaction and DAG: the keys of the records that have no row yet. One
        # transaction may end a thousand tasks.
        self._keys_without_row: WeakKeyDictionary[Any, dict[str, set[str]]] = (
            WeakKeyDictionary()
        )
        # The types of the errors that were logged.
        self._logged: set[str] = set()

    @hookimpl
    def on_dag_run_success(self, dag_run: Any, msg: str) -> None:
        """Look after the tasks of a DAG run."""
        self._guarded(self._run_ended, dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any, msg: str) -> None:
        """Look after the tasks of a DAG run."""
        self._guarded(self._run_ended, dag_run)

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        """Look after a task that somebody has marked."""
        self._guarded(self._task_ended, task_instance)

    @hookimpl
    def on_task_instance_failed(
        self, previous_state: Any, task_instance: Any, error: Any
    ) -> None:
        """Look after a task that somebody has marked, or that has lost its process."""
        self._guarded(self._task_ended, task_instance)

    @hookimpl
    def on_task_instance_skipped(self, previous_state: Any, task_instance: Any) -> None:
        """Look after a task that somebody has marked."""
        self._guarded(self._task_ended, task_instance)

    def _guarded(self, handle: Callable[[Any, Any], None], row: Any) -> None:
        """
        Handle that a DAG run or a task has ended. An error is logged once for each
        kind, and undoes nothing of the caller.
        """
        try:
            session = listeners.session_of(row)
            if session is not None:
                handle(session, row)
        except Exception as error:
            kind = type(error).__name__
            if kind not in self._logged:
                self._logged.add(kind)
                log.warning(
                    "A triggerer could not be told to look after the executions of DAG"
                    " run %s of DAG %s: %s: %s. Schedule: polysync records"
                    " --stop-orphans. More errors of this kind are not logged.",
                    row.run_id,
                    row.dag_id,
                    kind,
                    error,
                )

    def _run_ended(self, session: Any, dag_run: Any) -> None:
        keys = self._keys(session, dag_run.dag_id)
        if not keys:
            return
        with listeners.savepoint(session) as nested:
            tasks = listeners.unattended_tasks(nested, dag_run.dag_id, dag_run.run_id)
        for task in tasks:
            self._add_row(session, keys, task)

    def _task_ended(self, session: Any, task_instance: Any) -> None:
        state = task_instance.state
        if str(getattr(state, "value", state)) not in orphans.ENDED_STATES:
            return
        if not task_instance.try_number:
            # The task has never begun, so its record was imported, or belongs to an
            # earlier DAG run with the same id, which was marked before it was deleted.
            return
        keys = self._keys(session, task_instance.dag_id)
        if keys:
            self._add_row(session, keys, task_instance)

    def _add_row(self, session: Any, keys: set[str], ended: Any) -> None:
        task = instructions.TaskKey.of(ended)
        key = variable_key(task)
        if key not in keys:
            return
        with listeners.savepoint(session) as nested:
            listeners.let_triggerer_call(
                nested, CALLBACK, asdict(task), task.dag_id, ended.queue
            )
        # One end has up to three calls.
        keys.remove(key)

    def _keys(self, session: Any, dag_id: str) -> set[str]:
        """Return the keys of a DAG's records that have no row in this transaction."""
        session.connection()  # begins a transaction, if there is none
        by_dag = self._keys_without_row.setdefault(session.get_transaction(), {})
        if dag_id not in by_dag:
            with listeners.savepoint(session) as nested:
                by_dag[dag_id] = listeners.variable_keys_in(nested, dag_prefix(dag_id))
        return by_dag[dag_id]
