"""
A damaged or deleted record: the execution is found in AWS, and nothing is started
beside it.
"""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest

from polysync_airflow.airflow_compat import supervisor
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord, TaskKey
from polysync_airflow.records.keys import RECORD_KEY, place_of, variable_key
from polysync_airflow.records.serialization import (
    from_stored,
    from_variable,
    to_variable,
)
from tests.conftest import ARN
from tests.tasks import DagRun
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import Task
from tests.world import World

ABSENT: Any = object()

RECORD: dict[str, Any] = {
    "version": 1,
    "deployment": "prod",
    "epoch": 2,
    "incarnation": {"dag_run_started_at": "2026-01-01T00:00:00Z", "clear_number": 0},
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
        "source_execution": ARN,
        "client_request_token": "polysync-00000000-0000-4000-8000-000000000000",
    },
    "execution_arn": ARN,
    "resumes": 1,
    "resume_token": "polysync-11111111-1111-4111-8111-111111111111",
    "resumed_at": "2026-01-01T00:00:00Z",
    "try_number": 2,
}
# Invalid values of each field; ABSENT if the field is required.
INVALID: dict[str, list[Any]] = {
    "version": [2, "one", None, [1]],
    "epoch": [ABSENT, None, -2, 1.5, "two", [2]],
    "incarnation": [ABSENT, None, "2026-01-01T00:00:00Z", {"clear_number": -1}],
    "region_name": [ABSENT, None, "", 7, ["us-east-1"]],
    "request": [ABSENT, None, "fanout", [], 7],
    "request.pipeline_name": [ABSENT, None, "", "no spaces", 7, "-x"],
    "request.pipeline_parameters": [None, ["Shards"], {"": "4"}, {"Shards": ""}],
    "request.execution_display_name": [ABSENT, None, "", "no spaces", 7],
    "request.execution_description": [7, ["x"], "x" * 3073],
    "request.max_parallel_steps": [0, -1, "two", 1.5],
    "request.execution_role_arn": ["me", 7, ""],
    "request.pipeline_version_id": [0, "latest", 1.5],
    "request.pipeline_version_alias": ["7", "", 7, "prod"],
    "request.selected_steps": [[], "Shard1", [7], ["A", "A"]],
    "request.source_execution": ["", "newest", 7, ARN.replace("fanout", "other")],
    "request.mlflow_experiment_name": ["", 7, "a\nb"],
    "request.client_request_token": [ABSENT, None, "", "short", 7],
    "execution_arn": ["", 7, ARN.replace("/execution", ""), f"{ARN}/more"],
    "resumes": [None, -1, 1.5, "twice"],
    "resume_token": ["", "short", 7],
    "resumed_at": ["yesterday", [], {}],
    "try_number": [ABSENT, None, -1, 1.5],
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


def refusal_of(value: Any) -> str:
    """Return the error about a value in the place of a record."""
    task = Task()

    with pytest.raises(StoredRecordError) as raised:
        from_stored(value, task.key, place=place_of(variable_key(task.key)))

    assert raised.value.permanent
    assert raised.value.record is None
    return str(raised.value)


def case_id(value: Any) -> str:
    """Return a short name of a value for the test id."""
    return "absent" if value is ABSENT else str(value)[:20]


@pytest.mark.parametrize(("field", "value"), CASES, ids=case_id)
def test_invalid_field_is_named(field: str, value: Any) -> None:
    """The error names the invalid field, and says where a person finds the record."""
    message = refusal_of(damaged(field, value))

    assert field in message.partition("(")[2]
    cure = "Look for it in the SageMaker console, and stop it there if it is running"
    assert cure in message
    place = f"the Variable {variable_key(Task().key)!r} under Admin > Variables"
    assert f"Then delete {place}" in message
    assert "clear the task" in message


@pytest.mark.parametrize(
    "value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)
def test_time_that_utc_cannot_express_is_damage(value: str) -> None:
    """A time that is out of range in UTC raises the usual error."""
    assert "resumed_at" in refusal_of(damaged("resumed_at", value))


@pytest.mark.parametrize(("field", "value"), [("resumes", 0), ("resume_token", None)])
def test_inconsistent_resume_fields_are_damage(field: str, value: Any) -> None:
    """
    A count without a token, or the reverse: the stop token would name the wrong
    attempt.
    """
    assert "resume" in refusal_of(damaged(field, value))


def read_and_written_back(text: str, key: str) -> str:
    """Return what Airflow's REST API shows of a Variable (VariableResponse)."""
    redact = import_module(supervisor._MASKER).redact
    return json.dumps(redact(json.loads(text), key))


@pytest.mark.parametrize(
    ("dag_id", "members"),
    [
        ("etl", "request.client_request_token, resume_token"),
        ("token_refresh", "deployment, execution_arn, incarnation.dag_run_started_at"),
    ],
)
def test_record_that_was_read_masked_and_written_back_is_recognised(
    dag_id: str, members: str
) -> None:
    """The error says who has masked what, and what does not mask."""
    key = TaskKey(dag_id, "run", "task", -1)
    text = to_variable(ExecutionRecord.model_validate(RECORD), key)
    assert from_variable(text, key).execution_arn == ARN

    with pytest.raises(StoredRecordError) as raised:
        from_variable(read_and_written_back(text, variable_key(key)), key)

    error = raised.value
    assert f"is damaged: it has *** in place of {members}" in error.problem
    assert "UI and REST API mask such values" in error.problem
    assert error.problem.endswith("airflow variables export masks nothing.")
    assert f"Then delete {place_of(variable_key(key))}" in str(error)


def test_mask_in_a_text_that_has_no_form_is_recognised() -> None:
    """Such a record is valid but for its signature; one of its own may have ***."""
    key = Task().key
    record = damaged("request.execution_description", "a *** b")
    text = to_variable(ExecutionRecord.model_validate(record), key)
    own = from_variable(text, key)

    with pytest.raises(StoredRecordError, match=r"in place of request\.execution_desc"):
        from_variable(text.replace("a ***", "***"), key)

    assert own.request.execution_description == "a *** b"


@pytest.mark.parametrize(
    ("clear", "statuses", "shards"),
    [(False, ["Succeeded"], "4"), (True, ["Stopped", "Succeeded"], "3")],
    ids=["retry", "clear"],
)
@pytest.mark.parametrize(
    "value", ["typed by a person", None], ids=["damaged", "deleted"]
)
def test_execution_is_found_without_its_record(
    value: str | None,
    clear: bool,
    statuses: list[str],
    shards: str,
    make_task: MakeTask,
    world: World,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    A retry reattaches to the execution, and a clear stops it first, also in a DAG run
    that has ended meanwhile.
    """
    task = make_task()
    task.crash_while_waiting(world.time, pipeline_parameters={"Shards": 4})
    if value is None:
        task.store.delete(RECORD_KEY)
    else:
        task.store.set(RECORD_KEY, value)
    if clear:
        task.clear()
        task.dag_run = DagRun(datetime(2026, 1, 5, tzinfo=UTC), clear_number=1)

    run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert world.log.statuses == statuses
    assert world.log.max_concurrent == 1
    assert ("is damaged" in caplog.text) is (value is not None)
    # The values that were sent, not those of this try.
    assert run.xcoms["run"]["parameters"]["Shards"] == shards
