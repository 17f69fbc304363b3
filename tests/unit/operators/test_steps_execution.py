"""
The execution task of a group of steps: what a clear does, what becomes of its
execution, and what it keeps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.airflow_compat import task_instances
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.auth import base_hook
from polysync_airflow.exceptions import PipelineExecutionTooExpensiveError
from polysync_airflow.execution.step_clears import CLEAR_KEY
from polysync_airflow.operators.step_tasks import PolysyncStepsExecutionOperator
from polysync_airflow.records import RECORD_KEY
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, stopping
from polysync_airflow.triggers.task_end import TaskEnd
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.fakes.simulated_dag_run import SimulatedDagRun
from tests.tasks import EmulatedTime
from tests.unit.jobs.catalogue.builders import put_pipelines
from tests.unit.operators.recovery.harness import step_attempts
from tests.world import RETRY, START, STOP, World

# A and B are independent.
JOIN = step("Join", "Processing", "A", "B")
TEXT = definition(step("A"), step("B"), JOIN, step("End", "Processing", "Join"))
B_FAILS_ONCE = {"B": {"fail": {"reason": "AlgorithmError: no data", "times": 1}}}
STEPS = ("A", "B", "Join", "End")
CHANGES = (START, RETRY, STOP)
Make = Callable[..., SimulatedDagRun]


@pytest.fixture
def make_run(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """
    A factory of DAG runs of a group, whose tasks start in the triggerer if they can.
    """
    hold_time_while_tasks_end(world.time, monkeypatch)
    # Hours would be many reads of the connection, which nobody changes here.
    monkeypatch.setattr(base_hook, "READ_SECONDS", 1e9)
    put_pipelines(world.emulator, {"steps": json.loads(TEXT)})
    (tmp_path / "steps.json").write_text(TEXT)

    def make(
        scenario: Any = None, *, run_id: str = "manual", **arguments: Any
    ) -> SimulatedDagRun:
        set_scenario(world.emulator, scenario or {})
        arguments = {"poll_interval": 300, "progress_interval": None, **arguments}
        arguments = {"definition": tmp_path / "steps.json", **arguments}
        with DAG("retraining", schedule=None) as dag:
            PolysyncPipelineTaskGroup("g", pipeline_name="steps", **arguments)
        in_triggerer = CAPABILITIES.start_from_trigger
        run = SimulatedDagRun(dag, in_triggerer=in_triggerer, run_id=run_id)
        look_after_notes(run, monkeypatch)
        return run

    return make


def look_after_notes(run: SimulatedDagRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let the execution task look for notes when the tasks that begin again have had the
    time for them.
    """
    find = PolysyncStepsExecutionOperator._find_cleared

    def is_noted(task_id: str) -> bool:
        if not run.is_alive(task_id) or run.try_numbers[task_id] == 1:
            return True
        return CLEAR_KEY in run.runs[task_id].ti.xcoms

    def find_after_notes(task: Any, *arguments: Any) -> Any:
        deadline = time.monotonic() + 60
        while not all(map(is_noted, task.step_task_ids.values())):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return find(task, *arguments)

    monkeypatch.setattr(
        PolysyncStepsExecutionOperator, "_find_cleared", find_after_notes
    )


def hold_time_while_tasks_end(
    emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Let no time pass while the code of a task runs in a thread of the triggerer, or on a
    worker, unless it sleeps.
    """
    running, timeout = list[Any](), emulated_time.timeout

    def holding(run: Callable[..., Any]) -> Callable[..., Any]:
        async def run_and_hold(*arguments: Any) -> Any:
            running.append(arguments)
            try:
                return await run(*arguments)
            finally:
                running.remove(arguments)

        return run_and_hold

    def timeout_unless_held(seconds: float | None, *, idle: bool) -> float | None:
        return 0.01 if running else timeout(seconds, idle=idle)

    monkeypatch.setattr(TaskEnd, "run", holding(TaskEnd.run))
    session = holding(SimulatedDagRun.session)
    monkeypatch.setattr(SimulatedDagRun, "session", session)
    monkeypatch.setattr(emulated_time, "timeout", timeout_unless_held)


def set_scenario(emulator: EmulatorServer, steps: dict[str, Any]) -> None:
    """
    Let the steps run as a scenario says, and for a few seconds where it does not: time
    is polls.
    """
    short = {name: {"duration": 5, **steps.get(name, {})} for name in STEPS}
    emulator.control.put_scenario({"steps": short})


def states_of(run: SimulatedDagRun) -> list[str | None]:
    """Return the states of A, B, Join, End and the execution task."""
    return [run.states[f"g.{name}"] for name in (*STEPS, "execution")]


def selections(emulator: EmulatorServer) -> list[Any]:
    """
    Return the selected steps and the source of each start; None for an execution of all
    steps.
    """
    selected: list[Any] = []
    for call in emulator.control.calls(START):
        config = call["request"].get("SelectiveExecutionConfig")
        if config is None:
            selected.append(None)
            continue
        names = [each["StepName"] for each in config["SelectedSteps"]]
        selected.append((names, config["SourcePipelineExecutionArn"]))
    return selected


def when_ended(
    run: SimulatedDagRun, time: EmulatedTime, step_name: str, then: Callable[[], Any]
) -> None:
    """
    Call a function when the task of a step has ended, which takes more than the time of
    its step.
    """

    def look() -> None:
        if run.states[f"g.{step_name}"] == "success":
            then()
        else:
            time.after(10, look)

    time.after(10, look)


def succeed(run: SimulatedDagRun) -> None:
    """Run the tasks to their ends, which are successes."""
    assert states_of(run) == 5 * [None]
    run.run()
    assert states_of(run) == 5 * ["success"]


def fail(run: SimulatedDagRun) -> None:
    """Run the tasks to their ends; step B fails."""
    run.run()
    assert states_of(run)[:2] == ["success", "failed"]
    assert states_of(run)[2:] == ["upstream_failed", "upstream_failed", "failed"]


# ---- a clear: the rules in ``execution/step_tasks.py``


def test_clear_of_all_stops_the_execution_that_runs(
    make_run: Make, world: World
) -> None:
    """Rule 1, while it runs: no two executions run at the same time."""
    run = make_run({"B": {"duration": None}})

    def clear() -> None:
        # For executions that start from now on.
        set_scenario(world.emulator, {})
        run.clear("g.begin")

    when_ended(run, world.time, "A", clear)

    run.run()

    assert states_of(run) == 5 * ["success"]
    assert selections(world.emulator) == [None, None]
    assert world.log.statuses == ["Stopped", "Succeeded"]
    assert world.log.max_concurrent == 1


A_FAILS_ONCE = {"A": {"fail": {"times": 1}}, "B": {"duration": 7200}}
BOTH_RUN = {"A": {"duration": 3600}, "B": {"duration": 7200}}


def when_state(
    run: SimulatedDagRun, time: EmulatedTime, task_id: str, state: str, then: Any
) -> None:
    """Call a function when a task has a state, which takes more than a second."""

    def look() -> None:
        if run.states[task_id] == state:
            then()
        else:
            time.after(1, look)

    time.after(1, look)


@pytest.mark.parametrize(
    ("scenario", "cleared", "task_id", "state", "calls"),
    [
        (A_FAILS_ONCE, "g.A", "g.A", "failed", [START, RETRY]),
        (BOTH_RUN, "g.A", "g.execution", "deferred", [START]),
        (BOTH_RUN, "g.execution", "g.execution", "deferred", [START]),
    ],
    ids=["after a failure", "after the start", "the execution alone"],
)
def test_step_that_runs_is_not_cleared_by_a_clear_of_others(
    scenario: Any,
    cleared: str,
    task_id: str,
    state: str,
    calls: list[str],
    make_run: Make,
    world: World,
) -> None:
    """
    Rule 2, while no step's task has ended that was not cleared: nothing is stopped, and
    B runs once.
    """
    run = make_run(scenario)
    when_state(run, world.time, task_id, state, lambda: run.clear(cleared))

    run.run()

    assert states_of(run) == 5 * ["success"]
    assert world.calls(*CHANGES) == calls
    assert run.try_numbers["g.execution"] == 2
    assert run.try_numbers["g.B"] == 1
    assert step_attempts(world.log.executions[0])["B"] == 1


def test_second_clear_counts_with_the_first(make_run: Make, world: World) -> None:
    """
    Of two clears while the execution runs, both are repeated. A clear of all that
    follows stops it.
    """
    run = make_run({"A": {"fail": {"times": 1}}, "B": {"duration": None}})
    cleared = list[Any]()

    def clear(*task_ids: str) -> None:
        run.clear(*task_ids)
        cleared.append(world.calls(*CHANGES))
        if len(cleared) == 1:
            world.time.after(1800, lambda: clear("g.A"))
        elif len(cleared) == 2:
            set_scenario(world.emulator, {})
            world.time.after(1800, lambda: clear("g.begin"))

    when_state(run, world.time, "g.A", "failed", lambda: clear("g.A"))

    run.run()

    assert cleared == 3 * [[START]]
    assert states_of(run) == 5 * ["success"]
    assert world.calls(*CHANGES) == [START, STOP, START]
    assert selections(world.emulator) == [None, None]
    assert world.log.max_concurrent == 1


def test_clear_of_a_failed_step_resumes_once(make_run: Make, world: World) -> None:
    """Rule 3: AWS repeats what has not succeeded."""
    run = make_run(B_FAILS_ONCE)
    fail(run)
    cure = "clear the task of the failed step with the tasks that follow (Downstream)"
    assert cure in str(run.runs["g.execution"].error)

    run.clear("g.B")
    run.run()

    assert states_of(run) == 5 * ["success"]
    assert world.calls(*CHANGES) == [START, RETRY]
    attempts = {**dict.fromkeys(STEPS, 1), "B": 2}
    assert step_attempts(world.log.executions[0]) == attempts
    assert run.runs["g.B"].ti.xcoms["step"]["attempt"] == 2


def test_clear_of_a_succeeded_step_selects(make_run: Make, world: World) -> None:
    """Rule 4, after a success: the other results are those of the source."""
    run = make_run()
    succeed(run)

    run.clear("g.Join")
    run.run()

    (source, _) = world.log.arns
    assert states_of(run) == 5 * ["success"]
    assert selections(world.emulator) == [None, (["Join", "End"], source)]
    tries = {"g.A": 1, "g.B": 1, "g.Join": 2, "g.End": 2, "g.execution": 2}
    assert run.try_numbers == tries
    assert run.runs["g.execution"].ti.xcoms["run"]["selected_steps"] == ["Join", "End"]


# ---- a limit of the cost


def when_failed(
    run: SimulatedDagRun, time: EmulatedTime, step_name: str, then: Callable[[], Any]
) -> None:
    """Call a function when the task of a step has failed."""

    def look() -> None:
        if run.states[f"g.{step_name}"] == "failed":
            then()
        else:
            time.after(10, look)

    time.after(10, look)


@pytest.mark.parametrize("is_cleared", [False, True])
def test_steps_of_an_execution_that_costs_too_much_say_so(
    is_cleared: bool,
    make_run: Make,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    One stop; the step that was stopped, and what comes after it, fail. A clear of a
    step that has failed does not extend the limit of the execution that goes on.
    """
    prices = {"us-east-1": {"ml.m5.large": 3600}}
    table = {"currency": "USD", "date": "2026-11-01", "prices": prices}
    option = "AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES"
    monkeypatch.setenv(option, json.dumps(table))
    wide = definition(step("A"), step("B"), step("C"), JOIN, step("End"))
    put_pipelines(world.emulator, {"steps": json.loads(wide)}, update=True)
    file = tmp_path / "wide.json"
    file.write_text(wide)
    scenario: dict[str, Any] = {"B": {"duration": None}}
    if is_cleared:
        scenario["A"] = {"fail": {"reason": "AlgorithmError: no data", "times": 1}}
    # The tasks of the steps list them more often, and share their lists.
    arguments = {"poll_interval": 60, "progress_interval": 300, "max_cost": 900}
    run = make_run(scenario, retries=0, definition=file, **arguments)
    if is_cleared:
        when_failed(run, world.time, "A", lambda: run.clear("g.A"))

    run.run()

    execution = run.runs["g.execution"]
    assert isinstance(execution.error, PipelineExecutionTooExpensiveError)
    assert execution.ti.try_number == 1 + is_cleared
    assert world.calls(*CHANGES) == [START, STOP]
    assert run.states["g.B"] == "failed"
    why = "The execution was stopped, because its task has spent max_cost."
    assert run.runs["g.B"].ti.xcoms["step"]["reason"] == why


# ---- the record after a success


def first_xcoms(run: SimulatedDagRun) -> dict[str, Any]:
    """Return the XComs of the first task of the group."""
    return run.runs["g.begin"].ti.xcoms


def test_record_is_kept_after_a_success(make_run: Make) -> None:
    """
    As an XCom, which goes with the DAG run, in place of a Variable; it is signed, and
    has no values.
    """
    run = make_run(pipeline_parameters=None)
    succeed(run)

    kept = first_xcoms(run)[RECORD_KEY]
    assert run.record("g.execution").get(RECORD_KEY) is None
    assert kept["execution_arn"] == run.runs["g.execution"].ti.xcoms["execution_arn"]
    assert kept["signature"]
    assert kept["request"].get("pipeline_parameters") in (None, {})


OTHER = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/steps/execution/abcdefghijkl"


EDITS: dict[str, Callable[[Any], Any]] = {
    "other execution": lambda kept: {**kept, "execution_arn": OTHER},
    "unsigned": lambda kept: {
        name: value for name, value in kept.items() if name != "signature"
    },
}


def test_edited_record_is_ignored(make_run: Make, emulator: EmulatorServer) -> None:
    """Nobody but the task decides which execution it continues: it starts a new one."""
    run = make_run()
    succeed(run)

    for name, edit in EDITS.items():
        first_xcoms(run)[RECORD_KEY] = edit(first_xcoms(run)[RECORD_KEY])
        emulator.control.clear_calls()
        run.clear("g.Join")
        run.run()

        assert states_of(run) == 5 * ["success"], name
        assert selections(emulator) == [None], name
        assert OTHER not in str(emulator.control.calls()), name


# ---- what is stopped


def test_end_of_the_dag_run_stops_the_execution(make_run: Make, world: World) -> None:
    """
    Once, although the tasks of the steps are ended, too. The XCom ``run`` says how that
    ends.
    """
    run = make_run({"B": {"duration": None}})
    when_ended(run, world.time, "A", run.end)

    run.run()

    assert states_of(run) == ["success", "failed", "failed", "failed", "failed"]
    assert world.calls(*CHANGES) == [START, STOP]
    assert world.log.statuses == ["Stopped"]
    stop = run.runs["g.execution"].ti.xcoms["run"]["stop"]
    assert (stop["reason"], stop["process"]) == ("ended_task", "triggerer")
    assert stop["result"] == "accepted"


def clear_and_hold(
    run: SimulatedDagRun,
    time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    then: Callable[[], bool],
) -> list[bool]:
    """
    Clear B and what follows while B runs. The next try of the execution task does not
    begin.

    :param then: called when the trigger of the cleared task has looked at its task for
        the third time; whether the next try begins then.
    :return: whether it has left the execution to the next try, at each look.
    """
    is_cleared, looks = list[bool](), list[bool]()
    look = stopping.EndedTask._is_left_to_next_try

    def record(task: stopping.EndedTask, state: str | None) -> bool:
        looks.append(look(task, state))
        if len(looks) == 3 and then():
            is_cleared.clear()
            run.schedule()
        return looks[-1]

    def clear() -> None:
        is_cleared.append(True)
        run.clear("g.B")

    monkeypatch.setattr(stopping.EndedTask, "_is_left_to_next_try", record)
    when_ended(run, time, "A", clear)
    run.run(until=lambda: bool(is_cleared))
    return looks


def test_ended_task_whose_next_try_has_not_begun_loses_its_execution(
    make_run: Make, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It was cleared with some of its steps, so its execution goes on until somebody ends
    the task.
    """
    run = make_run({"B": {"duration": None}})
    stops = list[int]()

    def end() -> bool:
        stops.append(len(world.calls(STOP)))
        run.end()
        return False

    looks = clear_and_hold(run, world.time, monkeypatch, end)

    assert looks == [True, True, True, False]
    assert stops == [0]
    assert world.calls(*CHANGES) == [START, STOP]
    world.time.sleep(60)
    assert world.log.statuses == ["Stopped"]


def test_task_that_is_ended_after_airflow_was_away_loses_its_execution(
    make_run: Make, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile, its trigger goes on to ask for its state."""
    run = make_run({"B": {"duration": None}})
    read_state: Callable[[Any], str | None] = task_instances.read_state
    asked = count(1)

    def read_late(ti: Any) -> str | None:
        # The trigger has looked twice; one look asks four times.
        if 2 < next(asked) <= 6:
            raise OSError("the API server is away")
        return read_state(ti)

    def end() -> bool:
        run.end()
        return False

    monkeypatch.setattr(task_instances, "read_state", read_late)
    looks = clear_and_hold(run, world.time, monkeypatch, end)

    assert looks == [True, True, True, False]
    assert world.calls(*CHANGES) == [START, STOP]


def test_next_try_that_begins_keeps_its_execution(
    make_run: Make, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trigger of the try before then leaves it alone."""
    run = make_run({"B": {"duration": 7200}})

    looks = clear_and_hold(run, world.time, monkeypatch, lambda: True)

    assert looks[:3] == [True, True, True]
    assert looks[-1] is False
    assert world.calls(*CHANGES) == [START]
    assert states_of(run) == 5 * ["success"]
    assert world.log.statuses == ["Succeeded"]


def test_trigger_knows_the_tasks_of_the_steps(
    make_run: Make, emulator: EmulatorServer
) -> None:
    """They are among what Airflow stores."""
    run = make_run()
    succeed(run)

    trigger = run.runs["g.execution"].trigger
    assert trigger
    assert trigger[1]["step_task_ids"] == ["g.A", "g.B", "g.Join", "g.End"]
    again = PolysyncPipelineExecutionTrigger(**json.loads(json.dumps(trigger[1])))
    assert again.serialize() == trigger


# ---- the failure
