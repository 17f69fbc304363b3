"""A damaged record: people can edit it, so nothing is believed, nothing is started, and the cure is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.operators.record_store import STORE_KEY
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.histories import CHANGES, MERGE_FAILS_ONCE, Ledger, Task, calls, die
from tests.tasks import EmulatedTime, StateStore

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
        "client_request_token": "polysync-00000000-0000-4000-8000-000000000000",
    },
    "execution_arn": EXECUTION,
    "resumes": 1,
    "resume_token": "polysync-11111111-1111-4111-8111-111111111111",
    "resumed_at": "2026-01-01T00:00:00Z",
}
# What no edit may put there; ABSENT where the field must be given.
BAD: dict[str, list[Any]] = {
    "version": [2, "one", None, [1]],
    "epoch": [ABSENT, None, -1, 1.5, "two", [2]],
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
    "request.client_request_token": [ABSENT, None, "", "short", 7],
    "execution_arn": ["", "abc", 7, EXECUTION.replace("/execution", ""), f"{EXECUTION}/more", [EXECUTION]],
    "resumes": [None, -1, 1.5, "twice"],
    "resume_token": ["", "short", 7],
    "resumed_at": ["yesterday", [], {}],
    "surprise": [1],
    "request.surprise": [1],
}
CASES = [(field, value) for field, values in BAD.items() for value in values]


def damaged(field: str, value: Any) -> dict[str, Any]:
    """Return the record with one field as somebody left it."""
    record = deepcopy(RECORD)
    *path, name = field.split(".")
    part = record[path[0]] if path else record
    if value is ABSENT:
        del part[name]
    else:
        part[name] = value
    return record


def refuse(found: Any, task: Task, emulator: EmulatorServer) -> str:
    """Let a try find this; assert that it asks AWS for nothing that changes anything; return what it says."""
    task.store.set(STORE_KEY, found)

    run = task.next_try()

    assert isinstance(run.error, StoredRecordError), found
    assert run.error.permanent
    assert calls(emulator, *CHANGES) == []
    assert task.record == found, "what is found is evidence"
    return str(run.error)


def name(case: Any) -> str:
    """Return a short name of a value."""
    return "absent" if case is ABSENT else str(case)[:20]


@pytest.mark.parametrize(("field", "value"), CASES, ids=name)
def test_every_bad_field_is_named_and_nothing_is_started(
    field: str, value: Any, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Whatever a field is made into, the error names it, and says how to go on."""
    told = refuse(damaged(field, value), Task(), emulator)

    assert field in told.partition("(")[2]
    assert "look for it in the SageMaker console, and stop it there if it does" in told
    assert f"Then delete the key {STORE_KEY!r} on the tab Task State Store" in told
    assert "clear the task" in told


@pytest.mark.parametrize("found", [[], "polysync", 7, True, {}, [RECORD]], ids=str)
def test_what_is_no_record_at_all_is_refused(
    found: Any, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Anything else under our key is damage, too: not a reason to start."""
    told = refuse(found, Task(), emulator)

    assert "all of it" in told or "epoch: Field required" in told


@pytest.mark.parametrize("field", ["resumed_at"])
@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_beyond_the_calendar_is_damage(
    field: str, value: str, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Such a time cannot be told in UTC; the error is the usual one."""
    assert field in refuse(damaged(field, value), Task(), emulator)


def test_a_resume_that_does_not_add_up_is_damage(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A count without a token, or a token without a count, would stop the wrong attempt: it would not stop."""
    for field, value in (("resumes", 0), ("resume_token", None)):
        assert "resume" in refuse(damaged(field, value), Task(), emulator)


def test_damage_is_refused_in_a_new_epoch_and_in_both_modes(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A clear alone does not cure it: the old execution may run."""
    task = Task(deferrable)
    refuse(damaged("epoch", "two"), task, emulator)
    task.clear()

    refuse(damaged("epoch", "two"), task, emulator)


def test_deleting_the_key_and_clearing_is_the_cure(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """What the message says to do works."""
    task = make_task()
    refuse(damaged("epoch", None), task, emulator)
    task.store.delete(STORE_KEY)
    task.clear()

    assert task.next_try().error is None
    assert ledger.statuses == ["Succeeded"]


def test_the_order_of_keys_means_nothing(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Databases and people reorder JSON: the same record is the same record."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    task.next_try()
    emulated_time.after(100, die)
    task.next_try()
    task.store.values[STORE_KEY] = json.dumps(task.record, sort_keys=True)
    reordered = {key: task.record[key] for key in reversed(list(task.record))}
    assert reordered == task.record
    task.store.values[STORE_KEY] = json.dumps(reordered)

    assert task.next_try().error is None
    assert ledger.statuses == ["Succeeded"]


def test_no_secret_is_in_the_record(make_task: MakeTask) -> None:
    """Everybody who may read the task's state may read it: it holds a request and names, no credentials."""
    task = make_task()

    task.next_try()

    assert "emulated-secret-key" not in json.dumps(task.record)
    assert "AKIAIOSFODNN7EXAMPLE" not in json.dumps(task.record)


def test_a_record_with_everything_is_a_good_one(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The ground on which each case above changes one thing."""
    task = Task(store=StateStore())
    task.store.set(STORE_KEY, RECORD)

    assert task.next_try().error is None
