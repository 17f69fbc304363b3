"""The rows of Airflow's database, the API server before them, and the listeners."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow.providers.common.compat.sdk import XCom

from tests.fakes.airflow_service import MISSING, AirflowService, Channel
from tests.simulation import kernel as kernels

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

DAG_ID: Final = "dag"
ENDED: Final = ("success", "failed", "skipped", "upstream_failed", "removed")


class ApiServerError(Exception):
    """Airflow's API server has not answered."""


class Key(NamedTuple):
    """What identifies a task instance of the DAG."""

    run_id: str
    task_id: str
    map_index: int = -1


@dataclass
class TaskInstance:
    """
    A row of ``task_instance``.

    :param has_begun: whether a session of this try has run.
    :param due: when it may be scheduled.
    """

    key: Key
    id: uuid.UUID
    max_tries: int
    state: str | None = None
    try_number: int = 0
    next_method: str | None = None
    next_kwargs: dict[str, Any] = field(default_factory=dict)
    trigger_id: int | None = None
    due: float = 0.0
    has_begun: bool = False
    process: kernels.Process | None = None

    def __deepcopy__(self, memo: Any) -> TaskInstance:
        other = copy(self)
        other.next_kwargs = dict(self.next_kwargs)
        other.process = None
        return other


@dataclass
class DagRun:
    """A row of ``dag_run``."""

    run_id: str
    start_date: datetime
    state: str = "running"
    clear_number: int = 0


@dataclass
class TriggerRow:
    """
    A row of ``trigger``.

    :param ti_id: the try that has deferred.
    :param triggerer: the name of the triggerer that runs it.
    """

    id: int
    path: str
    kwargs: dict[str, Any]
    key: Key
    ti_id: uuid.UUID
    try_number: int
    triggerer: str | None = None


@dataclass
class CallbackRow:
    """
    A row of ``callback``, for triggerers.

    :param called_by: the triggerers that have called it.
    """

    path: str
    kwargs: dict[str, Any]
    called_by: set[str] = field(default_factory=set)


@dataclass
class Database:
    """All rows."""

    tis: dict[Key, TaskInstance] = field(default_factory=dict)
    runs: dict[str, DagRun] = field(default_factory=dict)
    triggers: dict[int, TriggerRow] = field(default_factory=dict)
    xcoms: dict[tuple[Key, str], Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    callbacks: list[CallbackRow] = field(default_factory=list)
    is_paused: bool = False
    last_trigger_id: int = 0

    def of_run(self, run_id: str) -> list[TaskInstance]:
        """Return the task instances of a DAG run."""
        return [ti for key, ti in self.tis.items() if key.run_id == run_id]

    def holds(self, ti: TaskInstance, ti_id: uuid.UUID) -> bool:
        """Return whether a task instance still exists, in the same try."""
        return self.tis.get(ti.key) is ti and ti.id == ti_id


class RuntimeTI:
    """The task instance that the code of a task or a trigger sees."""

    dag_id = DAG_ID

    def __init__(self, ti: TaskInstance, task: Any) -> None:
        self.id = ti.id
        self.run_id, self.task_id, self.map_index = ti.key
        self.try_number = ti.try_number
        self.max_tries = ti.max_tries
        self.task = task

    def _key(self) -> dict[str, Any]:
        names = ("dag_id", "run_id", "task_id", "map_index")
        return {name: getattr(self, name) for name in names}

    def xcom_push(self, key: str, value: Any) -> None:
        """Store an XCom."""
        XCom.set(key=key, value=value, **self._key())

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        """Return an XCom of the task itself."""
        return XCom.get_one(key=key, **self._key())


class ApiServer(AirflowService):
    """What workers and triggerers ask."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._channel = Channel(self)
        self.outages: list[tuple[float, float]] = []

    def send(self, msg: Any) -> Any:
        """
        Return the response to a message to the supervisor.

        :raises ApiServerError: its client has repeated the request for a minute.
        """
        kernel = kernels.KERNEL
        name = type(msg).__name__
        kernel.request("sent", "airflow", name)
        kernel.sleep(0.005 + kernel.random.random() * 0.05)
        waited = 0.0
        while any(begin <= kernel.now < end for begin, end in self.outages):
            if waited > 60:
                raise ApiServerError("API_SERVER_ERROR: no response")
            kernel.sleep(5)
            waited += 5
        try:
            answer = self._channel.send(msg)
        finally:
            kernel.request("answered", "airflow", name)
        kernel.sleep(0.005 + kernel.random.random() * 0.05)
        return answer

    @property
    def _db(self) -> Database:
        return self._deployment.db

    def task_state(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
        """Return the state of a task instance; MISSING if there is none."""
        ti = self._db.tis.get(Key(run_id, task_id, map_index))
        return MISSING if ti is None else ti.state

    def is_current(self, ti_id: uuid.UUID) -> bool:
        """Return whether a task instance has this id."""
        return any(ti.id == ti_id for ti in self._db.tis.values())

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
    ) -> Any:
        """Return the value of an XCom."""
        return self._db.xcoms.get((Key(run_id, task_id, map_index), key))

    def put_xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int,
        key: str,
        value: Any,
    ) -> None:
        """Store an XCom."""
        self._db.xcoms[Key(run_id, task_id, map_index), key] = value

    def remove_xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
    ) -> None:
        """Delete an XCom."""
        self._db.xcoms.pop((Key(run_id, task_id, map_index), key), None)

    def variable(self, key: str) -> str | None:
        """Return the value of a Variable."""
        return self._db.variables.get(key)

    def variable_keys(self) -> list[str]:
        """Return the keys of all Variables."""
        return list(self._db.variables)

    def put_variable(self, key: str, value: str, description: str) -> None:
        """Store a Variable."""
        self._db.variables[key] = value

    def delete_variable(self, key: str) -> None:
        """Delete a Variable."""
        self._db.variables.pop(key, None)


class Session:
    """What the listeners get in place of a session of the database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def connection(self) -> None:
        """Begin a transaction."""

    def get_transaction(self) -> Session:
        """Return the transaction."""
        return self


def install() -> None:
    """Let the provider's listeners find the rows."""
    from polysync_airflow.airflow_compat import listeners

    def variable_keys_in(session: Session, prefix: str) -> set[str]:
        keys = session.database.variables
        return {key for key in keys if key.startswith(prefix)}

    def unattended_tasks(session: Session, dag_id: str, run_id: str) -> Iterable[Any]:
        return [
            listeners.EndedTask(dag_id, *ti.key)
            for ti in session.database.of_run(run_id)
            if ti.state != "success"
        ]

    def let_triggerer_call(
        session: Session, path: str, arguments: Any, *_: Any, **__: Any
    ) -> None:
        session.database.callbacks.append(CallbackRow(path, dict(arguments)))

    replaced: Any = listeners
    replaced.session_of = lambda row: row.session
    replaced.savepoint = nullcontext
    replaced.variable_keys_in = variable_keys_in
    replaced.unattended_tasks = unattended_tasks
    replaced.let_triggerer_call = let_triggerer_call


class Listeners:
    """Tells the provider's listener what the scheduler or the API server has done."""

    def __init__(self, database: Database) -> None:
        from polysync_airflow.watch.listeners import EndListener

        self._database = database
        self._listener: Any = EndListener()

    def run_ended(self, run: DagRun) -> None:
        """As ``DagRun.notify_dagrun_state_changed`` in airflow/models/dagrun.py."""
        row = SimpleNamespace(
            dag_id=DAG_ID, run_id=run.run_id, session=Session(self._database)
        )
        getattr(self._listener, f"on_dag_run_{run.state}")(row, "")

    def task_marked(self, ti: TaskInstance) -> None:
        """
        As ``_emit_state_listener_hooks`` in
        airflow/api_fastapi/core_api/routes/public/task_instances.py.
        """
        row = SimpleNamespace(
            dag_id=DAG_ID,
            **ti.key._asdict(),
            state=ti.state,
            session=Session(self._database),
        )
        extra = {"error": None} if ti.state == "failed" else {}
        getattr(self._listener, f"on_task_instance_{ti.state}")(None, row, **extra)
