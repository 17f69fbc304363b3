"""
The execution task of a group of steps: what a clear of some of their tasks does, and
what it keeps.

``tests/simulation`` has the tasks of the steps beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.execution import clock
from polysync_airflow.execution.step_clears import CLEAR_KEY
from polysync_airflow.operators import steps_execution_run
from polysync_airflow.records.keys import RECORD_KEY
from tests.conftest import ARN
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS_ONCE,
    STEPS,
    GroupTask,
    crash,
)
from tests.world import CHANGES, RETRY, START, STOP, World

EDITS: dict[str, Callable[[Any], Any]] = {
    "other execution": lambda kept: {**kept, "execution_arn": ARN},
    "unsigned": lambda kept: {**kept, "signature": None},
}


def selections(world: World) -> list[Any]:
    """
    Return the selected steps and the source of each start; None for an execution of all
    steps.
    """
    selected: list[Any] = []
    for call in world.control.calls(START):
        config = call["request"].get("SelectiveExecutionConfig")
        if config is None:
            selected.append(None)
            continue
        names = [each["StepName"] for each in config["SelectedSteps"]]
        selected.append((names, config["SourcePipelineExecutionArn"]))
    return selected


def clear(task: GroupTask, *steps: str) -> None:
    """Clear the tasks of some steps, and with them the execution task."""
    task.steps |= dict.fromkeys(steps)
    task.clear()


def begin_again(task: GroupTask, step: str) -> None:
    """Let the task of a step that was cleared begin again: it leaves a note."""
    task.steps[step] = "deferred"
    task.step_tis[step].xcoms[CLEAR_KEY] = clock.time()


def test_clear_of_all_stops_the_execution_that_runs(world: World) -> None:
    """Rule 1. The task waits for the note of the first step that begins again."""
    task = GroupTask()
    deferral = task.defer()
    assert deferral.trigger.serialize()[1]["step_task_ids"] == list(STEPS)
    world.time.sleep(60)
    clear(task, *STEPS)
    world.time.after(3, lambda: begin_again(task, "Shard0"))

    run = task.next_try()

    assert run.error is None
    assert world.calls(*CHANGES) == [START, STOP, START]
    assert selections(world) == [None, None]
    assert world.log.max_concurrent == 1


def test_clear_of_some_is_repeated_after_the_end(world: World) -> None:
    """
    Rule 2: the execution goes on, and the log says so. After another clear meanwhile,
    the task still knows which steps were cleared. What waits for a step that is
    repeated is repeated, too, although it succeeds meanwhile.
    """
    world.control.put_scenario({"steps": {"Shard3": {"duration": 4000}}})
    task = GroupTask()
    task.defer()
    world.time.sleep(1800)
    clear(task, "Merge")
    begin_again(task, "Shard0")
    deferral = task.defer()
    assert deferral.method_name == "execute_after_end"
    assert task.ti.xcoms[CLEAR_KEY]["cleared"] == ["Shard0", "Merge"]
    del task.step_tis["Shard0"].xcoms[CLEAR_KEY]
    clear(task)

    run = task.next_try()

    assert run.error is None
    assert world.log.statuses == ["Succeeded", "Succeeded"]
    assert world.calls(*CHANGES) == [START, START]
    assert selections(world) == [None, (["Shard0", "Merge"], world.log.arns[0])]
    assert world.log.max_concurrent == 1


def test_clear_of_a_failed_step_resumes_once(world: World) -> None:
    """Rule 3: AWS repeats what has not succeeded."""
    world.control.put_scenario(MERGE_FAILS_ONCE)
    task = GroupTask(retries=0)
    error = task.next_try().error
    task.steps = {"Shard0": "success", "Shard3": "success", "Merge": "failed"}
    clear(task, "Merge")

    run = task.next_try()

    assert run.error is None
    assert world.calls(*CHANGES) == [START, RETRY]
    cure = "clear the task of the failed step with the tasks that follow (Downstream)"
    assert cure in str(error)


def test_clear_of_a_succeeded_step_selects(world: World) -> None:
    """
    Rule 4: the other results are those of the source, which the record names. After the
    success, it is an XCom, which goes with the DAG run; it is signed, and has no values.
    """
    task = GroupTask(arguments={"pipeline_parameters": {"Shards": 4}})
    source = task.next_try().result
    kept = task.first_ti.xcoms[RECORD_KEY]
    assert task.record is None
    assert kept["request"].get("pipeline_parameters") in (None, {})
    task.steps = dict.fromkeys(STEPS, "success")
    clear(task, "Merge")

    run = task.next_try()

    assert run.error is None
    assert selections(world) == [None, (["Merge"], source)]
    assert run.xcoms["run"]["selected_steps"] == ["Merge"]


def test_what_a_cleared_step_needs_is_repeated_if_it_has_failed_since(
    world: World,
) -> None:
    """Rule 4: AWS would refuse a selective execution without it."""
    failure = {"reason": "AlgorithmError: x", "times": 1}
    world.control.put_scenario(
        {"steps": {"Shard3": {"duration": 4000, "fail": failure}}}
    )
    task = GroupTask()
    task.defer()
    world.control.put_scenario({})
    world.time.sleep(1800)
    clear(task, "Shard0", "Merge")
    begin_again(task, "Shard0")

    run = task.next_try()

    assert run.error is None
    assert world.log.statuses == ["Failed", "Succeeded"]
    selected = ["Shard3", "Shard0", "Merge"]
    assert selections(world) == [None, (selected, world.log.arns[0])]


def test_selection_needs_no_permission_to_read_the_definition(world: World) -> None:
    """Without it, AWS says what the cleared steps need."""
    world.control.put_scenario(MERGE_FAILS_ONCE)
    task = GroupTask(retries=0)
    task.next_try()
    task.steps = {"Shard0": "success", "Shard3": "success", "Merge": "failed"}
    clear(task, "Shard0", "Merge")
    world.control.put_scenario({})
    operation = "DescribePipelineDefinitionForExecution"
    code = "AccessDeniedException"
    world.control.add_fault("error", operation, code=code, message="no")

    run = task.next_try()

    assert run.error is None
    assert selections(world) == [None, (["Shard0", "Merge"], world.log.arns[0])]


def test_start_without_an_answer_goes_on_if_the_steps_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else is responsible for what it has started."""

    def fail(*_: object) -> None:
        raise ConnectionError

    task = GroupTask()
    world.requests.after(START, crash)
    task.next_try()
    clear(task, "Merge")
    monkeypatch.setattr(steps_execution_run, "read_states", fail)

    assert task.next_try().error is None
    assert world.calls(*CHANGES) == [START]


@pytest.mark.parametrize(
    ("cleared", "requests"),
    [(("Merge",), [START]), (STEPS, [START, STOP, START])],
    ids=["some", "all"],
)
def test_start_without_an_answer_goes_on_after_a_clear_of_some(
    cleared: tuple[str, ...], requests: list[str], world: World
) -> None:
    """Rule 8."""
    task = GroupTask()
    world.requests.after(START, crash)
    task.next_try()
    world.time.sleep(60)
    task.steps = dict.fromkeys(STEPS, "up_for_retry")
    clear(task, *cleared)
    if cleared == STEPS:
        begin_again(task, "Shard0")

    run = task.next_try()

    assert run.error is None
    assert world.calls(*CHANGES) == requests
    assert world.log.statuses[-1] == "Succeeded"
    assert world.log.max_concurrent == 1


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edited_record_is_ignored(
    edit: Callable[[Any], Any], world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody but the task decides which execution it continues: it starts a new one."""
    task = GroupTask()
    task.next_try()
    task.first_ti.xcoms[RECORD_KEY] = edit(task.first_ti.xcoms[RECORD_KEY])
    task.steps = dict.fromkeys(STEPS, "success")
    clear(task, "Merge")

    run = task.next_try()

    assert run.error is None
    assert selections(world) == [None, None]
    assert ARN not in str(world.control.calls())
    assert f"XCom {RECORD_KEY!r} is ignored" in caplog.text
