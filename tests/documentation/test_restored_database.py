"""
Airflow's database is restored from a backup: which executions there are then.

The page "Run it in production" has the table, which is compared with these cases, and
one of copies, which is compared with the cases of their tests.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger
from sagemaker_emulator import EmulatorServer
from tests.pages import page
from tests.tasks import DagRun, EmulatedTime, Run, TaskInstance, resume_task
from tests.unit.operators.recovery import test_copied_database
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    Task,
    crash,
)
from tests.world import RETRY, START, RequestInterceptor, World

RUNS_ON = {"steps": {"Merge": {"duration": 1200}}}


@dataclass
class Airflow:
    """
    A task, and what the backup of Airflow's database has of it.

    :param trigger: the last trigger that was stored, while it is deferred.
    """

    task: Task
    emulator: EmulatorServer
    time: EmulatedTime
    interceptor: RequestInterceptor
    trigger: Any = None
    backup: dict[str, Any] | None = None

    def make_backup(self, *_: Any) -> None:
        """
        Copy the Variable, the XComs, the row of the task instance, and that of its
        trigger.
        """
        task = self.task
        waits = task.state == "running" and bool(task.ti.xcoms.get("execution_arn"))
        self.backup = deepcopy(
            {
                "record": task.store.values,
                "xcoms": task.ti.xcoms,
                "row": (task.try_number, task.max_tries, task.state),
                "trigger": self.trigger if task.deferrable and waits else None,
            }
        )

    def scenario(self, scenario: dict[str, Any]) -> None:
        """Let the executions that start from now on behave in this way."""
        self.emulator.control.put_scenario(scenario, "fanout")

    def run(self, *, until: float | None = None) -> Run:
        """
        Run a try to its end, or for some seconds: then all of Airflow is stopped, to
        restore its database.
        """
        if until:
            self.time.after(until, crash)
        return self.task.next_try()

    def restore(self) -> None:
        """Restore the backup."""
        assert self.backup
        saved, task = deepcopy(self.backup), self.task
        self.interceptor.clear()
        self.time.at.clear()
        task.store.values = saved["record"]
        task.try_number, task.max_tries, task.state = saved["row"]
        self.trigger = saved["trigger"]
        task.ti = TaskInstance(
            task.task_id,
            try_number=task.try_number,
            max_tries=task.max_tries,
            xcoms=saved["xcoms"],
            store=task.store,
            latest=lambda: task.ti,
            state=lambda: task.state,
            dag_run=task.dag_run,
        )

    def go_on(self) -> None:
        """Let Airflow go on with the task until it needs a person."""
        task = self.task
        if task.state == "running" and self.trigger:
            run = resume_task(task.prepare_try(), task.ti, self.trigger)
            task.state = task._state_after(run)
        elif task.state == "running":
            # The scheduler finds no heartbeats.
            task.state = "up_for_retry"
        while not task.finished:
            task.next_try()


# ---- what was before the backup, and what came after it


def not_started(airflow: Airflow) -> None:
    """Back up before the task begins."""
    airflow.make_backup()


def requested(airflow: Airflow) -> None:
    """Back up when the request is stored, and AWS has not responded."""
    airflow.interceptor.before(START, airflow.make_backup)


def waiting(airflow: Airflow) -> None:
    """Back up while the task waits."""
    airflow.time.after(100, airflow.make_backup)


def runs(airflow: Airflow) -> None:
    """The execution still runs."""
    airflow.scenario(RUNS_ON)
    airflow.run(until=400)


def succeeds(airflow: Airflow) -> None:
    """The execution, and the task, succeed."""
    airflow.run()


def fails(airflow: Airflow) -> None:
    """The execution fails, and the task waits for its retry."""
    airflow.scenario(MERGE_FAILS)
    airflow.run()
    airflow.scenario({})


def fails_and_retry_runs(airflow: Airflow) -> None:
    """The retry has started, or resumed, and waits."""
    fails(airflow)
    airflow.scenario(RUNS_ON)
    airflow.run(until=400)


def fails_once_and_retry_succeeds(airflow: Airflow) -> None:
    """The retry has resumed the execution, which has succeeded."""
    airflow.scenario(MERGE_FAILS_ONCE)
    airflow.run()
    airflow.run()


def is_cleared(airflow: Airflow) -> None:
    """
    A user has cleared the task; its next try has stopped the execution, and waits for a
    new one.
    """
    airflow.scenario(RUNS_ON)
    airflow.run(until=400)
    airflow.task.state = "running"
    airflow.task.clear()
    airflow.run(until=600)


def waits_for_retry(airflow: Airflow) -> None:
    """Back up while the task waits for its retry; then it begins."""
    fails(airflow)
    airflow.make_backup()
    airflow.scenario(RUNS_ON)
    airflow.run(until=400)


def waits_for_resume(airflow: Airflow) -> None:
    """The same, where the retry resumes and succeeds."""
    airflow.scenario(MERGE_FAILS_ONCE)
    airflow.run()
    airflow.make_backup()
    airflow.run()


def has_succeeded(airflow: Airflow) -> None:
    """
    Back up after the end of the task; then a user has cleared it, and it waits again.
    """
    airflow.run()
    airflow.make_backup()
    airflow.scenario(RUNS_ON)
    airflow.task.clear()
    airflow.run(until=400)


def runs_and_token_is_forgotten(airflow: Airflow) -> None:
    """The execution still runs, and AWS does not know the token any longer."""
    runs(airflow)
    for region in airflow.emulator.sagemaker.regions.values():
        region._tokens.clear()


def nothing(_: Airflow) -> None:
    """Nothing else."""


@dataclass(frozen=True)
class Case:
    """
    A row.

    :param row: the row of the documentation that it proves.
    :param starts: how many executions are started after the restore, as (sync,
        deferred): each of them is a second one.
    :param cleared: a user clears the task after the restore.
    :param begins_again: its DAG run begins after the restore.
    :param at_once: how many executions of the task have run at the same time.
    """

    row: str
    before: Callable[[Airflow], None]
    after: Callable[[Airflow], None]
    starts: tuple[int, int] = (0, 0)
    at_once: tuple[int, int] = (1, 1)
    state: tuple[str, str] = ("success", "success")
    resumes: bool = False
    cleared: bool = False
    begins_again: bool = False


CASES = [
    Case("The task had not begun", not_started, runs),
    Case(
        "Its DAG run had not begun",
        not_started,
        runs,
        (1, 1),
        (2, 2),
        begins_again=True,
    ),
    Case("It had stored its request", requested, runs),
    Case("It had stored its request", requested, runs_and_token_is_forgotten),
    Case("It waited", waiting, runs),
    Case("It waited", waiting, succeeds),
    Case("Since then, a retry has started another one", waiting, fails_and_retry_runs),
    Case(
        "Since then, a retry has resumed it",
        waiting,
        fails_once_and_retry_succeeds,
        resumes=True,
    ),
    Case(
        "Since then, a clear has replaced it",
        waiting,
        is_cleared,
        (1, 0),
        (2, 1),
        ("success", "failed"),
    ),
    Case("Since then, a retry has started another one", nothing, waits_for_retry),
    Case("Since then, a retry has resumed it", nothing, waits_for_resume, resumes=True),
    Case(
        "It had ended; since then, a clear has started another one",
        nothing,
        has_succeeded,
    ),
    Case(
        "The same, and a user clears it again",
        nothing,
        has_succeeded,
        cleared=True,
    ),
]


MakeAirflow = Callable[..., Airflow]


@pytest.fixture
def make_airflow(
    make_task: MakeTask, world: World, monkeypatch: pytest.MonkeyPatch
) -> MakeAirflow:
    """A factory of tasks that can be backed up; it gets the arguments of the task."""

    def make(**arguments: Any) -> Airflow:
        airflow = Airflow(
            make_task(**arguments), world.emulator, world.time, world.requests
        )
        serialize = PolysyncPipelineExecutionTrigger.serialize

        def remember(trigger: PolysyncPipelineExecutionTrigger) -> Any:
            airflow.trigger = serialize(trigger)
            return airflow.trigger

        monkeypatch.setattr(PolysyncPipelineExecutionTrigger, "serialize", remember)
        return airflow

    return make


# Before the wait, and after the end, the backup has no trigger: the mode makes no
# difference. A trigger looks at what it waits for, which either runs or has ended.
IN_MODES = [
    (mode, case)
    for case in CASES
    for mode in (False, True)
    if not mode or (case.before is waiting and case.after in (runs, is_cleared))
]


@pytest.mark.parametrize(
    ("deferrable", "case"),
    IN_MODES,
    ids=[
        f"{case.row}: {case.after.__name__}, {'deferred' if mode else 'sync'}"
        for mode, case in IN_MODES
    ],
    indirect=["deferrable"],
)
def test_what_a_restored_task_starts(
    case: Case, deferrable: bool, make_airflow: MakeAirflow, world: World
) -> None:
    """
    The tokens and names follow from the task, so that it finds what the backup does not
    have.
    """
    airflow = make_airflow(retry_mode="resume" if case.resumes else "new")
    case.before(airflow)
    case.after(airflow)
    before = len(world.log.arns)
    airflow.restore()
    if case.cleared:
        airflow.task.clear()
    if case.begins_again:
        airflow.task.dag_run = DagRun(datetime(2026, 1, 2, tzinfo=UTC))

    airflow.go_on()

    assert len(world.log.arns) - before == case.starts[deferrable]
    assert world.log.max_concurrent == case.at_once[deferrable]
    assert airflow.task.state == case.state[deferrable]
    # A resume is one, however often it was requested.
    assert len(set(world.tokens(RETRY))) == case.resumes


@pytest.mark.parametrize(
    ("after", "state", "status"),
    [(runs, "failed", "Stopped"), (succeeds, "success", "Succeeded")],
    ids=["runs", "has ended"],
)
def test_a_timeout_that_has_passed(
    after: Callable[[Airflow], None],
    state: str,
    status: str,
    make_airflow: MakeAirflow,
    world: World,
) -> None:
    """
    The result counts, however old the deadline is; an execution that still runs is
    stopped.
    """
    airflow = make_airflow(timeout=900, retries=0)
    waiting(airflow)
    after(airflow)
    airflow.restore()
    world.time.sleep(700)

    airflow.go_on()
    world.time.sleep(60)

    assert (airflow.task.state, world.log.statuses) == (state, [status])


def test_the_table_of_restored_databases_is_proven() -> None:
    """
    Each row has a test, and says yes where a test sees that an execution is started
    again.
    """
    production = page("how-to/run-in-production.md")
    rows = production.rows("What if Airflow's database is restored from yesterday?")
    documented = {row: cells.split("|")[-1].strip() for row, cells in rows.items()}
    documented.pop("What the task was doing at the backup")

    assert list(documented) == list(dict.fromkeys(case.row for case in CASES))
    for case in CASES:
        sync, deferred = case.starts
        answer = documented[case.row]
        assert answer.startswith("**Yes**") == bool(sync or deferred), case.row
        assert ("on a worker. Deferred: no" in answer) == (sync != deferred), case.row


def test_the_table_of_copied_databases_is_proven() -> None:
    """No execution of the original is stopped."""
    production = page("how-to/run-in-production.md")
    rows = production.rows("What if a copy of the database is started?")
    rows.pop("What happens to a copied task")

    assert tuple(rows) == test_copied_database.ROWS
    assert {cells.split("|")[-1].strip() for cells in rows.values()} == {"No"}
