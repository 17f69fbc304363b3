"""
What is said of what comes next, compared with what then happened: the next try, or the
end of the wait, really runs, in both modes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest

from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.options import OnClear
from polysync_airflow.execution.what_next import (
    Sentence,
    TaskNow,
    read_run,
    what_comes_next,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.conftest import IN_BOTH_MODES
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    Task,
    crash,
)
from tests.unit.operators.recovery.test_resuming import choose
from tests.world import CHANGES, NEVER_ENDS, RETRY, START, STOP, World

HOUR = 3600.0
# That of Airflow.
RETRY_DELAY = timedelta(minutes=5)
LACKS_CAPACITY = {
    "reason": "CapacityError: Unable to provision requested ML compute capacity.",
    "times": 1,
}
NO_INSTANCES = {"steps": {"Shard0": {"fail": LACKS_CAPACITY}}}
PRICES = {
    "currency": "USD",
    "date": "2026-11-01",
    "prices": {"us-east-1": {"ml.m5.large": 3600}},
}
# What is said, and what AWS is asked to do then. The first that matches counts.
REQUESTS = {
    # It is stopped before it fails.
    "if the execution fails before it is stopped": [START],
    "resumes the failed steps": [RETRY],
    "starts a new execution": [START],
    "goes on with the same execution": [],
}


def say(
    task: Task, state: str | None, choice: OnClear | None = None, **now: Any
) -> list[Sentence]:
    """Return what is said of a task now."""
    seen = TaskNow(
        state,
        task.try_number,
        task.max_tries,
        "PolysyncStartPipelineOperator",
        ended_at=clock.now(),
        **now,
    )
    run = task.ti.xcoms.get("run")
    return what_comes_next(seen, run and read_run(run), clock.now(), choice)


def requests_of(text: str) -> list[str]:
    """Return what AWS is asked to do, as a sentence says."""
    return next(sent for words, sent in REQUESTS.items() if words in text)


# ---- before a try


def fail(task: Task, world: World) -> None:
    """Let the first try fail."""
    task.next_try()


def stop_in_aws(task: Task, world: World) -> None:
    """Stop the execution as anybody does who has the permission."""
    hook = PolysyncSageMakerHook()
    world.time.after(
        600, lambda: hook.stop_pipeline_execution(world.log.arns[-1], attempt=0)
    )
    task.next_try()


class Row(NamedTuple):
    """
    A state between two tries.

    :param effect: what is said of the next try.
    :param before: brings the task there.
    """

    effect: str
    scenario: Any = MERGE_FAILS_ONCE
    arguments: dict[str, Any] = {}  # noqa: RUF012
    before: Callable[[Task, World], None] = fail


RESUMES = "resumes the failed steps (1 of 3)"
STARTS = "starts a new execution"
STAYS = {"timeout": HOUR, "stop_on_kill": False}
RETRIES = {
    "resume": Row(RESUMES, arguments={"retry_mode": "resume"}),
    "new": Row(STARTS),
    "partly": Row(
        STARTS,
        {**MERGE_FAILS_ONCE, "end_as": "CompletedWithFailures"},
    ),
    "timeout": Row(STARTS, NEVER_ENDS, {"timeout": HOUR}),
    "timeout, resume": Row(
        "resumes the failed steps if the execution fails before it is stopped, and else"
        " starts a new execution",
        NEVER_ENDS,
        {"timeout": HOUR, "retry_mode": "resume"},
    ),
    "timeout, not stopped": Row("goes on with the same execution", NEVER_ENDS, STAYS),
    "stopped in AWS": Row(
        STARTS,
        NEVER_ENDS,
        {"on_cancelled": "retry", "retry_mode": "resume"},
        stop_in_aws,
    ),
}


@pytest.mark.parametrize("row", RETRIES.values(), ids=list(RETRIES))
@IN_BOTH_MODES
def test_retry_does_what_was_said(row: Row, make_task: MakeTask, world: World) -> None:
    """At the time that was said, or after a pause of the DAG, without a time."""
    world.control.put_scenario(row.scenario)
    task = make_task(**row.arguments)
    row.before(task, world)
    failed_at = clock.now()
    assert task.state == "up_for_retry"

    (said,) = say(task, task.state)
    (paused,) = say(task, task.state, is_paused=True)

    assert said.text == f"Try 2 of 3 {row.effect} at"
    assert said.at is not None
    assert abs(said.at - (failed_at + RETRY_DELAY)) < timedelta(seconds=10)
    assert paused == (f"When the DAG is unpaused, try 2 of 3 {row.effect}", None)
    world.control.put_scenario({})
    changes = world.calls(*CHANGES)
    world.time.sleep(RETRY_DELAY.total_seconds())
    task.next_try()
    happened = world.calls(*CHANGES)[len(changes) :]
    assert happened == requests_of(said.text)
    if row.effect == RESUMES:
        attempts = task.ti.xcoms["steps"]
        assert sum(step["attempt"] or 0 for step in attempts) == 1 + len(attempts)


def test_retry_goes_on_after_the_death_of_the_process(world: World) -> None:
    """Nobody has pushed anything, but the execution runs."""
    task = Task()
    task.crash_while_waiting(world.time)

    (said,) = say(task, task.state)

    effect = "try 2 of 3 goes on with the same execution"
    assert said == (f"After the retry delay, {effect}", None)
    assert task.next_try().error is None
    assert world.calls(*CHANGES) == [START]


@IN_BOTH_MODES
def test_retry_after_a_refused_start_is_told(make_task: MakeTask, world: World) -> None:
    """There is no execution yet."""
    world.control.add_fault("quota", START, count=1)
    task = make_task()
    task.next_try()

    (said,) = say(task, "up_for_retry")

    assert said.text == "Try 2 of 3 starts a new execution at"
    assert said.at is not None
    assert abs(said.at - (clock.now() + RETRY_DELAY)) < timedelta(seconds=10)
    assert task.next_try().error is None
    assert world.calls(*CHANGES) == [START, START]


# ---- after the last try, and a clear

NOTHING = Sentence("Nothing follows by itself: the task has failed")
OR_REST = '"Resume failed steps" repeats 1 of 3 steps, and so does a clear'
OR_NEW = OR_REST.replace("so does a clear", "a clear starts a new execution")
CLEARED = "A clear of the task starts a new execution"
SPENDS = {"max_cost": 400, "progress_interval": 10, "poll_interval": 10}
# What is said, after which failure, and what a person chooses.
ENDS = {
    "clear": (OR_NEW, MERGE_FAILS, {}, None, fail),
    "clear resumes": (OR_REST, MERGE_FAILS, {"on_clear": "resume"}, None, fail),
    "button resumes": (OR_NEW, MERGE_FAILS, {}, "resume", fail),
    "button starts": (OR_REST, MERGE_FAILS, {"on_clear": "resume"}, "new", fail),
    "stopped in AWS": (CLEARED, NEVER_ENDS, {}, None, stop_in_aws),
    "max_cost": (CLEARED, NEVER_ENDS, SPENDS, None, fail),
}


@pytest.mark.parametrize(
    ("text", "scenario", "arguments", "choice", "before"), ENDS.values(), ids=list(ENDS)
)
@IN_BOTH_MODES
def test_clear_after_the_last_try_does_what_was_said(
    text: str,
    scenario: Any,
    arguments: dict[str, Any],
    choice: OnClear | None,
    before: Callable[[Task, World], None],
    make_task: MakeTask,
    world: World,
) -> None:
    """Nothing happens by itself; a person chooses, or ``on_clear`` does."""
    prices = json.dumps(PRICES)
    world.patch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", prices)
    world.control.put_scenario(scenario)
    task = make_task(retries=0, **arguments)
    before(task, world)
    assert task.state == "failed"

    # Before them, that of what max_cost stops.
    assert say(task, "failed")[-2:] == [NOTHING, Sentence(text)]
    task.clear()
    (said,) = say(task, None, choice)

    assert said.text.startswith("When Airflow schedules it, try 2 of 2 ")
    if choice is None:
        assert ("resumes" in said.text) is ("so does a clear" in text)
    if choice:
        choose(task, choice)
    world.control.put_scenario({})
    before_it = len(world.calls(START, RETRY))
    task.next_try()
    assert world.calls(START, RETRY)[before_it:] == requests_of(said.text)


@IN_BOTH_MODES
def test_mark_before_the_retry_ends_what_was_said(
    make_task: MakeTask, world: World
) -> None:
    """A person has marked the task as failed, and clears it later."""
    world.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    task.next_try()
    task.state = "failed"

    assert say(task, "failed") == [NOTHING, Sentence(OR_NEW)]
    task.clear()
    (said,) = say(task, None)
    assert said.text.endswith("try 2 of 4 starts a new execution")
    task.next_try()
    assert world.calls(*CHANGES) == [START, START]


# ---- while the task waits


def at_begin(world: World, seconds: float, ask: Callable[[], Any]) -> list[Any]:
    """Return the list to which the answers are added after some seconds."""
    answers: list[Any] = []
    world.time.after(seconds, lambda: answers.append(ask()))
    return answers


def times_of(world: World, operation: str, count: int) -> list[datetime]:
    """Return the list to which the times of the next requests are added."""
    times: list[datetime] = []
    for _ in range(count):
        world.requests.before(operation, lambda _: times.append(clock.now()))
    return times


def is_close(said: datetime | None, happened: datetime) -> bool:
    return said is not None and abs(happened - said) < timedelta(seconds=200)


@pytest.mark.parametrize("request_", [START, RETRY])
@IN_BOTH_MODES
def test_aws_is_asked_again_when_it_was_said(
    request_: str, make_task: MakeTask, world: World
) -> None:
    """Before a start that AWS refuses, and after a failure for want of instances."""
    if request_ == START:
        world.control.add_fault("quota", START, count=1)
    else:
        world.control.put_scenario(NO_INSTANCES)
    task = make_task(wait_for_capacity=True, timeout=HOUR)
    state = "deferred" if task.deferrable else "running"
    asked: list[tuple[datetime, list[Sentence]]] = []
    refused = 1 if request_ == START else 0
    times = times_of(world, request_, refused + 1)

    def note() -> None:
        run = task.ti.xcoms.get("run") or {}
        if run.get("capacity") and not asked:
            asked.append((clock.now(), say(task, state)))
        elif not asked:
            world.time.after(5, note)

    world.time.after(5, note)

    assert task.next_try().error is None

    ((_, said),) = asked
    again, gives_up, mark = said
    assert again.text == "AWS is asked again at"
    assert abs(times[-1] - again.at) < timedelta(seconds=2)  # type: ignore[operator]
    assert gives_up.text == "The task gives up at"
    assert mark.text == "To give up now, mark the task failed"


@IN_BOTH_MODES
def test_task_gives_up_when_it_was_said(make_task: MakeTask, world: World) -> None:
    """AWS refuses each request for its start."""
    world.control.add_fault("quota", START, count=99)
    task = make_task(wait_for_capacity=True, timeout=HOUR, retries=0)
    answers = at_begin(world, 30, lambda: say(task, "running"))

    assert task.next_try().error is not None

    ((_, gives_up, _),) = answers
    assert is_close(gives_up.at, clock.now())
    assert say(task, "failed")[0] == NOTHING


@pytest.mark.parametrize("stops", [True, False])
@IN_BOTH_MODES
def test_wait_ends_when_it_was_said(
    stops: bool, make_task: MakeTask, world: World
) -> None:
    """By a stop, unless the author forbids that."""
    world.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=HOUR, stop_on_kill=stops, retries=0)
    answers = at_begin(world, 30, lambda: say(task, "running"))

    assert task.next_try().error is not None

    ((limit, then, kill),) = answers
    assert limit.text == "The execution may run until"
    assert is_close(limit.at, clock.now())
    for sentence in (then, kill):
        assert ("is stopped" in sentence.text) is stops
    assert world.calls(STOP) == [STOP] * stops


@pytest.mark.parametrize("clears", [True, False])
def test_end_of_the_task_does_what_was_said(clears: bool, world: World) -> None:
    """A person marks it, or clears it, while its process waits."""
    world.control.put_scenario(NEVER_ENDS)
    task = Task()
    answers = at_begin(world, 30, lambda: say(task, "running"))

    def end() -> None:
        task.kill_by_clear() if clears else task.kill()
        answers.append(say(task, "restarting" if clears else "failed"))
        crash()

    world.time.after(60, end)
    task.next_try()

    before, after = answers
    assert before[-1].text == "If somebody ends the task, the execution is stopped"
    assert world.calls(*CHANGES) == [START, STOP]
    if not clears:
        stops, *rest = after
        assert stops.text == "The execution is being stopped; its end is stored by"
        assert rest == [NOTHING, Sentence(CLEARED)]
        return
    (said,) = after
    end_of_first = "after the end of the one that is being stopped"
    assert said.text.endswith(f"try 2 of 3 starts a new execution {end_of_first}")
    world.control.put_scenario({})
    task.state = "up_for_retry"
    assert task.next_try().error is None
    assert world.log.statuses == ["Stopped", "Succeeded"]
