"""
Which records the command deletes: those of tasks that have ended long ago, and no other
Variable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.airflow_compat.database import variable_keys
from polysync_airflow.cli.command_line import main
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records.database import StoredTask
from polysync_airflow.records.keys import KEY_PREFIX
from polysync_airflow.records.serialization import RECORD, TASK
from tests.fakes.airflow_rows import add_variable
from tests.fakes.evil_json import EVIL

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=31)
YOUNG = NOW - timedelta(days=29)
KEY = TaskKey("retraining", "manual__1", "train", -1)


@pytest.mark.parametrize(
    ("dag_run_state", "ended_at", "task_states", "is_deleted"),
    [
        ("failed", OLD, ("failed",), True),
        ("success", OLD, ("success",), True),
        ("success", OLD, ("upstream_failed",), True),
        ("failed", OLD, ("skipped",), True),
        # The task has another name in the DAG file.
        ("success", OLD, ("removed",), True),
        ("failed", YOUNG, ("failed",), False),
        ("failed", None, ("failed",), False),
        # It may still run, or run again by itself.
        ("running", OLD, ("failed",), False),
        ("queued", OLD, ("failed",), False),
        ("failed", OLD, (None,), False),
        ("failed", OLD, ("up_for_retry",), False),
        ("failed", OLD, ("success", "running"), False),
        # The task, or the DAG run, was deleted.
        ("failed", OLD, (), True),
        (None, OLD, (), True),
        (None, YOUNG, (), False),
        (None, None, (), False),
    ],
)
def test_record_is_deleted_if_its_task_has_ended_long_ago(
    dag_run_state: str | None,
    ended_at: datetime | None,
    task_states: tuple[str | None, ...],
    is_deleted: bool,
) -> None:
    """Nothing younger is deleted, and nothing that may run."""
    task = StoredTask(KEY, dag_run_state, ended_at, task_states)

    assert task.has_ended_before(NOW - timedelta(days=30)) is is_deleted


def record_of(started_at: datetime, **changes: Any) -> str:
    """
    Return the text of a Variable with the record of a task whose DAG run was deleted.
    """
    task = {
        "dag_id": "gone",
        "run_id": "gone",
        "task_id": "train",
        "map_index": -1,
        **changes,
    }
    incarnation = {"dag_run_started_at": started_at.isoformat(), "clear_number": 0}
    return json.dumps({TASK: task, RECORD: {"incarnation": incarnation}})


VALUES = {
    "old": record_of(OLD),
    "young": record_of(YOUNG),
    "recent": record_of(NOW - timedelta(hours=2)),
    "other": record_of(OLD, dag_id="other"),
    "without a start": json.dumps({TASK: json.loads(record_of(OLD))[TASK], RECORD: {}}),
    # What is no record.
    **EVIL,
    "number as DAG": record_of(OLD, dag_id=7),
    "surprise": record_of(OLD, surprise=1),
    "NUL in a DAG": record_of(OLD, dag_id="\x00"),
    "half a character in a run": record_of(OLD, run_id="\ud800"),
    "map index": record_of(OLD, map_index=2**70),
}
RECORDS = {"old", "young", "recent", "other", "without a start"}


@pytest.fixture
def variables(airflow_database: None) -> Iterator[None]:
    """Store records, and what only looks like them."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    for name, value in VALUES.items():
        add_variable(f"{KEY_PREFIX}{name}", value)
    yield
    with create_session() as session:
        session.query(Variable).filter(Variable.key.startswith(KEY_PREFIX)).delete()


@pytest.mark.usefixtures("variables")
def test_command_deletes_only_old_records(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not a record may be needed by whoever wrote it."""
    assert main(["records", "--dag-id", "gone"]) == 1
    assert "4 Variables.\n" in capsys.readouterr().out

    assert main(["records", "--dag-id", "gone", "--older-than", "30d"]) == 1
    run = f"DAG run: deleted, ended {OLD:%Y-%m-%dT%H:%M:%S}+00:00"
    deleted = f"{KEY_PREFIX}old  ({run})\n1 Variables deleted.\n"
    assert capsys.readouterr().out == deleted
    assert own_keys() == VALUES.keys() - {"old"}

    assert main(["records", "--dag-id", "gone", "--older-than", "12h"]) == 1
    assert own_keys() == VALUES.keys() - {"old", "young"}


@pytest.mark.usefixtures("variables")
def test_what_is_no_record_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """
    The command goes on after it, says why it is none, and ends with the exit code 1.
    """
    assert main(["records", "--output", "json"]) == 1

    printed = capsys.readouterr()
    document = json.loads(printed.out)
    found = {each["key"].removeprefix(KEY_PREFIX) for each in document["records"]}
    assert found >= RECORDS
    problems = {
        each["key"].removeprefix(KEY_PREFIX): each["problem"]
        for each in document["unreadable"]
    }
    assert problems.keys() >= VALUES.keys() - RECORDS
    assert not problems.keys() & RECORDS
    assert problems["nested"] == "it is nested too deeply"
    assert problems["list"] == "it names no task"
    assert problems["NUL in a DAG"] == "it names a task that Airflow cannot have"
    for key in problems:
        assert f"error: the Variable {KEY_PREFIX}{key} holds no record: " in printed.err


def own_keys() -> set[str]:
    """Return which of the Variables are left. Other tests may have left some, too."""
    return {
        key.removeprefix(KEY_PREFIX) for key in variable_keys(KEY_PREFIX)
    } & VALUES.keys()


@pytest.mark.parametrize("age", ["30", "0d", "d", "30 d", "30m", "10000d", ""])
def test_invalid_age_is_named(age: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The error names the option, the value and what is valid, and nothing is deleted.
    """
    with pytest.raises(SystemExit) as raised:
        main(["records", "--older-than", age])

    assert raised.value.code == 2
    assert (
        f"argument --older-than: {age!r} is no age: give days or hours, such as 30d or 12h"
        in capsys.readouterr().err
    )
