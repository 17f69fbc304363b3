"""
Runs a task in tests as Airflow does: in one worker session, or deferred and resumed in
another session.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import uuid
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseOperator,
    TaskDeferred,
)

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution import clock
from polysync_airflow.execution.clock import Clock
from sagemaker_emulator import EmulatorServer
from tests.fakes.airflow_encoding import delivered, pulled
from tests.fakes.airflow_service import DEPLOYMENT
from tests.fakes.json_store import JsonStore
from tests.fakes.simulated_airflow import AIRFLOW


class EmulatedTime(Clock):
    """
    Replaces the clock of the provider by that of the emulator, which moves only while
    the provider waits.

    ``slept`` lists the seconds of each wait; ``at`` lists the times and actions that
    ``after`` has scheduled.
    """

    def __init__(self, emulator: EmulatorServer) -> None:
        # Not by its control API: a wait would be a request.
        self._clock: Any = emulator.clock
        self.slept: list[float] = []
        self.at: list[tuple[float, Callable[[], Any]]] = []

    def time(self) -> float:
        """Return the emulated time."""
        return float(self._clock.now())

    def monotonic(self) -> float:
        """Return the emulated time."""
        return self.time()

    def timeout(self, seconds: float | None, *, idle: bool) -> float | None:
        """
        Let the time of a wait pass at once, but only while nothing else is running.
        """
        if not idle or seconds is None:
            return None
        self.sleep(seconds)
        return 0

    def sleep(self, seconds: float) -> None:
        """
        Advance the emulated clock, and run the scheduled actions that are due
        meanwhile.
        """
        self.slept.append(seconds)
        end = self.time() + seconds
        while entry := min(
            (e for e in self.at if e[0] <= end), key=lambda e: e[0], default=None
        ):
            self.at.remove(entry)
            self._clock.advance(max(0.0, entry[0] - self.time()))
            entry[1]()
        self._clock.advance(max(0.0, end - self.time()))

    def after(self, seconds: float, action: Callable[[], Any]) -> None:
        """Schedule an action that runs when this time has passed."""
        self.at.append((self.time() + seconds, action))


_STARTS = count()


@dataclass
class DagRun:
    """The part of a DAG run that operators use."""

    start_date: datetime | None = datetime(2026, 1, 1, tzinfo=UTC)
    clear_number: int = 0


@dataclass
class TaskInstance:
    """
    The part of a task instance that operators use. XComs are kept during a deferral, as
    in Airflow.

    :param latest: returns the task instance of the latest try, which has the XComs of
        all tries that are alive.
    :param store: the Variable with the record, which all tries share.
    :param task_state_store: that of Airflow 3.3; None in other versions.
    :param deployment: the Variable that identifies its deployment of Airflow.
    :param state: returns the state of the task instance.
    :param status_code: with which Airflow refuses the requests of this try.
    :param interval: the data interval of its DAG run; None if it has none.
    :param first_session: when the first session of a try began that was rescheduled.
    :param reschedules: how often this try was rescheduled.
    :param task: the task, which a triggerer knows if the task has started there.
    :param is_deferred: whether its trigger runs in place of its process.
    """

    task_id: str
    dag_id: str = "retraining"
    run_id: str = "scheduled__2026-01-01T00:00:00+00:00"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    xcoms: dict[str, Any] = field(default_factory=dict)
    store: JsonStore = field(default_factory=JsonStore)
    task_state_store: JsonStore | None = None
    deployment: str | None = DEPLOYMENT
    latest: Callable[[], TaskInstance] | None = None
    state: Callable[[], str | None] = lambda: "running"
    dag_run: DagRun = field(default_factory=DagRun)
    region_id: uuid.UUID | None = None
    region_index: int = -1
    status_code: int | None = None
    interval: tuple[datetime, datetime] | None = None
    first_session: datetime | None = None
    reschedules: int = 0
    task: Any = None
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    is_deferred: bool = False

    def __post_init__(self) -> None:
        AIRFLOW.instances.append(self)

    def cut_off(self, status_code: int) -> None:
        """
        Let every request of this try fail, as with 403 after its token has expired.
        """
        self.status_code = status_code

    def context(self, task: BaseOperator) -> Any:
        """Return the context in which a worker runs the task."""
        context: dict[str, Any] = {"ti": self, "task": task, "dag_run": self.dag_run}
        if CAPABILITIES.task_sdk:
            context["task_reschedule_count"] = self.reschedules
        if self.interval:
            context["data_interval_start"], context["data_interval_end"] = self.interval
        return (
            {**context, "task_state_store": self.task_state_store}
            if self.task_state_store
            else context
        )

    def get_template_context(self) -> Any:
        """Return the context in which a triggerer renders the templates of the task."""
        return self.context(self.task)

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        """Return when the first session of a rescheduled try began, as on Airflow 3."""
        return self.first_session

    def xcom_push(self, key: str, value: Any) -> None:
        """Store an XCom as Airflow does."""
        self._current.xcoms[key] = pulled(value)

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
    :param trigger: the serialized trigger of the last deferral; None if the task did
        not defer.
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
    Run a task to its end. If it defers, run its trigger and then another worker
    session.

    :param operator: the task. The next session gets a copy from before the first one,
        as another worker does.
    :param ti: the task instance; None for a new one.
    """
    run = Run(ti or _in_new_dag_run(operator), operator=operator)
    context = run.ti.context(operator)
    next_session = copy(operator)
    next_session.__dict__.pop("hook", None)
    with AIRFLOW.process(run.ti):
        allow_execute_in_this_thread()
        try:
            try:
                run.result = operator.execute(context)
            except TaskDeferred as deferral:
                run.result = _resume(run, next_session, context, deferral)
            pulled(run.result)
        except Exception as error:
            run.error = cause_of(error)
    return run


def _in_new_dag_run(operator: BaseOperator) -> TaskInstance:
    # Its executions are not those of an earlier one: the start of the DAG run tells
    # them apart.
    started_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(_STARTS))
    return TaskInstance(operator.task_id, dag_run=DagRun(started_at))


def resume_task(
    operator: BaseOperator,
    ti: TaskInstance,
    trigger: tuple[str, dict[str, Any]],
    method_name: str = "execute_complete",
) -> Run:
    """
    Run the trigger of a task that is deferred already, and then a worker session.

    :param trigger: the serialized trigger, as Airflow's database has it.
    :param method_name: the method in which Airflow resumes the task.
    """
    run, context = Run(ti, operator=operator), ti.context(operator)
    module, _, name = trigger[0].rpartition(".")
    stored = getattr(importlib.import_module(module), name)(**trigger[1])
    with AIRFLOW.process(ti):
        allow_execute_in_this_thread()
        try:
            deferral = TaskDeferred(trigger=stored, method_name=method_name)
            run.result = _resume(run, operator, context, deferral)
        except Exception as error:
            run.error = cause_of(error)
    return run


def allow_execute_in_this_thread() -> None:
    """Let this thread be the process of a task."""
    if not CAPABILITIES.task_sdk:
        # Airflow 2 knows one thread of a process that executes tasks. Here, each
        # process is a thread.
        sentinel = importlib.import_module(
            "airflow.models.baseoperator"
        ).ExecutorSafeguard._sentinel
        if not hasattr(sentinel, "callers"):
            sentinel.callers = {}


def cause_of(error: Exception) -> BaseException:
    """
    Return the error of the provider that ended a task.

    Before Airflow 3.3, an error that must not be retried is the cause of an
    ``AirflowFailException``.
    """
    wrapped = type(error) is AirflowFailException and not CAPABILITIES.retry_policy
    return error.__cause__ if wrapped and error.__cause__ else error


def _resume(
    run: Run, operator: BaseOperator, context: Any, deferral: TaskDeferred
) -> Any:
    class_path, kwargs = run.trigger = deferral.trigger.serialize()
    run.event = asyncio.run(fire(class_path, delivered(kwargs), run.ti))
    run.operator, next_session = operator, copy(operator)
    try:
        kwargs = pulled(deferral.kwargs or {})
        return getattr(operator, deferral.method_name)(context, run.event, **kwargs)
    except TaskDeferred as again:
        return _resume(run, next_session, context, again)


async def fire(
    class_path: str, kwargs: dict[str, Any], ti: TaskInstance | None = None
) -> Any:
    """
    Create a trigger from its serialized form, run it, and return the payload of its
    only event.

    :param ti: the task instance, as a triggerer sets it; None outside of a triggerer.
    """
    if "moment" in kwargs:
        # Airflow's own trigger, which waits by the clock of the host.
        pause = kwargs["moment"] - datetime.now(UTC)
        clock.sleep(pause.total_seconds())
        return kwargs["moment"]
    module, _, name = class_path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(
        **json.loads(json.dumps(kwargs))
    )
    trigger.task_instance = ti
    if ti:
        ti.is_deferred = True
    try:
        events = [event async for event in trigger.run()]
    finally:
        if ti:
            ti.is_deferred = False
    assert len(events) == 1
    return delivered(events[0].payload)
