"""
The Variables that hold the records: their keys, their contents, and which of them
remain.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records import RECORD, SIGNATURE, TASK, variable_key
from sagemaker_emulator import EmulatorServer
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import DagRun, EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS_ONCE,
    STOP,
    CrashError,
    ExecutionLog,
    Task,
    calls,
    crash,
    step_attempts,
)

KEY = TaskKey("retraining", "scheduled__2026-01-01T00:00:00+00:00", "train", -1)
SIMILAR = [
    KEY,
    TaskKey("retraining", "scheduled__2026-01-01T00:00:00+01:00", "train", -1),
    TaskKey("retraining", "scheduled__2026-01-01T00:00:00 00:00", "train", -1),
    TaskKey("retraining", "scheduled__2026-01-01T00:00:00+00:00", "train", 0),
    TaskKey("retraining.train", "scheduled__2026-01-01T00:00:00+00:00", "train", -1),
    TaskKey("retraining", "scheduled__2026-01-01T00:00:00+00:00", "train.0", -1),
    TaskKey("d" * 250, "r" * 250, "t" * 250, 10**6),
    TaskKey("d" * 250, "r" * 250, "t" * 249, 10**6),
    TaskKey("retraining", "manual/äöü?#%41", "train", -1),
]


def test_keys_are_readable_short_and_unique() -> None:
    """
    A key fits Airflow's column, and has only characters that secrets backends of AWS
    accept in names.
    """
    keys = [variable_key(task) for task in SIMILAR]

    assert len(set(keys)) == len(SIMILAR)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,250}", key) for key in keys), keys
    assert keys[0].startswith(
        "polysync_execution.retraining.train.scheduled__2026-01-01T00_00_00_00_00."
    )


def test_variable_names_its_task_and_try(
    make_task: MakeTask,
    simulated_airflow: SimulatedAirflow,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
) -> None:
    """
    A person who finds the Variable sees to which task it belongs; the record in it is
    signed.
    """
    task = make_task()
    emulated_time.after(100, crash)

    task.next_try()

    value = json.loads(simulated_airflow.variable(variable_key(task.key)) or "")
    assert value[TASK] == {
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": -1,
    }
    assert (value[RECORD]["try_number"], value[RECORD]["execution_arn"]) == (
        1,
        execution_log.arns[0],
    )
    assert value[RECORD][SIGNATURE]


@pytest.mark.parametrize("text", ["typed by a person", "{}", "[]", '{"record": null}'])
def test_damaged_variable_is_a_warning(
    text: str,
    make_task: MakeTask,
    simulated_airflow: SimulatedAirflow,
    monkeypatch: pytest.MonkeyPatch,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    Somebody has typed into the Variable: the task goes on with its execution, and the
    log names the Variable.
    """
    task = make_task()
    emulated_time.after(100, crash)
    task.next_try()
    with monkeypatch.context() as patched:
        patched.setattr(simulated_airflow, "record_text", lambda _: text)

        run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert f"It is not used: the Variable '{variable_key(task.key)}'" in caplog.text


@pytest.mark.parametrize("edited", [None, "typed by a person", {"version": 1}])
def test_edit_during_the_wait_suppresses_no_stop(
    edited: Any,
    emulator: EmulatorServer,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
) -> None:
    """
    The process that is killed has a record of its own: what others have written in its
    place does not matter.
    """
    task = Task()

    def edit_and_kill() -> None:
        task.store.set("polysync_execution", edited)
        task.kill()

    emulated_time.after(100, edit_and_kill)
    task.next_try()
    emulator.control.advance(60)

    assert len(calls(emulator, STOP)) == 1
    assert execution_log.statuses == ["Stopped"]


# ---- which of them remain


RUNS = [f"asset_triggered__{number}" for number in range(4)]


def test_success_leaves_no_record(
    make_task: MakeTask, simulated_airflow: SimulatedAirflow
) -> None:
    """
    Whatever starts the DAG runs, and in whichever order they end: no other run is asked
    for.
    """
    mapped = [
        Task(make_task().deferrable, run_id=run, map_index=index)
        for run in RUNS
        for index in (0, 1)
    ]
    tasks = [
        *mapped,
        make_task(),
        Task(make_task().deferrable, {"wait_for_completion": False}, task_id="starts"),
    ]
    completed = make_task(on_completed_with_failures="succeed")
    completed.run_id = "manual__completed"

    for task in (*reversed(tasks), completed):
        assert task.next_try().error is None

    assert [task.record for task in (*tasks, completed)] == [None] * (len(tasks) + 1)


def test_task_that_has_not_succeeded_keeps_its_record_however_many_runs_come(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """Yesterday's failure is resumed by its clear, after today's run."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    yesterday = make_task(on_clear="resume", retries=0)
    yesterday.next_try()
    record = yesterday.record
    emulator.control.put_scenario({})
    for later in RUNS:
        assert Task(run_id=later).next_try().error is None
    assert yesterday.record == record
    yesterday.clear()
    yesterday.dag_run = DagRun(datetime(2026, 1, 5, tzinfo=UTC), clear_number=1)

    run = yesterday.next_try()

    assert run.error is None
    assert run.result == execution_log.arns[0]
    assert step_attempts(execution_log.executions[0])["Merge"] == 2


@pytest.mark.parametrize(
    "changed", [False, True], ids=["same parameters", "other parameters"]
)
@pytest.mark.parametrize("name", [None, "nightly"], ids=["default name", "own name"])
def test_death_after_the_deletion_starts_nothing(
    name: str | None,
    changed: bool,
    make_task: MakeTask,
    simulated_airflow: SimulatedAirflow,
    monkeypatch: pytest.MonkeyPatch,
    execution_log: ExecutionLog,
) -> None:
    """
    Airflow takes the try for failed: the retry gets the execution that has succeeded.
    """
    task = make_task(execution_display_name=name)
    delete = simulated_airflow.delete_variable

    def delete_and_die(key: str) -> None:
        delete(key)
        crash()

    with monkeypatch.context() as patched:
        patched.setattr(simulated_airflow, "delete_variable", delete_and_die)
        assert isinstance(
            task.next_try(pipeline_parameters={"Shards": 3}).error, CrashError
        )
    assert task.record is None

    run = task.next_try(pipeline_parameters={"Shards": 4 if changed else 3})

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    assert run.result == execution_log.arns[0]
    assert run.xcoms["run"]["parameters"]["Shards"] == "3"
    assert task.record is None
