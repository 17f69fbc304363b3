"""
Which rows the listener adds in the transaction of the scheduler or of the API server.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, func, select, text

from polysync_airflow.airflow_compat import listeners as compat
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records.keys import KEY_PREFIX, variable_key
from tests.unit.watch import rows

if not CAPABILITIES.triggerer_callbacks:
    pytest.skip("this Airflow tells no listener of ends", allow_module_level=True)

from airflow.models.callback import TriggererCallback
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.variable import Variable
from airflow.utils.session import create_session

from polysync_airflow.watch.listeners import CALLBACK, EndListener

DAG_ID = "watched"
RUN_ID = "manual__1"
pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.fixture
def session() -> Iterator[Any]:
    """A session of the caller, with a DAG run; all is deleted again."""
    with create_session() as made:
        _delete_all(made)
        rows.add_run(made, DAG_ID, RUN_ID)
        made.commit()
        yield made
        made.rollback()
        _delete_all(made)


def _delete_all(session: Any) -> None:
    rows.remove_dag(session, DAG_ID)
    rows.remove_triggers(session)
    session.query(Variable).filter(Variable.key.startswith(KEY_PREFIX)).delete()
    session.commit()


def add_task(
    session: Any,
    state: str | None,
    task_id: str = "train",
    map_index: int = -1,
    *,
    has_record: bool = True,
    try_number: int = 1,
) -> TaskKey:
    """Store a task instance, and that it has a record."""
    key = TaskKey(DAG_ID, RUN_ID, task_id, map_index)
    rows.add_task(session, key, state, try_number)
    if has_record:
        session.add(Variable(key=variable_key(key), val="{}"))  # type: ignore[no-untyped-call]
    session.commit()
    return key


def dag_run(session: Any) -> Any:
    """Return the DAG run as the caller has it."""
    return session.scalar(select(DagRun).filter_by(dag_id=DAG_ID, run_id=RUN_ID))


def mark_run(session: Any) -> None:
    """Tell the listener that the DAG run was marked as failed."""
    EndListener().on_dag_run_failed(dag_run(session), "marked")


def task_instance(session: Any, key: TaskKey, state: str) -> Any:
    """Return a task instance that the caller has marked."""
    query = select(TaskInstance).filter_by(
        dag_id=key.dag_id, run_id=key.run_id, task_id=key.task_id
    )
    ti = session.scalar(query.where(TaskInstance.map_index == key.map_index))
    ti.state = state
    return ti


def told(session: Any) -> list[str]:
    """Commit, and return the keys of the records of which a triggerer is told."""
    session.commit()
    stored = session.scalars(select(TriggererCallback)).all()
    assert {row.data["path"] for row in stored} <= {CALLBACK}
    assert all(row.trigger is not None for row in stored)
    return sorted(variable_key(TaskKey(**row.data["kwargs"])) for row in stored)


def statements_of(session: Any) -> list[str]:
    """Return the list to which the statements of a session are added."""
    found: list[str] = []

    def before(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    event.listen(session.connection().engine, "before_cursor_execute", before)
    return found


@pytest.mark.parametrize("end", ["on_dag_run_failed", "on_dag_run_success"])
@pytest.mark.parametrize(
    "state", ["up_for_retry", "scheduled", "deferred", "skipped", "failed", "removed"]
)
def test_run_that_ends_with_a_record(session: Any, end: str, state: str) -> None:
    """A mark of a run, and dagrun_timeout, may leave the execution of its task."""
    key = add_task(session, state)

    getattr(EndListener(), end)(dag_run(session), "marked")

    assert told(session) == [variable_key(key)]


@pytest.mark.skipif(
    not CAPABILITIES.run_marks_skip_tasks, reason="a mark makes waiting tasks succeed"
)
def test_success_in_a_run_that_ends(session: Any) -> None:
    """A group of steps keeps the record of its success, and needs no row at its end."""
    add_task(session, "success")

    EndListener().on_dag_run_success(dag_run(session), "ended")

    assert told(session) == []


@pytest.mark.parametrize(
    ("state", "more"),
    [("success", {}), ("failed", {"error": "marked"}), ("skipped", {})],
)
def test_marked_task_adds_a_row_whatever_its_state(
    session: Any, state: str, more: dict[str, str]
) -> None:
    """Whatever state it had before."""
    key = add_task(session, "up_for_retry")
    ti = task_instance(session, key, state)

    getattr(EndListener(), f"on_task_instance_{state}")(None, ti, **more)

    assert told(session) == [variable_key(key)]


def test_rows_wait_for_no_free_slot_of_a_triggerer(session: Any) -> None:
    """
    A triggerer runs what it is assigned to, although its capacity is used up. One query
    finds the triggerer of all rows.
    """
    triggerer = rows.add_triggerer(session)
    rows.add_trigger(session, triggerer)
    keys = [add_task(session, "deferred", map_index=index) for index in (0, 1)]
    statements = statements_of(session)

    mark_run(session)

    assert told(session) == sorted(map(variable_key, keys))
    assert sum("FROM job" in each for each in statements) == 1
    Trigger.assign_unassigned(triggerer, 1, 30, session=session)
    run = set(Trigger.ids_for_triggerer(triggerer, session=session))
    assert run == set(session.scalars(select(Trigger.id)))


def test_task_that_has_never_begun_adds_no_row(session: Any) -> None:
    """Its record was imported, or is that of an earlier run with the same id."""
    key = add_task(session, None, try_number=0)
    ti = task_instance(session, key, "failed")

    EndListener().on_task_instance_failed(None, ti, "marked")
    mark_run(session)

    assert told(session) == []


def test_failure_with_a_retry_adds_no_row(session: Any) -> None:
    """The scheduler says that a task has failed also if a retry follows."""
    key = add_task(session, "running")
    ti = task_instance(session, key, "up_for_retry")

    EndListener().on_task_instance_failed("running", ti, "its process has died")

    assert told(session) == []


def queues_of_rows(session: Any, key: TaskKey) -> set[tuple[str | None, bool]]:
    """
    Return the queues of the rows for a mark of a task and for one of its run, and
    whether they have a triggerer.
    """
    mark_run(session)
    ti = task_instance(session, key, "skipped")
    EndListener().on_task_instance_skipped(None, ti)
    session.commit()
    found = session.scalars(select(TriggererCallback)).all()
    assert len(found) == 2
    triggers = [row.trigger for row in found]
    return {(each.queue, each.triggerer_id is not None) for each in triggers}


@pytest.mark.parametrize(("is_enabled", "queue"), [(True, "gpu"), (False, None)])
def test_row_has_the_queue_of_its_task(
    session: Any, monkeypatch: pytest.MonkeyPatch, is_enabled: bool, queue: str | None
) -> None:
    """A triggerer with --queues runs no trigger without a queue, and the reverse."""
    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", str(is_enabled))

    queues = queues_of_rows(session, add_task(session, "up_for_retry"))

    assert queues == {(queue, False)}


def test_row_has_a_queue_that_a_living_triggerer_serves(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triggerers that have ended, or that send no heartbeat, do not count."""
    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")
    key = add_task(session, "up_for_retry")
    silent = rows.add_triggerer(session, seconds=31)
    ended = rows.add_triggerer(session, ended=True)
    living = rows.add_triggerer(session, seconds=20)
    for triggerer, queue in ((silent, "gpu"), (ended, "gpu"), (living, "default")):
        rows.add_trigger(session, triggerer, queue=queue)

    assert queues_of_rows(session, key) == {("default", True)}


@pytest.mark.skipif(not hasattr(Trigger, "team_name"), reason="triggers have no team")
def test_triggerers_of_other_teams_do_not_count(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run no trigger of the task's team."""
    from airflow.models.team import Team

    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")
    session.merge(Team(name="others"))
    session.commit()
    triggerer = rows.add_triggerer(session)
    rows.add_trigger(session, triggerer, queue="default", team_name="others")

    queues = queues_of_rows(session, add_task(session, "up_for_retry"))

    assert queues == {("gpu", False)}


def test_one_end_with_three_calls(session: Any) -> None:
    """In one transaction, they add one row."""
    key = add_task(session, "up_for_retry")
    ti = task_instance(session, key, "failed")
    listener = EndListener()

    listener.on_task_instance_failed(None, ti, "marked")
    listener.on_dag_run_failed(dag_run(session), "marked")
    assert len(told(session)) == 1

    listener.on_dag_run_failed(dag_run(session), "the run has ended")
    assert len(told(session)) == 2


def test_row_is_rolled_back_with_the_end_of_the_task(session: Any) -> None:
    """The row exists if the end does."""
    key = add_task(session, "up_for_retry")
    ti = task_instance(session, key, "failed")
    session.flush()  # with SQLite, this begins the transaction

    EndListener().on_task_instance_failed(None, ti, "marked")
    session.rollback()

    assert told(session) == []


def test_run_without_a_record_costs_one_query(session: Any) -> None:
    """A run without a record costs one query, and its tasks none."""
    key = add_task(session, "skipped", has_record=False)
    run, ti = dag_run(session), task_instance(session, key, "skipped")
    session.flush()
    statements = statements_of(session)
    listener = EndListener()

    for _ in range(3):
        listener.on_task_instance_skipped(None, ti)
    listener.on_dag_run_failed(run, "marked")

    selects = [each for each in statements if each.startswith("SELECT")]
    assert len(selects) == 1
    assert len(statements) == 3  # with the savepoint, and its end
    assert told(session) == []


def test_records_of_other_runs_are_left_alone(session: Any) -> None:
    """They are left alone, and so are those of a DAG whose name begins alike."""
    add_task(session, "failed", has_record=False)
    others = [
        TaskKey(DAG_ID, "manual__2", "train", -1),
        TaskKey(f"{DAG_ID}.more", RUN_ID, "train", -1),
    ]
    for other in others:
        session.add(Variable(key=variable_key(other), val="{}"))  # type: ignore[no-untyped-call]
    session.commit()

    mark_run(session)

    assert told(session) == []


@pytest.mark.parametrize(
    "part", ["variable_keys_in", "unattended_tasks", "let_triggerer_call"]
)
def test_statement_that_fails_harms_no_transaction_and_is_logged_once(
    session: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
) -> None:
    """The caller's transaction is not harmed, and the log says so once."""
    add_task(session, "skipped")
    run = dag_run(session)
    session.execute(
        DagRun.__table__.update().where(DagRun.run_id == RUN_ID).values(state="failed")
    )

    def fail(own: Any, *_: Any, **__: Any) -> None:
        own.execute(text("SELECT 1 FROM no_such_table"))

    monkeypatch.setattr(compat, part, fail)
    listener = EndListener()
    with caplog.at_level(logging.WARNING):
        listener.on_dag_run_failed(run, "marked")
        listener.on_dag_run_failed(run, "marked")
    session.commit()

    query = select(DagRun.state).where(DagRun.run_id == RUN_ID)
    assert session.scalar(query) == "failed"
    assert told(session) == []
    (line,) = [each for each in caplog.messages if "polysync records" in each]
    assert f"DAG run {RUN_ID} of DAG {DAG_ID}: OperationalError" in line


def test_row_that_fails_leaves_nothing_of_the_savepoint(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the savepoint has added before the error is not left, either."""
    add_task(session, "skipped")

    def add_and_fail(own: Any, *arguments: Any) -> None:
        let(own, *arguments)
        own.flush()
        raise LookupError

    let = compat.let_triggerer_call
    monkeypatch.setattr(compat, "let_triggerer_call", add_and_fail)

    mark_run(session)
    session.commit()

    assert session.scalar(select(func.count()).select_from(Trigger)) == 0


def test_listener_commits_nothing_of_the_scheduler(session: Any) -> None:
    """The scheduler allows no commit of its session, and the savepoint is none."""
    from airflow.utils.sqlalchemy import prohibit_commit

    key = add_task(session, "skipped")
    with prohibit_commit(session) as guard:  # type: ignore[no-untyped-call]
        mark_run(session)
        guard.commit()

    assert told(session) == [variable_key(key)]


def test_listener_does_nothing_in_a_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There, the listener gets no row of the database, and does nothing."""
    ti = SimpleNamespace(
        dag_id=DAG_ID, run_id=RUN_ID, task_id="train", map_index=-1, state="failed"
    )

    EndListener().on_task_instance_failed(None, ti, ValueError())

    assert caplog.messages == []
