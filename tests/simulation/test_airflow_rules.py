"""
The simulated Airflow does what the installed one does: the same cases, in both.

The real rules run in Airflow's own database. What needs a process of Airflow is called
as that process does.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from unittest.mock import AsyncMock, MagicMock, patch

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

if not CAPABILITIES.start_from_trigger:
    pytest.skip("the simulated Airflow is 3.3 or newer", allow_module_level=True)

from airflow.api.common.delete_dag import delete_dag
from airflow.api_fastapi.core_api.datamodels.dag_run import DagRunMutableStates
from airflow.api_fastapi.core_api.routes.public.dag_run import delete_dag_run
from airflow.api_fastapi.core_api.services.public import dag_run as run_service
from airflow.api_fastapi.core_api.services.public import task_instances as ti_service
from airflow.api_fastapi.execution_api.routes import task_instances as ti_routes
from airflow.jobs import triggerer_job_runner
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.callback import TriggererCallback
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger, handle_event_submit
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.api import client
from airflow.sdk.exceptions import AirflowException
from airflow.serialization import serialized_objects as serialized
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.triggers import base
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from fastapi import HTTPException

from tests.simulation import kernel as kernels
from tests.simulation.airflow import database as simulated
from tests.simulation.airflow import triggerers, workers
from tests.simulation.airflow.database import DAG_ID, Key
from tests.simulation.airflow.deployment import Deployment, Settings
from tests.simulation.journal import Journal
from tests.simulation.kernel import Kernel

RUN: Final = "r1"
BUNDLE: Final = "rules"
STATES: Final = (
    *(None, "scheduled", "queued", "running", "deferred", "up_for_retry"),
    *("success", "failed", "skipped", "upstream_failed"),
)
RUN_STATES: Final = ("queued", "running", "success", "failed")
# What a task instance has beside its id.
FIELDS: Final = ("state", "try_number", "max_tries", "next_method", "trigger_id")
Compare = Callable[..., None]
FIRED: Final[Any] = base.TriggerEvent("x")  # type: ignore[no-untyped-call]


class Case(NamedTuple):
    """Task instances before something happens: a state, and the number of the try."""

    tasks: Mapping[str, tuple[str | None, int]]
    run: str = "running"


@pytest.fixture(scope="module")
def dag(airflow_database: None) -> DAG:
    """A DAG whose serialized form is in the database."""
    with DAG(DAG_ID, schedule=None, dagrun_timeout=timedelta(seconds=1000)) as made:
        first = BaseOperator(task_id="first", retries=2)
        second = BaseOperator(task_id="second")
        last = BaseOperator(task_id="last")
        either = BaseOperator(task_id="either", trigger_rule="one_success")
        first >> second >> last
        [first, second] >> either
    with create_session() as session:
        session.merge(DagBundleModel(name=BUNDLE))
        session.flush()
        SerializedDAG.bulk_write_to_db(BUNDLE, None, [made], session=session)
        lazy = serialized.LazyDeserializedDAG.from_dag(made)
        SerializedDagModel.write_dag(lazy, bundle_name=BUNDLE, session=session)
        session.query(DagModel).update({"relative_fileloc": "x.py"})
    return made


class Real:
    """The installed Airflow, with the rows of a case."""

    def __init__(self, session: Any, dag: DAG, case: Case) -> None:
        self.session = session
        codec = serialized.DagSerialization
        self.dag: Any = codec.from_dict(codec.to_dict(dag))
        now = datetime.now(UTC)
        self.run: Any = self.dag.create_dagrun(
            run_id=RUN,
            run_after=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState(case.run),
            session=session,
            start_date=None if case.run == "queued" else now,
        )
        self.run.clear_number = 0
        _put(case, self)
        session.flush()
        self._ids = {ti.task_id: ti.id for ti in self.run.get_task_instances()}

    def add_trigger(self) -> Any:
        """Return the row of a new trigger."""
        trigger = Trigger("x.Y", {})
        self.session.add(trigger)
        self.session.flush()
        return trigger

    def ti(self, task_id: str) -> Any:
        """Return a task instance, with its task."""
        ti: Any = self.run.get_task_instance(task_id, session=self.session)
        ti.task = self.dag.get_task(task_id)
        return ti

    def found(self) -> Any:
        """Return what is in the database."""
        self.session.flush()
        self.session.expire_all()
        tis = self.session.query(TaskInstance).filter_by(dag_id=DAG_ID)
        tasks = {ti.task_id: _fields(ti, self._ids[ti.task_id]) for ti in tis}
        run = self.session.query(DagRun).filter_by(dag_id=DAG_ID).one_or_none()
        return tasks, run and _of_run(run)


class Simulated:
    """The simulated Airflow, with the rows of a case."""

    def __init__(self, dag: DAG, case: Case, **settings: Any) -> None:
        Kernel("rules")
        tasks = dict(dag.task_dict)
        self.deployment = Deployment(
            "a", simulated.Database(), Settings(**settings), lambda: tasks, Journal()
        )
        self.people = self.deployment.people
        self.people.start_run(RUN)
        self.db = self.deployment.db
        self.run = self.db.runs[RUN]
        self.run.state = case.run
        if case.run != "queued":
            self.run.start_date = datetime.fromtimestamp(kernels.KERNEL.now, UTC)
        _put(case, self)
        self._ids = {key.task_id: ti.id for key, ti in self.db.tis.items()}

    def add_trigger(self) -> Any:
        """Return the row of a new trigger."""
        return self.db.add_trigger("x.Y", {})

    def ti(self, task_id: str) -> simulated.TaskInstance:
        """Return a task instance."""
        return self.db.tis[Key(RUN, task_id)]

    def found(self) -> Any:
        """Return what is in the database."""
        tasks = {
            key.task_id: _fields(ti, self._ids[key.task_id])
            for key, ti in self.db.tis.items()
        }
        run = self.db.runs.get(RUN)
        return tasks, run and _of_run(run)


def _put(case: Case, into: Real | Simulated) -> None:
    for task_id, (state, number) in case.tasks.items():
        ti = into.ti(task_id)
        ti.state = state
        ti.try_number = number
        if state == "deferred":
            ti.trigger_id = into.add_trigger().id
            ti.next_method = "execute_complete"


def _fields(ti: Any, before: uuid.UUID) -> dict[str, Any]:
    fields = {name: getattr(ti, name) for name in FIELDS}
    # The real one is removed from the row later (``Trigger.clean_unused``).
    has_trigger = fields.pop("trigger_id") is not None and ti.state == "deferred"
    return {**fields, "has_trigger": has_trigger, "is_new_try": ti.id != before}


def _of_run(run: Any) -> tuple[str, int, bool]:
    return str(run.state), run.clear_number, run.start_date is None


@pytest.fixture
def session(dag: DAG) -> Iterator[Any]:
    """A session whose rows are gone afterwards."""
    with create_session() as made:
        yield made
        made.rollback()
        _forget(made)


def _forget(session: Any) -> None:
    models: list[Any] = [TaskInstance, DagRun]
    for model in models:
        session.query(model).filter_by(dag_id=DAG_ID).delete()
    models = [TriggererCallback, Trigger, Job]
    for model in models:
        session.query(model).delete()
    session.commit()


@pytest.fixture
def compare(session: Any, dag: DAG) -> Compare:
    """Let something happen in both, for each case, and compare what is left."""

    def compare(
        cases: list[Case],
        real_act: Callable[[Real], Any],
        simulated_act: Callable[[Simulated], Any],
        **settings: Any,
    ) -> None:
        for case in cases:
            real = Real(session, dag, case)
            copy = Simulated(dag, case, **settings)
            answers = real_act(real), simulated_act(copy)
            assert copy.found() == real.found(), case
            assert bool(answers[0]) == bool(answers[1]), case
            session.rollback()
            _forget(session)

    return compare


def _is_accepted(call: Callable[[], Any]) -> bool:
    """Return whether Airflow does what a user asks for."""
    try:
        call()
    except (AirflowException, HTTPException):
        return False
    return True


def _cases(*runs: str) -> list[Case]:
    """
    Return cases with a task in each state, and others after it that have failed.

    :param runs: the states of the DAG run, in turn.
    """
    turns = zip(
        STATES,
        itertools.cycle(runs or ["running"]),
        itertools.cycle(["upstream_failed", None]),
        strict=False,
    )
    return [
        Case({"first": (state, 2), "second": (state, 1), "last": (below, 1)}, run)
        for state, run, below in turns
    ]


@pytest.mark.parametrize(
    ("downstream", "upstream", "run"),
    [
        *((True, False, run) for run in RUN_STATES),
        (False, False, "failed"),
        (True, True, "running"),
    ],
)
def test_a_clear(compare: Compare, downstream: bool, upstream: bool, run: str) -> None:
    """States, tries, ids, and the DAG run, in each state of both."""

    def clear(real: Real) -> Any:
        subset = real.dag.partial_subset(
            task_ids=["second"],
            include_downstream=downstream,
            include_upstream=upstream,
        )
        return subset.clear(run_id=RUN, session=real.session)

    compare(
        _cases(run),
        clear,
        lambda copy: copy.people.clear(
            Key(RUN, "second"), downstream=downstream, upstream=upstream
        ),
    )


@pytest.mark.parametrize("only_failed", [True, False])
def test_a_clear_of_a_run(compare: Compare, only_failed: bool) -> None:
    """All task instances, or those that have failed."""
    compare(
        _cases(*RUN_STATES),
        lambda real: real.dag.clear(
            run_id=RUN, only_failed=only_failed, session=real.session
        ),
        lambda copy: copy.people.clear(Key(RUN, ""), only_failed=only_failed),
    )


@pytest.mark.parametrize("state", ["success", "failed", "skipped"])
def test_a_mark_of_a_task(compare: Compare, state: str) -> None:
    """What fails below it is cleared. A mark as what it is does nothing."""

    def mark(real: Real) -> bool:
        body: Any = MagicMock(
            map_index=None,
            include_upstream=False,
            include_downstream=False,
            include_future=False,
            include_past=False,
        )
        savepoint = real.session.begin_nested()
        is_accepted = _is_accepted(
            lambda: ti_service._patch_task_instance_state(
                "first", RUN, real.dag, body, {"new_state": state}, real.session
            )
        )
        if not is_accepted:
            savepoint.rollback()
        return is_accepted

    compare(
        _cases("running", "failed"),
        mark,
        lambda copy: copy.people.mark(Key(RUN, "first"), state),
    )


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_mark_of_a_run(compare: Compare, state: str) -> None:
    """What runs gets the state, what waits is skipped; the listeners hear of both."""
    told: dict[str, list[str]] = {"real": [], "simulated": []}

    def mark(real: Real) -> bool:
        manager = MagicMock()
        with (
            patch.object(run_service, "get_listener_manager", lambda: manager),
            patch.object(ti_service, "get_listener_manager", lambda: manager),
        ):
            run_service.patch_dag_run_state(
                dag=real.dag,
                dag_run=real.run,
                state=DagRunMutableStates(state),
                session=real.session,
            )
        told["real"] += [each[0] for each in manager.hook.mock_calls]
        return True

    def simulate(copy: Simulated) -> bool:
        listener = MagicMock(_logged=())
        copy.deployment.listeners._listener = listener
        copy.people.mark_run(RUN, state)
        told["simulated"] += [each[0] for each in listener.mock_calls]
        return True

    compare(_cases(*RUN_STATES), mark, simulate)
    assert told["simulated"] == told["real"]


def test_deletions(compare: Compare) -> None:
    """A DAG run that runs is not deleted, nor a DAG with a task that runs."""

    compare(
        [Case({}, run) for run in RUN_STATES],
        lambda real: _is_accepted(lambda: delete_dag_run(DAG_ID, RUN, real.session)),
        lambda copy: copy.people.delete_run(RUN),
    )
    compare(
        _cases(),
        lambda real: _is_accepted(lambda: delete_dag(DAG_ID, session=real.session)),
        lambda copy: copy.people.delete_dag(),
    )


def test_ends_of_tries(compare: Compare) -> None:
    """Which tries are retried: those that the scheduler ends, and those of workers."""
    cases = [
        Case({"first": (state, number), "second": (state, number)})
        for state in ("running", "queued", "restarting")
        for number in (1, 2, 3)
    ]

    def fail(real: Real) -> None:
        for task_id in ("first", "second"):
            real.ti(task_id).handle_failure("x", session=real.session)

    def simulate(copy: Simulated) -> None:
        for task_id in ("first", "second"):
            copy.deployment.scheduler.handle_failure(copy.ti(task_id))

    compare(cases, fail, simulate)
    for number, tries in itertools.product(range(1, 4), range(4)):
        is_retried = workers.should_retry(number, tries)
        assert is_retried == ti_routes._is_eligible_to_retry("queued", number, tries)


@pytest.mark.parametrize(
    "event",
    [
        *(FIRED, None, base.TaskSuccessEvent()),
        *(base.TaskSkippedEvent(), base.TaskFailedEvent()),
    ],
    ids=lambda event: type(event).__name__,
)
def test_events_of_triggers(compare: Compare, event: Any) -> None:
    """A task goes on, ends, or waits for its retry."""

    def submit(real: Real) -> None:
        ti = real.ti("first")
        if event is None:
            Trigger.submit_failure(ti.trigger_id, session=real.session)
        else:
            handle_event_submit(event, task_instance=ti, session=real.session)

    def simulate(copy: Simulated) -> None:
        triggerer = copy.deployment.triggerers.running["a.triggerer0"]
        triggerer._submit(copy.ti("first").trigger_id or 0, event)

    cases = [Case({"first": ("deferred", number)}) for number in (1, 3)]
    compare(cases, submit, simulate)


def test_timeouts(compare: Compare) -> None:
    """That of a deferral lets the task fail on a worker; that of a run skips tasks."""
    scheduler: Any = MagicMock(_multi_team=False)

    def defer_for_long(real: Real) -> None:
        real.ti("first").trigger_timeout = datetime(2020, 1, 1, tzinfo=UTC)
        real.session.flush()
        SchedulerJobRunner.check_trigger_timeouts(scheduler, session=real.session)

    def simulate(copy: Simulated) -> None:
        copy.ti("first").trigger_timeout = kernels.KERNEL.now - 1
        copy.deployment.scheduler._check_trigger_timeouts()

    compare(_cases(), defer_for_long, simulate)

    def run_for_long(real: Real) -> None:
        real.run.start_date = datetime(2020, 1, 1, tzinfo=UTC)
        scheduler.scheduler_dag_bag.get_dag_for_run.return_value = real.dag
        SchedulerJobRunner._schedule_dag_run(scheduler, real.run, real.session)
        real.session.merge(real.run)

    def simulate_run(copy: Simulated) -> None:
        copy.run.start_date = datetime(2020, 1, 1, tzinfo=UTC)
        copy.deployment.scheduler._schedule(copy.run)

    compare(_cases(), run_for_long, simulate_run, dagrun_timeout=1000)


def test_trigger_rules_and_ends_of_runs(compare: Compare) -> None:
    """What may run, what is skipped, and how the DAG run ends."""
    states = (None, "running", "success", "failed", "skipped", "upstream_failed")

    def schedule(real: Real) -> None:
        for _ in range(3):
            if real.run.state != "running":
                return
            run = real.run
            tis, _ = run.update_state(session=real.session, execute_callbacks=False)
            for ti in tis:
                ti.state = "queued"
                ti.try_number += 1
            real.session.flush()

    def simulate(copy: Simulated) -> None:
        with patch.object(copy.deployment.workers, "start"):
            for _ in range(3):
                copy.deployment.scheduler._schedule(copy.run)

    # A task does not run if one above it has failed.
    cases = [
        Case({"first": (above, 1), "second": (state, 1)})
        for above, state in itertools.product(states[1:], states[1:])
        if state != "running" or above == "success"
    ]
    cases += [
        Case({"first": (above, 1), "second": ("success", 1), "last": (state, 1)})
        for above, state in itertools.product(("success", "failed"), states[2:])
    ]
    compare(cases, schedule, simulate)


# ---- triggerers


def _jobs(session: Any) -> list[Any]:
    """Add three triggerers, of which the last one is dead."""
    jobs: list[Any] = [Job(heartrate=5) for _ in range(3)]  # type: ignore[no-untyped-call]
    for job in jobs:
        job.job_type = "TriggererJob"
        job.latest_heartbeat = datetime.now(UTC)
        session.add(job)
    jobs[2].latest_heartbeat -= timedelta(hours=1)
    session.flush()
    return jobs


@pytest.mark.parametrize("capacity", [0, 1, 2, 10])
@pytest.mark.parametrize("queue", [None, "default"])
def test_assignment_of_triggers(
    session: Any, dag: DAG, capacity: int, queue: str | None
) -> None:
    """Which triggers a triggerer takes, and which it runs, if others live or died."""
    tasks = dict.fromkeys(dag.task_ids, ("deferred", 1))
    real = Real(session, dag, Case(tasks))
    copy = Simulated(dag, Case(tasks), capacity=capacity)
    all_of_them = copy.deployment.triggerers
    all_of_them.running.clear()
    for _ in range(3):
        all_of_them.add(queue)
    names = dict(enumerate(all_of_them.running))
    all_of_them._beats[names[2]] = 0
    jobs = _jobs(session)
    for _ in range(3):
        callback: Any = TriggererCallback(
            SimpleNamespace(serialize=lambda: {"path": "x.y", "kwargs": {}})
        )
        callback.queue(session=session)
        session.add(callback)
        copy.db.add_trigger(simulated.CALLBACK_TRIGGER, {})
    session.flush()
    rows = session.query(Trigger).order_by(Trigger.id).all()
    copies = list(copy.db.triggers.values())
    for number, (row, other) in enumerate(zip(rows, copies, strict=True)):
        row.queue = other.queue = (None, "default")[number // 2 % 2]
        owner = (None, 0, 1, 2)[number % 4]
        if owner is not None:
            row.triggerer_id = jobs[owner].id
            other.triggerer = names[owner]
    session.flush()
    queues = {queue} if queue else None
    Trigger.assign_unassigned(jobs[0].id, capacity, 30, queues, session=session)
    session.expire_all()
    wanted = set(Trigger.ids_for_triggerer(jobs[0].id, queues, session=session))
    triggerer = all_of_them.running[names[0]]
    triggerer._assign()
    by_job: dict[int | None, str | None] = {
        job.id: names[number] for number, job in enumerate(jobs)
    }
    by_job[None] = None
    assert [each.triggerer for each in copies] == [
        by_job[row.triggerer_id] for row in rows
    ]
    assert [triggerer._is_mine(each) for each in copies] == [
        row.id in wanted for row in rows
    ]
    assert real.run


class _Waits(base.BaseTrigger):
    """A trigger that waits for ever."""

    killed = 0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}._Waits", {}

    async def run(self) -> Any:
        await asyncio.sleep(3600)
        yield FIRED

    async def on_kill(self) -> None:
        _Waits.killed += 1


@pytest.mark.parametrize("seconds_left", [None, 3600, -3600])
@pytest.mark.parametrize("message", [triggerers.USER_ACTION, None])
def test_when_a_trigger_is_told_to_end(
    dag: DAG, seconds_left: float | None, message: str | None
) -> None:
    """``on_kill`` is called after a user's action, but not after a timeout."""
    log = MagicMock(ainfo=AsyncMock(), aerror=AsyncMock(), awarning=AsyncMock())
    runner: Any = MagicMock(log=log, triggers={1: {"name": "x", "events": 0}})
    copy = Simulated(dag, Case({"first": ("deferred", 1)}))
    ti = copy.ti("first")
    after = None
    if seconds_left is not None:
        after = datetime.now(UTC) + timedelta(seconds=seconds_left)
        ti.trigger_timeout = kernels.KERNEL.now + seconds_left
    row = simulated.TriggerRow(1, f"{__name__}._Waits", {})
    triggerer = copy.deployment.triggerers.running["a.triggerer0"]

    async def cancelled(coroutine: Any) -> int:
        _Waits.killed = 0
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(0.01)
        task.cancel(message)
        await asyncio.gather(task, return_exceptions=True)
        return _Waits.killed

    trigger: Any = _Waits
    run_trigger = triggerer_job_runner.TriggerRunner.run_trigger
    expected = asyncio.run(cancelled(run_trigger(runner, 1, trigger(), after)))
    assert asyncio.run(cancelled(triggerer._run_trigger(row, ti))) == expected


def test_each_trigger_that_is_not_ones_own_any_more_is_cancelled_in_the_same_way(
    dag: DAG,
) -> None:
    """Also one that has moved to another triggerer."""
    supervisor: Any = SimpleNamespace(
        running_triggers={1, 2},
        cancelling_triggers=set(),
        events=(),
        failed_triggers=(),
        creating_triggers=(),
    )
    triggerer_job_runner.TriggerRunnerSupervisor.update_triggers(supervisor, {2})
    runner: Any = MagicMock(
        to_cancel=deque(supervisor.cancelling_triggers),
        triggers={number: {"task": MagicMock()} for number in (1, 2)},
    )
    runner_class: Any = triggerer_job_runner.TriggerRunner
    asyncio.run(runner_class.cancel_triggers(runner))
    real = [each["task"].cancel.mock_calls for each in runner.triggers.values()]

    copy = Simulated(dag, Case({}))
    triggerer = copy.deployment.triggerers.running["a.triggerer0"]
    for owner in ("a.triggerer9", "a.triggerer0"):
        row = copy.db.add_trigger(simulated.CALLBACK_TRIGGER, {})
        row.triggerer = owner
        triggerer._triggers[row.id] = MagicMock(done=lambda: False)
    tasks: Any = list(triggerer._triggers.values())
    triggerer._update()
    assert [each.cancel.mock_calls for each in tasks] == real
    assert triggerers.ON_KILL_SECONDS == triggerer_job_runner._ON_CANCEL_TIMEOUT


# ---- workers


def test_repeated_requests() -> None:
    """How often a request to the API server is made, and how long it waits between."""
    retry: Any = client.Client.request.retry
    assert retry.stop.max_attempt_number == simulated.API_ATTEMPTS
    for attempt in range(1, simulated.API_ATTEMPTS):
        state: Any = SimpleNamespace(attempt_number=attempt)
        with patch("tenacity.wait.random.uniform", lambda *bounds: bounds):
            assert retry.wait(state) == simulated.api_wait(attempt)
    assert client.API_TIMEOUT == simulated.API_TIMEOUT_SECONDS
