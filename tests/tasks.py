"""Runs a task in tests as Airflow does: in one worker session, or deferred and resumed in another session."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType, TaskDeferred
from airflow.sdk.execution_time.comms import ErrorResponse

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.triggers import poller
from polysync_airflow.triggers.message_queue import MessageQueue

# The original function, which ``emulated_time`` replaces in the poller.
RECEIVE = poller.receive


class EmulatedTime:
    """
    Replaces the module ``time`` where the provider waits.

    ``slept`` lists the seconds of each wait; ``at`` lists the times and actions that ``after`` has scheduled.
    """

    def __init__(self, emulator: EmulatorServer) -> None:
        self._emulator = emulator
        self.slept: list[float] = []
        self.at: list[tuple[float, Callable[[], Any]]] = []

    def time(self) -> float:
        """Return the emulated time."""
        return float(self._emulator.clock.now())

    def monotonic(self) -> float:
        """Return the emulated time."""
        return self.time()

    def receive(self, messages: MessageQueue[Any], seconds: float | None, *, idle: bool) -> Any:
        """Replace ``poller.receive``: time passes only while no call is running and the queue is empty."""
        if not idle or seconds is None:
            return messages.get()
        if messages.empty():
            self.sleep(seconds)
        return RECEIVE(messages, 0, idle=idle)

    def sleep(self, seconds: float) -> None:
        """Advance the emulated clock, and run the scheduled actions that are due meanwhile."""
        self.slept.append(seconds)
        end = self.time() + seconds
        while entry := min((e for e in self.at if e[0] <= end), key=lambda e: e[0], default=None):
            self.at.remove(entry)
            self._emulator.control.advance(max(0.0, entry[0] - self.time()))
            entry[1]()
        self._emulator.control.advance(max(0.0, end - self.time()))

    def after(self, seconds: float, action: Callable[[], Any]) -> None:
        """Schedule an action that runs when this time has passed."""
        self.at.append((self.time() + seconds, action))


class StateStore:
    """
    Replaces Airflow's task state store: JSON values by key, which are kept after retries and clears.

    ``task_instance_id`` counts how often Airflow has given the task instance a new id.
    """

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.retentions: dict[str, Any] = {}
        self.task_instance_id = 0

    def replace_task_instance(self) -> None:
        """Give the task instance a new id, as ``TaskInstance.prepare_db_for_next_try`` does."""
        self.task_instance_id += 1

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Store a value; only JSON can be stored."""
        self.values[key], self.retentions[key] = json.dumps(value), retention

    def delete(self, key: str) -> None:
        """Delete a value."""
        self.values.pop(key, None)


class StateStoreOfTry:
    """
    The task state store as one try reaches it: only while the task instance has the id that the try knows.

    Its errors are those of ``TaskStateStoreAccessor`` in airflow/sdk/execution_time/context.py.

    :param store: the store of the task.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._id = store.task_instance_id
        self.status_code: int | None = None

    def fail_with(self, status_code: int) -> None:
        """Let every request fail, as with 403 after the token of the try has expired."""
        self.status_code = status_code

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value; the default if the task instance has another id."""
        self._raise_if_failing()
        return self._store.get(key, default) if self._id == self._store.task_instance_id else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Store a value."""
        self._raise_if_replaced()
        self._store.set(key, value, retention=retention)

    def delete(self, key: str) -> None:
        """Delete a value."""
        self._raise_if_replaced()
        self._store.delete(key)

    def _raise_if_replaced(self) -> None:
        self._raise_if_failing()
        if self._id != self._store.task_instance_id:
            raise _api_error(404)

    def _raise_if_failing(self) -> None:
        if self.status_code:
            raise _api_error(self.status_code)


def _api_error(status_code: int) -> AirflowRuntimeError:
    detail = {"status_code": status_code, "message": "Server returned error"}
    return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))


@dataclass
class TaskInstance:
    """
    The part of a task instance that operators use. XComs are kept during a deferral, as in Airflow.

    :param latest: returns the task instance of the latest try, which has the XComs of all tries that are alive.
    """

    task_id: str
    dag_id: str = "retraining"
    run_id: str = "scheduled__2026-01-01T00:00:00+00:00"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    xcoms: dict[str, Any] = field(default_factory=dict)
    store: Any = field(default_factory=StateStore)
    latest: Callable[[], TaskInstance] | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        """Store an XCom; only JSON can be stored."""
        self._current.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        """Return an XCom of this task instance."""
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self._current.xcoms.get(key)

    @property
    def _current(self) -> TaskInstance:
        return self.latest() if self.latest else self


@dataclass
class Run:
    """
    The outcome of a task.

    :param ti: the task instance, with its XComs.
    :param result: the return value.
    :param error: the error that ended the task.
    :param trigger: the serialized trigger of the last deferral; None if the task did not defer.
    :param event: the payload of its event.
    :param operator: the operator of the last worker session.
    """

    ti: TaskInstance
    result: Any = None
    error: BaseException | None = None
    trigger: tuple[str, dict[str, Any]] | None = None
    event: Any = None
    operator: Any = None

    @property
    def xcoms(self) -> dict[str, Any]:
        """The XComs of the task."""
        return self.ti.xcoms


def run_task(operator: BaseOperator, ti: TaskInstance | None = None) -> Run:
    """
    Run a task to its end. If it defers, run its trigger and then another worker session.

    :param operator: the task. The next session gets a copy from before the first one, as another worker does.
    :param ti: the task instance; None for a new one.
    """
    run = Run(ti or TaskInstance(operator.task_id), operator=operator)
    context: Any = {"ti": run.ti, "task": operator, "task_state_store": run.ti.store}
    next_session = copy(operator)
    next_session.__dict__.pop("hook", None)
    try:
        try:
            run.result = operator.execute(context)
        except TaskDeferred as deferral:
            run.result = _resume(run, next_session, context, deferral)
    except Exception as error:
        run.error = error
    return run


def _resume(run: Run, operator: BaseOperator, context: Any, deferral: TaskDeferred) -> Any:
    run.trigger = deferral.trigger.serialize()
    run.event = asyncio.run(fire(*run.trigger))
    run.operator, next_session = operator, copy(operator)
    try:
        return getattr(operator, deferral.method_name)(context, run.event)
    except TaskDeferred as again:
        return _resume(run, next_session, context, again)


async def fire(class_path: str, kwargs: dict[str, Any]) -> Any:
    """Create a trigger from its serialized form, run it, and return the payload of its only event."""
    module, _, name = class_path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    return json.loads(json.dumps(events[0].payload))
