"""A damaged record, for example edited by a user: nothing is started, and the error says how to repair it."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.records.proof import RECORD_KEY
from polysync_airflow.records.signature import signed, signing_keys
from polysync_airflow.records.store import variable_key
from tests.fakes.json_store import JsonStore
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.harness import CHANGES, MERGE_FAILS_ONCE, ExecutionLog, Task, calls, crash
from tests.tasks import EmulatedTime

Damage = Callable[[dict[str, Any]], Any]
ABSENT: Any = object()

EXECUTION = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"
RECORD: dict[str, Any] = {
    "version": 1,
    "epoch": 2,
    "region_name": "us-east-1",
    "request": {
        "pipeline_name": "fanout",
        "pipeline_parameters": {"Shards": "4"},
        "execution_display_name": "nightly",
        "execution_description": "Nightly",
        "max_parallel_steps": 2,
        "execution_role_arn": None,
        "pipeline_version_id": 1,
        "selected_steps": ["Shard1"],
        "source_execution": EXECUTION,
        "client_request_token": "polysync-00000000-0000-4000-8000-000000000000",
    },
    "execution_arn": EXECUTION,
    "resumes": 1,
    "resume_token": "polysync-11111111-1111-4111-8111-111111111111",
    "resumed_at": "2026-01-01T00:00:00Z",
}
# Invalid values of each field; ABSENT if the field is required.
INVALID: dict[str, list[Any]] = {
    "version": [2, "one", None, [1]],
    "epoch": [ABSENT, None, -2, 1.5, "two", [2]],
    "region_name": [ABSENT, None, "", 7, ["us-east-1"]],
    "request": [ABSENT, None, "fanout", [], 7],
    "request.pipeline_name": [ABSENT, None, "", "no spaces", 7, "-x"],
    "request.pipeline_parameters": [
        None,
        "Shards=4",
        ["Shards"],
        {"": "4"},
        {"Shards": ""},
        {"Shards": None},
    ],
    "request.execution_display_name": [ABSENT, None, "", "no spaces", 7],
    "request.execution_description": [7, ["x"], "x" * 3073],
    "request.max_parallel_steps": [0, -1, "two", 1.5],
    "request.execution_role_arn": ["me", 7, ""],
    "request.pipeline_version_id": [0, "latest", 1.5],
    "request.pipeline_version_alias": ["7", "", 7, "prod"],
    "request.selected_steps": [[], "Shard1", [7], ["A", "A"]],
    "request.source_execution": ["", "newest", 7, EXECUTION.replace("fanout", "other")],
    "request.mlflow_experiment_name": ["", 7, "a\nb"],
    "request.client_request_token": [ABSENT, None, "", "short", 7],
    "execution_arn": ["", "abc", 7, EXECUTION.replace("/execution", ""), f"{EXECUTION}/more", [EXECUTION]],
    "resumes": [None, -1, 1.5, "twice"],
    "resume_token": ["", "short", 7],
    "resumed_at": ["yesterday", [], {}],
    "surprise": [1],
    "request.surprise": [1],
}
CASES = [(field, value) for field, values in INVALID.items() for value in values]


def damaged(field: str, value: Any) -> dict[str, Any]:
    """Return the record with one field changed or removed."""
    record = deepcopy(RECORD)
    *path, name = field.split(".")
    part = record[path[0]] if path else record
    if value is ABSENT:
        del part[name]
    else:
        part[name] = value
    return record


def assert_refused(value: Any, task: Task, emulator: EmulatorServer) -> str:
    """Assert that a try with this record fails and changes nothing in AWS; return the error message."""
    task.store.set(RECORD_KEY, value)

    run = task.next_try()

    assert isinstance(run.error, StoredRecordError), value
    assert run.error.permanent
    assert calls(emulator, *CHANGES) == []
    assert task.record == value, "a user needs the damaged record to find the execution"
    return str(run.error)


def case_id(value: Any) -> str:
    """Return a short name of a value for the test id."""
    return "absent" if value is ABSENT else str(value)[:20]


@pytest.mark.parametrize(("field", "value"), CASES, ids=case_id)
def test_invalid_field_is_named_and_nothing_is_started(
    field: str, value: Any, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The error names the invalid field and says how to repair the record."""
    message = assert_refused(damaged(field, value), Task(), emulator)

    assert field in message.partition("(")[2]
    assert "Look for it in the SageMaker console, and stop it there if it is running" in message
    assert f"Then delete the Variable {variable_key(Task().key)!r} under Admin > Variables" in message
    assert "clear the task" in message


@pytest.mark.parametrize("value", [[], "polysync", 7, True, {}, [RECORD]], ids=str)
def test_other_value_under_the_key_is_refused(
    value: Any, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A value that is not a record at all is damage too, and no execution is started."""
    message = assert_refused(value, Task(), emulator)

    assert "the whole value" in message or "epoch: Field required" in message


@pytest.mark.parametrize("field", ["resumed_at"])
@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_time_that_utc_cannot_express_is_refused(
    field: str, value: str, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A time that is out of range in UTC raises the usual error."""
    assert field in assert_refused(damaged(field, value), Task(), emulator)


def test_inconsistent_resume_fields_are_refused(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A count without a token, or the reverse, is refused: the stop token would name the wrong attempt."""
    for field, value in (("resumes", 0), ("resume_token", None)):
        assert "resume" in assert_refused(damaged(field, value), Task(), emulator)


def test_damage_is_refused_after_a_clear(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A clear alone does not repair the record, because the old execution may still be running."""
    task = Task(deferrable)
    assert_refused(damaged("epoch", "two"), task, emulator)
    task.clear()

    assert_refused(damaged("epoch", "two"), task, emulator)


def test_deleting_the_key_and_clearing_repairs_the_task(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """After the steps that the error message names, the task runs again."""
    task = make_task()
    assert_refused(damaged("epoch", None), task, emulator)
    task.store.delete(RECORD_KEY)
    task.clear()

    assert task.next_try().error is None
    assert execution_log.statuses == ["Succeeded"]


def test_order_of_json_keys_is_ignored(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A record with its JSON keys in another order is the same record."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    task.next_try()
    emulated_time.after(100, crash)
    task.next_try()
    task.store.values[RECORD_KEY] = json.dumps(task.record, sort_keys=True)
    reordered = {key: task.record[key] for key in reversed(list(task.record))}
    assert reordered == task.record
    task.store.values[RECORD_KEY] = json.dumps(reordered)

    assert task.next_try().error is None
    assert execution_log.statuses == ["Succeeded"]


def test_record_contains_no_credentials(make_task: MakeTask) -> None:
    """The record holds no credentials, because every user who may read the task's state can read it."""
    task = make_task()

    task.next_try()

    assert "emulated-secret-key" not in json.dumps(task.record)
    assert "AKIAIOSFODNN7EXAMPLE" not in json.dumps(task.record)


def test_complete_record_is_valid(emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """The record that the tests above damage is itself valid."""
    task = Task(store=JsonStore())
    task.store.set(RECORD_KEY, signed(RECORD, task.key, signing_keys()[0]))

    assert task.next_try().error is None
