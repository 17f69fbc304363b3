"""The rows of Airflow's database, the API server before them, and the listeners."""

from __future__ import annotations

import uuid
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow.providers.common.compat.sdk import XCom

from tests.fakes.airflow_service import MISSING, AirflowService, Channel
from tests.simulation import kernel as kernels

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

DAG_ID: Final = "dag"
# That of all tasks.
QUEUE: Final = "default"
# The last one is that of a task instance whose row is gone.
ENDED: Final = (
    "success",
    "failed",
    "skipped",
    "upstream_failed",
    "removed",
    "deleted",
)
CALLBACK_TRIGGER: Final = "airflow.triggers.callback.CallbackTrigger"
# ``[workers] execution_api_retries``, ``execution_api_retry_wait_min`` and ``..._max``,
# ``execution_api_timeout``.
API_ATTEMPTS: Final = 5
API_WAIT_SECONDS: Final = (1.0, 90.0)
API_TIMEOUT_SECONDS: Final = 5.0


class Key(NamedTuple):
    """What identifies a task instance of the DAG."""

    run_id: str
    task_id: str
    map_index: int = -1


@dataclass
class TaskInstance:
    """
    A row of ``task_instance``.

    :param due: when a retry or the next session of a sensor may be scheduled.
    :param began_at: when the first of the sessions began that a sensor has rescheduled.
    :param process: that of the worker whose heartbeats Airflow accepts.
    """

    key: Key
    id: uuid.UUID
    max_tries: int
    state: str | None = None
    try_number: int = 0
    next_method: str | None = None
    next_kwargs: dict[str, Any] = field(default_factory=dict)
    trigger_id: int | None = None
    trigger_timeout: float | None = None
    due: float = 0.0
    began_at: float | None = None
    process: kernels.Process | None = None

    def __deepcopy__(self, memo: Any) -> TaskInstance:
        other = copy(self)
        other.next_kwargs = dict(self.next_kwargs)
        other.process = None
        return other

    def forget_method(self) -> None:
        """As ``TaskInstance.clear_next_method_args`` in airflow/models/."""
        self.next_method = None
        self.next_kwargs = {}


@dataclass
class DagRun:
    """
    A row of ``dag_run``.

    :param start_date: None while it is queued.
    """

    run_id: str
    logical_date: datetime
    start_date: datetime | None = None
    state: str = "queued"
    clear_number: int = 0


@dataclass
class TriggerRow:
    """
    A row of ``trigger``.

    :param triggerer: the name of the triggerer that runs it.
    """

    id: int
    path: str
    kwargs: dict[str, Any]
    queue: str | None = None
    triggerer: str | None = None

    @property
    def is_callback(self) -> bool:
        """Whether a row of ``callback`` has it."""
        return self.path == CALLBACK_TRIGGER


@dataclass
class Database:
    """
    All rows.

    :param begun: the runs and tasks that the audit log names. It outlives them.
    """

    tis: dict[Key, TaskInstance] = field(default_factory=dict)
    runs: dict[str, DagRun] = field(default_factory=dict)
    triggers: dict[int, TriggerRow] = field(default_factory=dict)
    xcoms: dict[tuple[Key, str], Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    teams: dict[str, str] = field(default_factory=dict)
    begun: set[tuple[str, str]] = field(default_factory=set)
    is_paused: bool = False
    last_trigger_id: int = 0

    def of_run(self, run_id: str) -> list[TaskInstance]:
        """Return the task instances of a DAG run."""
        return [ti for key, ti in self.tis.items() if key.run_id == run_id]

    def of_task(self, key: Key) -> list[TaskInstance]:
        """Return a task instance, or all of a mapped task if no index is given."""
        keys = [key]
        if key.map_index < 0:
            keys = [each for each in self.tis if each[:2] == key[:2]]
        return [self.tis[each] for each in keys if each in self.tis]

    def holds(self, ti: TaskInstance, ti_id: uuid.UUID) -> bool:
        """Return whether a task instance still exists, in the same try."""
        return self.tis.get(ti.key) is ti and ti.id == ti_id

    def waiting_for(self, row: TriggerRow) -> TaskInstance | None:
        """Return the task instance of a trigger."""
        return next((ti for ti in self.tis.values() if ti.trigger_id == row.id), None)

    def add_trigger(
        self, path: str, kwargs: dict[str, Any], queue: str | None = None
    ) -> TriggerRow:
        """Add a row of ``trigger``."""
        self.last_trigger_id += 1
        row = TriggerRow(self.last_trigger_id, path, kwargs, queue)
        self.triggers[row.id] = row
        return row

    def clean_triggers(self) -> bool:
        """As ``Trigger.clean_unused``; return whether one has gone."""
        used = set()
        for ti in self.tis.values():
            if ti.state != "deferred":
                ti.trigger_id = None
            used.add(ti.trigger_id)
        unused = [
            row.id
            for row in self.triggers.values()
            if row.id not in used and not row.is_callback
        ]
        for row_id in unused:
            del self.triggers[row_id]
        return bool(unused)


class RuntimeTI:
    """The task instance that the code of a task or a trigger sees."""

    dag_id = DAG_ID

    def __init__(self, ti: TaskInstance, task: Any) -> None:
        self.id = ti.id
        self.run_id, self.task_id, self.map_index = ti.key
        self.try_number = ti.try_number
        self.max_tries = ti.max_tries
        self.task = task
        self._began_at = ti.began_at
        self.get_template_context: Any = dict

    def _key(self) -> dict[str, Any]:
        names = ("dag_id", "run_id", "task_id", "map_index")
        return {name: getattr(self, name) for name in names}

    def get_first_reschedule_date(self, _: Any) -> datetime | None:
        """Return when the first session of this try began."""
        if self._began_at is None:
            return None
        return datetime.fromtimestamp(self._began_at, UTC)

    def xcom_push(self, key: str, value: Any) -> None:
        """Store an XCom."""
        XCom.set(key=key, value=value, **self._key())

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        """Return an XCom of the task itself."""
        return XCom.get_one(key=key, **self._key())


class Outage(NamedTuple):
    """A time in which the API server, or also the database, does not answer."""

    begin: float
    end: float
    of_database: bool = False


class ApiServer(AirflowService):
    """What workers and triggerers ask."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._channel = Channel(self)
        self._outages: list[Outage] = []

    def go_down(self, seconds: float, *, of_database: bool = False) -> None:
        """Answer nothing for a while."""
        now = kernels.KERNEL.now
        self._outages.append(Outage(now, now + seconds, of_database))
        self._deployment.workers.miss_heartbeats()

    def is_down(self, role: str) -> bool:
        """
        Return whether a process of a role gets no answer. Triggerers and DAG processors
        have an API server in their own process (``in_process_api_server`` in
        airflow/sdk/execution_time/supervisor.py).
        """
        now = kernels.KERNEL.now
        return any(
            each.begin <= now < each.end and (each.of_database or role == "worker")
            for each in self._outages
        )

    def reach(self, name: str, role: str = "worker") -> None:
        """
        Wait until the API server has got a request. As ``Client.request`` in
        airflow/sdk/api/client.py, which repeats it.

        :raises AirflowRuntimeError: it does not answer.
        """
        from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse

        kernel = kernels.KERNEL
        kernel.request("sent", "airflow", name)
        kernel.sleep(0.005 + kernel.random.random() * 0.05)
        for attempt in range(1, API_ATTEMPTS + 1):
            if not self.is_down(role):
                return
            kernel.sleep(kernel.random.random() * API_TIMEOUT_SECONDS)
            if attempt < API_ATTEMPTS:
                kernel.sleep(kernel.random.uniform(*api_wait(attempt)))
        detail = {"status_code": 503, "message": "no response"}
        error = ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail)
        raise AirflowRuntimeError(error)

    def send(self, msg: Any) -> Any:
        """Return the response to a message to the supervisor."""
        kernel = kernels.KERNEL
        name = type(msg).__name__
        try:
            self.reach(name, kernel.process.role)
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
        """
        Return the value of a Variable. As ``get_team_name_dep`` in airflow/api_fastapi/
        execution_api/security.py: only a current try has a team.
        """
        process = kernels.KERNEL.process
        if key in self._db.teams:
            ti = process.owner and self._db.tis.get(Key(*process.owner[1:]))
            if not ti or ti.process is not process:
                return None
        return self._db.variables.get(key)

    def variable_keys(self) -> list[str]:
        """Return the keys of all Variables."""
        return list(self._db.variables)

    def put_variable(self, key: str, value: str, description: str) -> None:
        """Store a Variable. One that exists keeps its team."""
        team = self._deployment.settings.team
        is_new = key not in self._db.variables
        if team and is_new and kernels.KERNEL.process.role == "worker":
            self._db.teams[key] = team
        self._db.variables[key] = value

    def delete_variable(self, key: str) -> None:
        """Delete a Variable."""
        self._db.variables.pop(key, None)
        self._db.teams.pop(key, None)


def api_wait(attempt: int) -> tuple[float, float]:
    """As tenacity's ``wait_random_exponential``: the shortest and longest wait."""
    shortest, longest = API_WAIT_SECONDS
    return shortest, max(shortest, min(longest, 2.0 ** (attempt - 1)))
