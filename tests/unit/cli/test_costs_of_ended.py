"""
An ended execution has one state, one duration, one reason of its stop, one cost and one
billable time: in the XComs, which tab and page show, and in the commands, whoever has
seen its end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from polysync_airflow.airflow_compat import database, xcoms
from polysync_airflow.execution import clock
from polysync_airflow.execution.outcome import StopReason
from polysync_airflow.execution.what_next import (
    Sentence,
    TaskNow,
    read_run,
    what_comes_next,
)
from polysync_airflow.states import PolysyncState
from polysync_airflow.triggers.stopping import FOLLOWING
from polysync_airflow.ui.summary import summarize
from sagemaker_emulator.engine import execution
from tests.conftest import IN_BOTH_MODES
from tests.tasks import fire
from tests.unit.cli.conftest import Polysync
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    Task,
    crash,
    run_failure_callbacks,
)
from tests.unit.watch.test_callback import look_after_and_wait
from tests.world import DESCRIBE, LIST_STEPS, START, STOP, World

pytestmark = pytest.mark.usefixtures("emulated_waits")
SECONDS = 600
RUN = {"duration": SECONDS}
BOTH_RUN: dict[str, Any] = {"steps": {"Shard0": RUN, "Shard3": RUN}}
PARTLY = {**BOTH_RUN, "end_as": "CompletedWithFailures"}
# Both instances cost 2 a second.
PRICES = {
    "currency": "USD",
    "date": "2026-11-01",
    "prices": {"us-east-1": {"ml.m5.large": 3600}},
}
LIST = "list", "--pipeline=fanout", "--costs=1", "--output=json"
# While both steps run.
MOMENT = 200
# Each poll lists steps and jobs, so no more of them than a task needs until then.
INTERVAL = 40
LIMIT = {"max_cost": 1_000_000}
NO_ARGUMENTS: dict[str, Any] = {}


def run(task: Task) -> None:
    """Run the task to its end; a triggerer goes on after its event."""
    if not task.deferrable:
        task.next_try()
        return
    deferral = task.defer()
    class_path, arguments = deferral.trigger.serialize()

    async def trigger() -> None:
        event = await fire(class_path, arguments, task.ti)
        task.resume(deferral, event)
        await asyncio.gather(*FOLLOWING)

    asyncio.run(trigger())


def resume(task: Task, *_: Any) -> None:
    """Let a try fail, and the next one resume what has failed."""
    run(task)
    assert task.state == "up_for_retry"
    run(task)


def at_the_moment(world: World, action: Callable[[], Any]) -> None:
    """Do something while both steps run."""
    world.time.after(MOMENT, action)


def stop_in_aws(task: Task, world: World, polysync: Polysync) -> None:
    """Stop the execution by the command, as anybody in AWS does by another way."""
    stop = "executions", "stop", "--yes"
    at_the_moment(world, lambda: polysync(*stop, *world.log.arns))
    run(task)


def time_out(task: Task, world: World, polysync: Polysync) -> None:
    """Let Airflow's timer fire on the worker, or that of the trigger."""

    def raise_timeout() -> None:
        raise AirflowTaskTimeout("Timeout")

    task.arguments["execution_timeout"] = timedelta(seconds=MOMENT)
    if not task.deferrable:
        at_the_moment(world, raise_timeout)
    run(task)


def mark(task: Task, world: World, polysync: Polysync) -> None:
    """
    Mark the task while it waits: the tab's button does the same. A process on a worker
    sees the end of a stop that takes no longer than it has.
    """

    def kill_process() -> None:
        task.kill()
        crash()

    if not task.deferrable:
        world.patch.setattr(execution, "STOPPING", 1.0)
        at_the_moment(world, kill_process)
        run(task)
        return
    trigger = task.defer().trigger
    trigger.task_instance = task.ti
    world.time.sleep(MOMENT)
    task.state = "failed"

    async def kill() -> None:
        await trigger.on_kill()
        await asyncio.gather(*FOLLOWING)

    asyncio.run(kill())


def lose(task: Task, world: World, polysync: Polysync) -> None:
    """Let the process of the task die; its failure callback stops the execution."""
    at_the_moment(world, crash)
    task.next_try()
    task.state = "failed"
    run_failure_callbacks(task.operator, task.ti)


def mark_lost(task: Task, world: World, polysync: Polysync) -> None:
    """Mark a task without a process: the watch stops the execution."""
    at_the_moment(world, crash)
    task.next_try()
    task.state = "failed"


class Kind(NamedTuple):
    """
    One kind of end.

    :param leaves: whether a worker does not wait for it, so that the watch sees it.
    :param dies: whether no process of the task is left that could see it.
    :param stop: why the task has stopped its execution; None if it has not.
    :param state: how the execution has ended.
    """

    end: Callable[[Task, World, Polysync], Any] = lambda task, *_: run(task)
    scenario: Any = BOTH_RUN
    arguments: Any = NO_ARGUMENTS
    leaves: bool = False
    dies: bool = False
    stop: StopReason | None = None
    state: PolysyncState = PolysyncState.CANCELLED


KINDS = {
    "success": Kind(state=PolysyncState.SUCCESS),
    "failed": Kind(scenario=MERGE_FAILS, state=PolysyncState.FAILED),
    "completed with failures": Kind(scenario=PARTLY, state=PolysyncState.FAILED),
    "resumed": Kind(
        resume,
        MERGE_FAILS_ONCE,
        {"retries": 1, "retry_mode": "resume"},
        state=PolysyncState.SUCCESS,
    ),
    "stopped in AWS": Kind(stop_in_aws),
    "timeout": Kind(arguments={"timeout": MOMENT}, leaves=True, stop="timeout"),
    "execution_timeout": Kind(time_out, leaves=True, stop="timeout"),
    "max_cost": Kind(arguments={"max_cost": 2 * MOMENT}, leaves=True, stop="cost"),
    "marked": Kind(mark, stop="ended_task"),
    # Airflow's DAG processor cannot store who has stopped it.
    "lost": Kind(lose, dies=True),
    "marked when lost": Kind(mark_lost, dies=True, stop="ended_task"),
}
# On a worker with a limit, deferred with and without one.
MODES = [(False, LIMIT), (True, LIMIT), (True, NO_ARGUMENTS)]
CASES = [
    pytest.param(kind, deferrable, limit, id=f"{name} {deferrable} {bool(limit)}")
    for name, kind in KINDS.items()
    for deferrable, limit in MODES
    if not (kind.dies and deferrable)
]


@pytest.fixture
def make_task(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Task]:
    """Return what makes a task whose XComs the commands find in the database."""
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", json.dumps(PRICES))
    tasks: list[Task] = []

    def read_xcom(key: str, **_: Any) -> Any:
        return tasks[-1].ti.xcoms.get(key)

    def task_now(**_: Any) -> TaskNow:
        task = tasks[-1]
        return TaskNow(task.state, task.try_number, task.max_tries)

    monkeypatch.setattr(xcoms, "read_xcom", read_xcom)
    monkeypatch.setattr(database, "task_now", task_now)
    monkeypatch.setattr(database, "stored_variables", lambda _: ())
    monkeypatch.setattr(database, "failed_tasks", lambda *_, **__: [])

    def make(*, deferrable: bool, retries: int = 0, **arguments: Any) -> Task:
        lists = {"progress_interval": INTERVAL, "poll_interval": INTERVAL}
        tasks.append(Task(deferrable, {**lists, **arguments}, retries=retries))
        return tasks[-1]

    return make


def figure_of(place: dict[str, Any]) -> tuple[Any, ...]:
    """Return the cost, the billable time, and the time of both."""
    cost = place["spending"] or place["cost"]
    return cost["amount"], place["billable_seconds"], place["added_up_at"]


def end_of(place: dict[str, Any]) -> tuple[Any, ...]:
    """Return how and when an execution has ended, to a second, and how long it took."""
    ended_at = datetime.fromisoformat(place["ended_at"]).replace(microsecond=0)
    members = ("state", "status", "resumes", "seconds", "attempt_seconds")
    return ended_at, *(place[name] for name in members)


def listed(polysync: Polysync) -> dict[str, Any]:
    """Return what the list of executions says of the newest one."""
    row: dict[str, Any] = polysync("executions", *LIST).document["executions"][0]
    return row


def one_figure(task: Task, polysync: Polysync) -> tuple[Any, ...]:
    """Return the cost that all places say, which also say the same end."""
    run = task.ti.xcoms["run"]
    show = "executions", "show", run["execution_arn"], "--output=json"
    places = [run, polysync(*show).document, listed(polysync)]
    figure = figure_of(run)
    assert [*map(figure_of, places)] == [figure] * len(places)
    assert [*map(end_of, places)] == [end_of(run)] * len(places)
    assert places[1]["stop"] == run["stop"]
    batch = xcoms.XComBatch([json.dumps(run)], left_out=0)
    (pipeline,) = summarize([batch])["pipelines"]
    assert pipeline["costs"] == {"USD": figure[0]}
    assert pipeline["failures"] == (run["state"] == PolysyncState.FAILED)
    assert task.ti.xcoms.get("spending") == run["spending"]
    return figure


def said_at_stop(task: Task, world: World) -> list[Sentence]:
    """Return the list to which is added what is said as AWS has accepted the stop."""
    said: list[Sentence] = []

    def say(_: Any) -> None:
        now = TaskNow("failed", task.try_number, task.max_tries, ended_at=clock.now())
        run = read_run(task.ti.xcoms["run"])
        said.append(what_comes_next(now, run, clock.now())[0])

    world.requests.after(STOP, say)
    return said


@pytest.mark.parametrize(("kind", "deferrable", "limit"), CASES)
def test_all_places_say_the_same_end(
    kind: Kind,
    deferrable: bool,
    limit: dict[str, Any],
    make_task: Callable[..., Task],
    world: World,
    polysync: Polysync,
) -> None:
    """
    It is what AWS says after the end, with the time at which it was asked. After a
    stop, it comes when this was said.
    """
    world.control.put_scenario(kind.scenario)
    task = make_task(deferrable=deferrable, **{**limit, **kind.arguments})

    said = said_at_stop(task, world)
    kind.end(task, world, polysync)
    is_left = kind.leaves and not deferrable
    if kind.dies or is_left:
        look_after_and_wait(task)
    world.time.sleep(3600)

    figure = one_figure(task, polysync)
    run = task.ti.xcoms["run"]
    assert (run["state"], run["status"]) == (kind.state, world.log.statuses[0])
    assert (run["stop"] and run["stop"]["reason"]) == kind.stop
    if kind.stop:
        (stop,) = said
        rest = " after that of the DAG run" if is_left else " by"
        assert stop.text == f"The execution is being stopped; its end is stored{rest}"
        assert stop.at is None or datetime.fromisoformat(run["added_up_at"]) < stop.at
    assert run["added_up_at"] >= run["ended_at"]
    assert bool(run["spending"]) == ("max_cost" in task.arguments)
    # Without what Airflow has stored, the command asks AWS, which lists only the last
    # attempts of the steps.
    task.ti.xcoms.clear()
    cost, billable_seconds, _ = figure_of(listed(polysync))
    assert billable_seconds == figure[1]
    has_spent_more = run["resumes"] > 0 and run["spending"]
    assert cost < figure[0] if has_spent_more else cost == figure[0]


def test_watch_adds_up_what_a_process_has_not(
    make_task: Callable[..., Task], world: World, polysync: Polysync
) -> None:
    """It has seen the end, and then AWS has not listed the steps, or time was up."""
    world.control.put_scenario(BOTH_RUN)
    task = make_task(deferrable=False)
    at_the_moment(world, lambda: world.deny(LIST_STEPS, count=1))

    mark(task, world, polysync)

    run = task.ti.xcoms["run"]
    assert (run["status"], run["added_up_at"]) == ("Stopped", None)
    assert LIST_STEPS in run["steps_note"]
    look_after_and_wait(task)
    assert one_figure(task, polysync)[0] > MOMENT


@IN_BOTH_MODES
def test_estimate_of_an_earlier_execution_is_not_that_of_the_next(
    deferrable: bool, make_task: Callable[..., Task], world: World
) -> None:
    """A cleared task has waited for its end, with its limit."""
    world.control.put_scenario(BOTH_RUN)
    task = make_task(deferrable=deferrable, stop_on_kill=False, **LIMIT)
    at_the_moment(world, crash)
    task.next_try()
    task.clear()
    estimates: list[Any] = []
    for request in (DESCRIBE, START):
        see = partial(seen, task, estimates)
        world.time.after(MOMENT, partial(world.requests.before, request, see))

    task.next_try()

    assert len(world.log.arns) == 2
    assert estimates[0]["amount"] > MOMENT
    assert estimates[1] is None


def seen(task: Task, estimates: list[Any], _: Any) -> None:
    """Remember what the task has spent, as Airflow has stored it."""
    estimates.append(task.ti.xcoms.get("spending"))


@IN_BOTH_MODES
def test_last_estimate_counts_where_aws_does_not_describe_the_jobs_at_the_end(
    deferrable: bool,
    make_task: Callable[..., Task],
    world: World,
    polysync: Polysync,
) -> None:
    """With its time, and a note that says so."""
    world.control.put_scenario(BOTH_RUN)
    at_the_moment(world, lambda: world.deny("DescribeProcessingJob"))
    task = make_task(deferrable=deferrable, **LIMIT)

    run(task)

    amount, seconds, at = one_figure(task, polysync)
    spending = task.ti.xcoms["run"]["spending"]
    assert (amount, at) == (spending["amount"], spending["at"])
    assert amount > MOMENT
    assert seconds is None
    assert at < task.ti.xcoms["run"]["ended_at"]
    assert "what was spent until the end is not known" in spending["note"]
