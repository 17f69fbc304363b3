"""
``polysync records --stop-orphans``: it stops the executions whose tasks have ended or
are gone, and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest

from polysync_airflow.airflow_compat import database, xcoms
from polysync_airflow.airflow_compat.database import stored_variable
from polysync_airflow.cli.command_line import main
from polysync_airflow.records.database import imported_records
from polysync_airflow.records.keys import KEY_PREFIX, variable_key
from polysync_airflow.records.serialization import from_variable
from sagemaker_emulator import EmulatorServer
from tests.fakes import airflow_service
from tests.fakes.airflow_rows import add_variable
from tests.fakes.simulated_airflow import AIRFLOW
from tests.unit.operators.recovery.harness import Task, crash
from tests.unit.watch import rows
from tests.world import DESCRIBE, LIST, NEVER_ENDS, START, STOP, World, deny

pytestmark = pytest.mark.usefixtures("airflow_database")
SetState = Callable[..., None]
Lost = Callable[..., Task]
Sweep = Callable[..., dict[str, Any]]
Print = Callable[[], str]
DAG_ID, RUN_ID = Task.dag_id, Task.run_id


@pytest.fixture
def set_state() -> Iterator[SetState]:
    """
    Return a function that stores the state of a task in Airflow's database, and the
    number of its newest try; without them, it deletes the task.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    def store(task: Task, *state_and_number: Any) -> None:
        key = {"dag_id": DAG_ID, "run_id": RUN_ID, "task_id": task.task_id}
        with create_session() as session:
            session.query(TaskInstance).filter_by(**key).delete()
            if state_and_number:
                rows.add_task(session, task.key, *state_and_number)

    with create_session() as session:
        rows.add_run(session, DAG_ID, RUN_ID)
    yield store
    with create_session() as session:
        rows.remove_dag(session, DAG_ID)


@pytest.fixture
def lost(
    world: World, set_state: SetState, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lost]:
    """
    Return a function that lets a task lose its process, and stores its record in the
    database.
    """
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    world.control.put_scenario(NEVER_ENDS)
    # The tries reach Airflow through this, and the command by the database.
    airflow_service.install(monkeypatch, AIRFLOW)

    def make(task_id: str, state: str | None, **arguments: Any) -> Task:
        task = Task(task_id=task_id, arguments=arguments)
        world.time.after(60, crash)
        task.next_try()
        set_state(task, state, 1)
        key = variable_key(task.key)
        add_variable(key, AIRFLOW.record_text(key))
        with create_session() as session:
            rows.add_begin(session, task.key)
        if "run" in task.ti.xcoms:
            xcoms.write_xcom("run", task.ti.xcoms["run"], **asdict(task.key))
        return task

    yield make
    with create_session() as session:
        session.query(Variable).filter(Variable.key.startswith(KEY_PREFIX)).delete()


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Print:
    """Return a function that runs the command for people, and returns its output."""

    def run() -> str:
        capsys.readouterr()
        assert main(["records", "--stop-orphans"]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def texts() -> dict[str, str]:
    """Return what the last sweep has said of each task."""
    return {}


@pytest.fixture
def sweep(capsys: pytest.CaptureFixture[str], texts: dict[str, str]) -> Sweep:
    """Return a function that runs the command, and returns the result of each task."""

    def run(*options: str) -> dict[str, Any]:
        capsys.readouterr()
        status = main(["records", "--stop-orphans", "--output", "json", *options])
        document = json.loads(capsys.readouterr().out)
        results = {row["task_id"]: row["result"] for row in document["executions"]}
        for row in document["executions"]:
            texts[row["task_id"]] = row["text"]
            assert {"dag_id", "run_id", "map_index"} <= row.keys()
            if row["result"] == "stopped":
                assert row["status"] == "Stopping"
        assert status == (1 if "failed" in results.values() else 0)
        assert document["dry_run"] is ("--dry-run" in options)
        return results

    return run


def test_tasks_that_wait_for_capacity_are_listed_with_executions(
    lost: Lost, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    By their records; not those that have ended since, whose request was sent again, or
    that are of other pipelines.
    """
    add_variable(f"{KEY_PREFIX}damaged", "no record")
    lost("runs", "deferred")
    refusal = {"code": "ResourceLimitExceeded", "message": "20 are enough"}
    world.control.add_fault("error", START, **refusal)
    for task_id, state, pipeline in (
        ("marked", "failed", "fanout"),
        ("other", "deferred", "churn-tuning"),
        ("waits", "deferred", "fanout"),
        ("sent", "deferred", "fanout"),
    ):
        task = lost(task_id, state, wait_for_capacity=True, pipeline_name=pipeline)
    world.control.remove_faults()
    world.requests.after(START, crash)
    task.next_try()
    key = variable_key(task.key)
    with stored_variable(key, lock=True) as variable:
        variable.replace(AIRFLOW.record_text(key) or "")
    capsys.readouterr()

    listing = ["executions", "list", "--pipeline", "fanout"]
    assert main(listing) == main([*listing, "--output", "json"]) == 0

    text, _, document = capsys.readouterr().out.partition("{")
    (waiting,) = json.loads("{" + document)["waiting"]
    assert waiting["task_id"] == "waits"
    assert waiting["execution_arn"] is None
    assert "20 are enough" in waiting["reason"]
    assert waiting["since"] < waiting["asks_at"]
    since = waiting["since"][:19].replace("T", " ")
    assert text.startswith(f"Waiting for capacity since {since} UTC: fanout, task ")
    assert text.count("Waiting for capacity") == 1
    for option in ("--state=Failed", "--dag=other"):
        assert main([*listing, option]) == 0
        assert capsys.readouterr().out == ""


def test_executions_of_ended_and_deleted_tasks_are_stopped(
    lost: Lost, set_state: SetState, world: World, sweep: Sweep
) -> None:
    """Ended and deleted tasks, beside live ones and others."""
    lost("failed", "failed")
    lost("marked", "success")
    gone = lost("gone", None)
    set_state(gone)
    lost("waiting", "up_for_retry")
    lost("cleared", None)
    lost("keeping", "failed", stop_on_kill=False)
    again = lost("again", None)
    set_state(again, None, 0)

    found = sweep("--dry-run")
    assert world.log.statuses == ["Executing"] * 7
    orphans = {name for name, result in found.items() if result == "orphaned"}
    assert orphans == {"failed", "marked", "gone", "again"}

    results = sweep()
    assert {name for name in results if results[name] == "stopped"} == orphans
    assert {name for name in results if results[name] == "kept"} == {
        "waiting",
        "cleared",
        "keeping",
    }
    assert world.log.statuses == [*["Stopping"] * 3, *["Executing"] * 3, "Stopping"]

    # A second sweep, or one at the same time, has nothing to do.
    results = sweep()
    assert {name for name in results if results[name] == "over"} == orphans


def test_command_writes_a_line_for_each_execution_and_a_sum(
    lost: Lost, world: World, printed: Print
) -> None:
    """A line for each execution that is concerned, and a sum. None is stopped twice."""
    task = lost("failed", "failed")
    lost("waiting", "up_for_retry")
    key = variable_key(task.key)

    line, total = printed().splitlines()

    assert line == (
        f"stopped: {world.log.arns[0]}  The task has ended (state failed). The"
        f" execution was asked to stop. Record: {key}"
    )
    assert total == "2 records: 1 executions stopped, 0 failed, 0 ignored."
    run = xcoms.read_xcom("run", **asdict(task.key))
    assert (run["stop"]["process"], run["stop"]["result"]) == ("command", "accepted")
    assert xcoms.read_xcom("state", **asdict(task.key)) == run["state"] == "Running"
    with stored_variable(key, lock=False) as variable:
        stored = from_variable(variable.value or "", task.key)
    assert stored.stop_requested_by == 1
    nothing = "2 records: 0 executions stopped, 0 failed, 0 ignored.\n"
    assert printed() == nothing


def test_connections_of_the_database_are_found(
    lost: Lost, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow looks for them in such a process only."""
    lost("train", "failed")
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT")

    assert sweep() == {"train": "stopped"}
    assert os.environ["_AIRFLOW_PROCESS_CONTEXT"] == "server"


def test_execution_of_a_task_that_was_cleared_meanwhile_is_not_stopped(
    lost: Lost, set_state: SetState, world: World, sweep: Sweep, texts: dict[str, str]
) -> None:
    """Airflow is asked again before the stop."""
    task = lost("train", "failed")

    def clear(_: Any) -> None:
        set_state(task, "scheduled", 1)

    world.requests.after(DESCRIBE, clear)

    assert sweep() == {"train": "kept"}
    assert "later try" in texts["train"]
    assert world.log.statuses == ["Executing"]


def test_loop_stops_nothing_while_one_of_its_passes_goes_on(
    lost: Lost,
    world: World,
    sweep: Sweep,
    texts: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its passes have one key: while one of them has not ended, nothing is stopped."""
    lost("train", "failed")
    passes = [("success", 0), ("running", 1), ("success", 1)]
    monkeypatch.setattr(database.StoredVariable, "tries_of", lambda *_, **__: passes)

    assert sweep() == {"train": "kept"}
    assert "(state running)" in texts["train"]
    assert world.log.statuses == ["Executing"]


@pytest.mark.parametrize("field", ["execution_arn", "unattended_stop"])
def test_unproven_record_is_named_and_the_sweep_goes_on(
    lost: Lost, world: World, printed: Print, field: str
) -> None:
    """One that is not proven is named, and the sweep goes on."""
    bad = lost("bad", "failed")
    lost("good", "failed")
    with stored_variable(variable_key(bad.key), lock=True) as variable:
        value = json.loads(variable.value or "")
        del value["record"][field]
        variable.replace(json.dumps(value))
    with stored_variable(variable_key(bad.key), lock=True) as variable:
        assert variable.exists

    output = printed()

    assert "ignored: execution without a known ARN  The record that earlier" in output
    assert f"Record: {variable_key(bad.key)}" in output
    assert world.log.statuses == ["Executing", "Stopping"]


def test_stop_that_fails_changes_the_exit_code(
    emulator: EmulatorServer, lost: Lost, sweep: Sweep, texts: dict[str, str]
) -> None:
    """The exit code says so, for whoever schedules the command."""
    lost("train", "failed")
    deny(emulator, STOP)

    assert sweep() == {"train": "failed"}
    assert (
        "its stop failed: StopPipelineExecution failed: AccessDenied"
        in (texts["train"])
    )


def test_list_for_a_lost_response_is_asked_for_again(
    world: World, lost: Lost, sweep: Sweep
) -> None:
    """If AWS throttles it."""
    world.requests.after(START, crash)
    lost("train", "failed")
    world.time.at.clear()
    world.control.add_fault("throttle", LIST, count=3)

    assert sweep() == {"train": "stopped"}


def test_other_dags_are_left_out(world: World, lost: Lost, sweep: Sweep) -> None:
    """Records of other DAGs are left out."""
    lost("train", "failed")

    for options in ((), ("--dry-run",)):
        assert sweep("--dag-id", "other", *options) == {}
    assert world.calls(STOP) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--dry-run",), "--dry-run needs --stop-orphans"),
        (("--stop-orphans", "--older-than", "30d"), "are two commands"),
    ],
)
def test_options_that_do_not_go_together(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], problem: str
) -> None:
    """The error says what to do."""
    with pytest.raises(SystemExit) as raised:
        main(["records", *options])

    assert raised.value.code == 2
    assert problem in capsys.readouterr().err


def test_executions_of_another_deployment_are_left_alone(
    lost: Lost, world: World, printed: Print, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executions of a deployment whose database was copied are left alone."""
    lost("train", "failed")
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__DEPLOYMENT", "staging")

    assert "is that of another deployment of Airflow" in printed()
    assert world.log.statuses == ["Executing"]


@pytest.mark.parametrize("event", ["running", "failed"])
@pytest.mark.parametrize("tries", [(), ("failed", 0), ("failed", 1)])
def test_imported_record_is_left_alone(
    tries: Any,
    event: str,
    lost: Lost,
    set_state: SetState,
    world: World,
    printed: Print,
) -> None:
    """Unless a try of its task has begun in this database, as the audit log says."""
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    task = lost("train", "failed")
    set_state(task, *tries)
    with create_session() as session:
        session.query(Log).filter_by(dag_id=DAG_ID).update({"event": event})

    is_own = event == "running" or tries == ("failed", 1)
    assert len(imported_records()) == int(not is_own)
    assert ("no try of its task has begun in this database" in printed()) is not is_own
    assert world.log.statuses == ["Stopping" if is_own else "Executing"]


def test_record_under_another_key_is_not_believed(
    lost: Lost, world: World, printed: Print, sweep: Sweep
) -> None:
    """A copy that somebody has kept may name an execution that a later try has."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    task = lost("train", "failed")
    with create_session() as session:
        (variable,) = session.query(Variable).filter_by(key=variable_key(task.key))
        variable.key = f"{KEY_PREFIX}copy"

    assert "not the record of the task of its key" in printed()
    assert sweep() == {None: "unreadable"}
    assert world.log.statuses == ["Executing"]
