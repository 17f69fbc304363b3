"""The Variables that hold the records: their keys, their contents, and the deletion of leftovers."""

from __future__ import annotations

import json
import re
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from polysync_airflow.cli import main, records
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.records.signature import SIGNATURE, TaskKey
from polysync_airflow.records.store import RECORD, TASK, variable_key
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.harness import STOP, ExecutionLog, Task, calls
from tests.tasks import EmulatedTime

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
    """A key fits Airflow's column, and has only characters that secrets backends of AWS accept in names."""
    keys = [variable_key(task) for task in SIMILAR]

    assert len(set(keys)) == len(SIMILAR)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,250}", key) for key in keys), keys
    assert keys[0].startswith("polysync_execution.retraining.train.scheduled__2026-01-01T00_00_00_00_00.")


def test_variable_names_its_task_and_try(
    make_task: MakeTask, simulated_airflow: SimulatedAirflow, execution_log: ExecutionLog
) -> None:
    """A person who finds the Variable sees to which task it belongs; the record in it is signed."""
    task = make_task()

    task.next_try()

    value = json.loads(simulated_airflow.variable(variable_key(task.key)) or "")
    assert value[TASK] == {
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": -1,
    }
    assert (value[RECORD]["try_number"], value[RECORD]["execution_arn"]) == (1, execution_log.arns[0])
    assert value[RECORD][SIGNATURE]


@pytest.mark.parametrize(
    "text", ["typed by a person", "{}", "[]", "null", '{"record": {}}', '{"record": null}']
)
def test_damaged_variable_is_refused(
    text: str,
    simulated_airflow: SimulatedAirflow,
    monkeypatch: pytest.MonkeyPatch,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """Somebody has typed into the Variable: nothing is started, and the error names the Variable."""
    task = Task()
    monkeypatch.setattr(simulated_airflow, "variable", lambda _: text)

    run = task.next_try()

    assert f"Then delete the Variable '{variable_key(task.key)}'" in str(run.error)
    assert emulator.control.calls() == []


@pytest.mark.parametrize("edited", [None, "typed by a person", {"version": 1}])
def test_edit_during_the_wait_suppresses_no_stop(
    edited: Any, emulator: EmulatorServer, execution_log: ExecutionLog, emulated_time: EmulatedTime
) -> None:
    """The process that is killed has a record of its own: what others have written in its place does not matter."""
    task = Task()

    def edit_and_kill() -> None:
        task.store.set("polysync_execution", edited)
        task.kill()

    emulated_time.after(100, edit_and_kill)
    task.next_try()
    emulator.control.advance(60)

    assert len(calls(emulator, STOP)) == 1
    assert execution_log.statuses == ["Stopped"]


class DagRunState(str, Enum):  # noqa: UP042 # as in the models of Airflow 3's API; ``str()`` is not its value
    """The state of a DAG run as a worker of Airflow 3 gets it."""

    SUCCESS = "success"
    RUNNING = "running"


@pytest.mark.parametrize(
    "state", ["success", "failed", "running", "queued", DagRunState.SUCCESS, DagRunState.RUNNING]
)
def test_start_deletes_the_record_of_the_previous_run(
    state: str, simulated_airflow: SimulatedAirflow, emulated_time: EmulatedTime
) -> None:
    """The record of a DAG run that has ended is deleted by the next one; a DAG run that still runs keeps its own."""
    previous = Task(run_id="manual__1")
    previous.next_try()
    assert previous.record
    task = Task(run_id="manual__2", previous_run=SimpleNamespace(run_id="manual__1", state=state))

    run = task.next_try()

    assert run.error is None
    assert bool(previous.record) is (state not in ("success", "failed"))
    assert task.record


def test_command_deletes_the_records_of_ended_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command leaves those of running DAG runs, and what is not a record."""
    states = {"a": "success", "b": "running", "c": None, "d": "failed"}
    stored = [
        (f"polysync_execution.{run}", json.dumps({TASK: {"dag_id": "x", "run_id": run}, RECORD: {}}))
        for run in states
    ]
    stored += [("polysync_execution.text", "typed"), ("polysync_execution.list", "[]")]
    deleted: list[list[str]] = []
    monkeypatch.setattr(records, "variables_with_prefix", lambda _: stored)
    monkeypatch.setattr(records, "dag_run_state", lambda _, run: states[run])
    monkeypatch.setattr(records, "delete_variables", deleted.append)

    assert main(["records"]) == 0
    assert (deleted, "3 Variables." in capsys.readouterr().out) == ([], True)
    assert main(["records", "--dag-id", "other", "--delete"]) == 0
    assert deleted == []
    assert main(["records", "--dag-id", "x", "--delete"]) == 0
    assert deleted == [["polysync_execution.a", "polysync_execution.c", "polysync_execution.d"]]
    assert "polysync_execution.c  (DAG run: deleted)" in capsys.readouterr().out
