"""
A record that nobody can prove, because it was edited, copied or invented, or because
the key was rotated.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.airflow_compat.signatures import signed, signing_keys
from polysync_airflow.exceptions import PipelineExecutionTimeoutError, StoredRecordError
from polysync_airflow.records.keys import RECORD_KEY
from polysync_airflow.records.serialization import from_stored
from tests.conftest import ARN
from tests.tasks import DagRun
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import MERGE_FAILS_ONCE, Task
from tests.unit.operators.recovery.records.test_damaged_records import RECORD
from tests.world import CHANGES, NEVER_ENDS, World

FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
KEY_A, KEY_B = "A" * 43 + "=", "B" * 42 + "A="
ROLE = "arn:aws:iam::123456789012:role/admin"
OTHER = ARN.replace("abcdefghijkl", "zzzzzzzzzzzz")


def of_request(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a record without an execution, whose request is another one."""
    request = {**record["request"], **changes}
    return {**record, "execution_arn": None, "request": request}


# What somebody has made of a record, by what he wants.
FORGED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "adopt another execution": lambda record: {**record, "execution_arn": OTHER},
    "start another pipeline": lambda record: of_request(
        record, pipeline_name="abalone", selected_steps=None, source_execution=None
    ),
    "send a role": lambda record: of_request(record, execution_role_arn=ROLE),
    "choose": lambda record: {**record, "clear_choice": {"on_clear": "resume"}},
    "number": lambda record: {**record, "signature": 7},
    "surrogate": lambda record: {**record, "signature": "\ud800"},
    "zeros": lambda record: {**record, "signature": "0" * 64},
    "no signature": lambda record: {**record, "signature": None},
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_forged_record_is_not_proven(
    forge: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """Whatever is changed in the record, its signature no longer fits."""
    key = Task().key
    record = signed(RECORD, key, signing_keys()[0])

    with pytest.raises(StoredRecordError, match="is not proven"):
        from_stored(forge(record), key, place="here")


def test_order_of_json_keys_is_ignored() -> None:
    """A record with its JSON keys in another order is the same record."""
    key = Task().key
    record = signed(RECORD, key, signing_keys()[0])
    reordered = {name: record[name] for name in reversed(record)}

    assert from_stored(reordered, key, place="here") == from_stored(
        record, key, place="here"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"dag_id": "another"},
        {"run_id": "manual__2026-01-02T00:00:00+00:00"},
        {"task_id": "another"},
        {"map_index": 3},
    ],
    ids=lambda other: next(iter(other)),
)
def test_record_of_another_task_starts_and_stops_nothing(
    other: dict[str, Any], make_task: MakeTask, world: World
) -> None:
    """
    A genuine record of another task's running execution: nothing is started beside it,
    and it is not stopped.
    """
    other_task = Task(make_task().deferrable, **other)
    other_task.crash_while_waiting(world.time)
    world.control.clear_calls()
    task = make_task()
    task.store.set(RECORD_KEY, other_task.last_record)

    run = task.next_try()

    assert isinstance(run.error, StoredRecordError)
    assert run.error.permanent
    assert "copied it from another task" in str(run.error)
    assert world.calls(*CHANGES) == []
    assert world.log.statuses == ["Executing"]
    assert task.record == other_task.last_record, (
        "a user needs it to find the execution"
    )


@pytest.mark.parametrize(
    ("clear", "statuses"),
    [(True, ["Stopped", "Succeeded"]), (False, ["Succeeded"])],
    ids=["clear, running", "retry, failed"],
)
def test_records_are_believed_after_a_key_rotation(
    clear: bool,
    statuses: list[str],
    make_task: MakeTask,
    world: World,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    After the three steps of a rotation, a clear a day later finds what it stops or
    resumes, as does a retry.
    """
    world.patch.setenv(FERNET_KEY, KEY_A)
    task = make_task(retry_mode="resume", on_clear="resume")
    if clear:
        task.crash_while_waiting(world.time)
    else:
        world.control.put_scenario(MERGE_FAILS_ONCE)
        task.next_try()
    world.patch.setenv(FERNET_KEY, KEY_B)
    if clear:
        task.clear()
        task.dag_run = DagRun(datetime(2026, 1, 5, tzinfo=UTC), clear_number=1)

    run = task.next_try()

    assert run.error is None
    assert "[core] fernet_key was rotated" in caplog.text
    assert world.log.statuses == statuses
    assert world.log.max_concurrent == 1


def test_deferred_execution_is_stopped_after_a_key_rotation(world: World) -> None:
    """
    Neither the record nor its copy is proven when the timeout has passed, but AWS says
    whose execution it is.
    """
    world.patch.setenv(FERNET_KEY, KEY_A)
    world.control.put_scenario(NEVER_ENDS)
    task = Task(True, {"timeout": 1000})
    world.time.after(500, lambda: world.patch.setenv(FERNET_KEY, KEY_B))

    run = task.next_try()
    world.control.advance(60)

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert world.log.statuses == ["Stopped"]
