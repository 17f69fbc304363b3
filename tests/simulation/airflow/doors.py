"""
The doors to the database that the provider has in the scheduler, in the API server and
in commands: those of ``airflow_compat/listeners.py`` and ``airflow_compat/database.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import (
    CALLBACK_TRIGGER,
    DAG_ID,
    QUEUE,
    DagRun,
    Database,
    Key,
    TaskInstance,
)

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment


class Session:
    """What the listeners get in place of a session of the database."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def connection(self) -> None:
        """Begin a transaction."""

    def get_transaction(self) -> Session:
        """Return the transaction."""
        return self


class Listeners:
    """Tells the provider's listener what the scheduler or the API server has done."""

    def __init__(self, deployment: Deployment) -> None:
        from polysync_airflow.watch.listeners import EndListener

        self._deployment = deployment
        self._listener: Any = EndListener()

    def run_ended(self, run: DagRun, session: Session | None = None) -> None:
        """As ``DagRun.notify_dagrun_state_changed`` in airflow/models/dagrun.py."""
        row = SimpleNamespace(
            dag_id=DAG_ID,
            run_id=run.run_id,
            session=session or Session(self._deployment),
        )
        self._call(f"on_dag_run_{run.state}", row, "")

    def task_ended(
        self, ti: TaskInstance, state: str | None, session: Session | None = None
    ) -> None:
        """
        As ``_emit_state_listener_hooks`` in airflow/api_fastapi/core_api/services/
        public/task_instances.py and ``TaskInstance.fetch_handle_failure_context``.
        """
        row = SimpleNamespace(
            dag_id=DAG_ID,
            **ti.key._asdict(),
            state=ti.state,
            try_number=ti.try_number,
            queue=QUEUE,
            session=session or Session(self._deployment),
        )
        extra = {"error": None} if state == "failed" else {}
        self._call(f"on_task_instance_{state}", None, row, **extra)

    def _call(self, name: str, *arguments: Any, **extra: Any) -> None:
        getattr(self._listener, name)(*arguments, **extra)
        # It keeps its errors from Airflow, and logs them.
        assert not self._listener._logged, self._listener._logged


def install() -> None:
    """Let the provider find the rows."""
    _open_to_listeners()
    _open_to_commands()


def _open_to_listeners() -> None:
    from polysync_airflow.airflow_compat import listeners
    from polysync_airflow.execution.lifecycle.orphans import queue_of_watch

    def variable_keys_in(session: Session, prefix: str) -> set[str]:
        keys = session.deployment.db.variables
        return {key for key in keys if key.startswith(prefix)}

    def unattended_tasks(session: Session, dag_id: str, run_id: str) -> Iterable[Any]:
        return [
            listeners.EndedTask(dag_id, *ti.key, QUEUE)
            for ti in session.deployment.db.of_run(run_id)
            if ti.state != "success"
        ]

    def let_triggerer_call(
        session: Session, path: str, arguments: Any, _: str, task_queue: str | None
    ) -> None:
        deployment = session.deployment
        kwargs = {"callback_path": path, "callback_kwargs": dict(arguments)}
        row = deployment.db.add_trigger(CALLBACK_TRIGGER, kwargs)
        least_busy = _least_busy(deployment)
        if deployment.settings.has_queues:
            row.queue = queue_of_watch(task_queue, least_busy)
        row.triggerer = least_busy.get(row.queue)

    replaced: Any = listeners
    replaced.session_of = lambda row: row.session
    replaced.savepoint = nullcontext
    replaced.variable_keys_in = variable_keys_in
    replaced.unattended_tasks = unattended_tasks
    replaced.let_triggerer_call = let_triggerer_call


def _least_busy(deployment: Deployment) -> dict[str | None, Any]:
    """As ``least_busy_triggerers`` in polysync_airflow/airflow_compat/triggerers.py."""
    triggerers = deployment.triggerers
    counts = Counter(
        (row.queue, row.triggerer)
        for row in deployment.db.triggers.values()
        if not triggerers.is_dead(row.triggerer)
    )
    if deployment.settings.other_triggers:
        counts.update((each.queue, name) for name, each in triggerers.running.items())
    return dict(sorted(counts, key=lambda each: -counts[each]))


def _open_to_commands() -> None:
    from polysync_airflow.airflow_compat import database, xcoms

    class Variable(database.StoredVariable):
        """A Variable of the simulated database."""

        def value_of(self, key: str) -> str | None:
            return _variable(key).value

        def delete(self) -> None:
            _db().variables.pop(self._row.key)

        def dag_run(self, dag_id: str, run_id: str) -> tuple[str | None, Any]:
            run = _db().runs.get(run_id)
            return (run.state, None) if run else (None, None)

        def has_begun(
            self, dag_id: str, run_id: str, task_id: str, map_index: int
        ) -> bool:
            return (run_id, task_id) in _db().begun

        def tries_of(self, **key: Any) -> list[tuple[str | None, int]]:
            ti = _db().tis.get(_key(key))
            return [(ti.state, ti.try_number)] if ti else []

    def _variable(key: str) -> Variable:
        return Variable(None, _row(key))

    @contextmanager
    def stored_variable(key: str, **_: Any) -> Iterator[Variable]:
        yield _variable(key)

    replaced: Any = database
    replaced.stored_variable = stored_variable
    replaced.stored_variables = lambda prefix: map(_variable, _keys(prefix))
    replaced.variable_keys = _keys
    replaced.use_connection_of_the_database = lambda _: None
    replaced_xcoms: Any = xcoms
    replaced_xcoms.read_xcom = lambda key, **task: _db().xcoms.get((_key(task), key))
    replaced_xcoms.write_xcom = lambda key, value, **task: _db().xcoms.update(
        {(_key(task), key): value}
    )


def _row(key: str) -> Any:
    """Return a row of ``variable``; None if there is none."""
    variables = _db().variables
    if key not in variables:
        return None
    return SimpleNamespace(
        key=key,
        team_name=_db().teams.get(key),
        get_val=lambda: variables[key],
        set_val=partial(variables.__setitem__, key),
    )


def _db() -> Database:
    database: Database = kernels.KERNEL.process.deployment.db
    return database


def _key(task: dict[str, Any]) -> Key:
    return Key(task["run_id"], task["task_id"], task["map_index"])


def _keys(prefix: str) -> list[str]:
    return sorted(key for key in _db().variables if key.startswith(prefix))
