"""
AWS continues an execution from its failed steps: in a retry (``retry_mode``), after a
clear (``on_clear``), or because a user chose so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.airflow_compat import task_instances
from polysync_airflow.execution.lifecycle.instructions import ClearChoice
from polysync_airflow.execution.lifecycle.options import OnClear
from polysync_airflow.execution.texts import format_seconds
from polysync_airflow.records.keys import RECORD_KEY
from polysync_airflow.records.serialization import from_stored, to_stored
from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs, texts_of
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    MERGE_FAILS_TWICE,
    STEPS,
    Task,
)
from tests.world import LIST_STEPS, RETRY, STOP, World


@pytest.mark.parametrize(
    ("deferrable", "progress_interval"), [(False, 60), (True, None)]
)
def test_durations_after_a_resume_are_by_the_clock_of_aws(
    deferrable: bool, progress_interval: int | None, make_task: MakeTask, world: World
) -> None:
    """
    However wrong the host's clock is, the log has the duration of the last attempt, and
    ``run`` that of the whole execution, too.
    """
    world.control.put_scenario(MERGE_FAILS_ONCE)
    real = EmulatedTime.time
    world.patch.setattr(EmulatedTime, "time", lambda self: real(self) - 24 * 3600)
    task = make_task(
        retry_mode="resume", deferrable=deferrable, progress_interval=progress_interval
    )
    first = task.next_try()
    world.control.advance(5000)
    with capture_logs() as logs:
        run = task.next_try()

    record, whole = run.xcoms["run"], first.xcoms["run"]
    merge = run.xcoms["steps"][-1]
    assert record["started_at"] == whole["started_at"]
    assert whole["ended_at"] < record["attempt_started_at"] <= merge["started_at"]
    assert merge["seconds"] <= record["attempt_seconds"] < merge["seconds"] + 60
    assert whole["attempt_seconds"] is None
    times = (record[name] for name in ("started_at", "ended_at"))
    began_at, ended_at = map(datetime.fromisoformat, times)
    assert record["seconds"] == (ended_at - began_at).total_seconds() > 5000
    duration = format_seconds(record["attempt_seconds"])
    text = (
        f"Pipeline fanout succeeded {duration} after resume 1 (AWS status Succeeded)."
    )
    assert text in texts_of(logs)[-1]
    lines = [line for text in texts_of(logs) for line in text.splitlines()]
    kept = [line for line in lines if line.startswith("Step Shard0 ")]
    assert len(kept) == 1
    assert kept[0].endswith(", before the last resume")


def test_known_steps_are_shown_before_the_next_list(
    make_task: MakeTask, world: World
) -> None:
    """
    Airflow deletes the XComs of the first try. What has succeeded is not unknown until
    AWS lists it again.
    """
    world.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume", progress_interval=None)
    first = task.next_try()

    waiting = task.crash_while_waiting(world.time)

    known, shown = (
        {step["name"]: (step["state"], step["seconds"]) for step in run.xcoms["steps"]}
        for run in (first, waiting)
    )
    assert waiting.xcoms["run"]["state"] == "Running"
    assert shown == {**known, "Merge": ("NotStarted", None)}
    assert known["Merge"][0] == "Failed"


def test_resume_without_the_permission_to_list_steps(
    make_task: MakeTask, world: World
) -> None:
    """The steps of the definition are shown, as at a start."""
    world.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume", progress_interval=None)
    task.next_try()
    world.deny(LIST_STEPS)

    waiting = task.crash_while_waiting(world.time)

    shown = {step["name"]: step["state"] for step in waiting.xcoms["steps"]}
    assert shown == dict.fromkeys(STEPS, "NotStarted")


def fail_and_clear(
    task: Task, emulator: EmulatorServer, scenario: dict[str, Any] = MERGE_FAILS_ONCE
) -> None:
    """
    Let the execution of the only try fail, and clear the task after its cause was
    mended.
    """
    emulator.control.put_scenario(scenario)
    assert "AlgorithmError" in str(task.next_try().error)
    task.clear()
    emulator.control.clear_calls()


def test_arguments_of_the_start_are_kept_and_the_others_are_logged(
    make_task: MakeTask, world: World
) -> None:
    """
    AWS resumes with the values of the start; the log names the arguments that have
    other values now.
    """
    task = make_task(
        on_clear="resume",
        retries=0,
        pipeline_parameters={"Shards": 5},
        max_parallel_steps=2,
    )
    fail_and_clear(task, world.emulator)

    with capture_logs() as logs:
        run = task.next_try(pipeline_parameters={"Shards": 4}, max_parallel_steps=7)

    assert run.error is None
    assert run.xcoms["run"]["parameters"] == {"Shards": "5"}
    (call,) = world.control.calls(RETRY)
    assert call["request"]["ParallelismConfiguration"] == {
        "MaxParallelExecutionSteps": 2
    }
    assert (
        "AWS resumes with the values of the start. The arguments that have other values"
        " now are not used: max_parallel_steps, pipeline_parameters['Shards']:"
        f" execution {world.log.arns[0]}"
    ) in texts_of(logs, "warning")


def test_arguments_that_are_not_valid_do_not_prevent_the_resume(
    make_task: MakeTask, world: World
) -> None:
    """
    Arguments that are not used need not be valid; without changes, nothing is logged
    about them.
    """
    task = make_task(on_clear="resume", retries=0)
    fail_and_clear(task, world.emulator, MERGE_FAILS_TWICE)
    with capture_logs() as unchanged:
        assert task.next_try().error
    task.clear()

    with capture_logs() as logs:
        run = task.next_try(pipeline_parameters={"Shards": None})

    assert run.error is None
    assert world.log.statuses == ["Succeeded"]
    (warning,) = [line for line in texts_of(logs, "warning") if "arguments" in line]
    assert "The arguments of this try are not valid, and are not used: " in warning
    assert [line for line in texts_of(unchanged) if "arguments" in line] == []


def choose(task: Task, on_clear: OnClear) -> None:
    """Store a choice, as the API server does for the tab."""
    record = from_stored(task.last_record, task.key, place="")
    chosen = record.model_copy(update={"clear_choice": ClearChoice(on_clear=on_clear)})
    task.store.set(RECORD_KEY, to_stored(chosen, task.key))


def fail(task: Task, emulator: EmulatorServer, scenario: dict[str, Any]) -> None:
    """Let a try fail, and forget the calls."""
    emulator.control.put_scenario(scenario)
    assert "AlgorithmError" in str(task.next_try().error)
    emulator.control.clear_calls()


@pytest.mark.parametrize("is_refused", [False, True])
def test_choice_survives_the_end_of_the_killed_process(
    is_refused: bool, make_task: MakeTask, world: World
) -> None:
    """
    A user marks the task as failed and chooses, while its process is still on its way
    to the stop.
    """
    task = make_task(retries=0, on_clear="resume", progress_interval=90)
    if is_refused:
        world.deny(STOP)

    def kill(_: Any) -> None:
        task.state = "failed"
        choose(task, "new")
        task.kill()

    world.requests.after(LIST_STEPS, kill)
    task.next_try()

    assert task.last_record["clear_choice"] == {"on_clear": "new"}
    assert task.last_record.get("stop_requested_by") == (None if is_refused else 1)
    assert len(world.calls(STOP)) == 1
    if not is_refused:
        assert world.log.statuses[-1] in ("Stopping", "Stopped")


def test_choice_of_a_deleted_dag_run_is_gone(
    make_task: MakeTask, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Also if the process of the new one is killed before it could write, and stores its
    stop.
    """
    task = make_task(retries=0)
    fail(task, emulator, MERGE_FAILS)
    choose(task, "resume")
    task.delete()
    task.create_again(datetime(2026, 2, 2, tzinfo=UTC))
    is_current, kills = task_instances.is_current, [task.kill]

    def kill_before_the_answer(ti: Any) -> bool:
        if kills:
            kills.pop()()
        return is_current(ti)

    monkeypatch.setattr(task_instances, "is_current", kill_before_the_answer)
    task.next_try()

    assert task.last_record["stop_requested_by"] == 1
    assert "clear_choice" not in task.last_record
