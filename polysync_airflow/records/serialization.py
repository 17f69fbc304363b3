"""
The form in which records are stored: signed JSON.

Airflow's users can edit it. So a task believes only a record with its own signature
(``airflow_compat/signatures.py``), that its own deployment has written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from polysync_airflow.airflow_compat import signatures
from polysync_airflow.deployment import DEPLOYMENT_KEY
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json
from polysync_airflow.execution.lifecycle.instructions import (
    ExecutionRecord,
    Incarnation,
    TaskKey,
)
from polysync_airflow.get_provider_info import DEPLOYMENT
from polysync_airflow.records.keys import place_of, variable_key

TASK: Final = "task"
RECORD: Final = "record"
# What Airflow shows in place of a value that it masks.
_MASK: Final = "***"


def to_stored(record: ExecutionRecord, task: TaskKey) -> dict[str, Any]:
    """Return the JSON-able form of a record, signed if the deployment has a key."""
    values = record.without_values().model_dump(mode="json", exclude_none=True)
    keys = signatures.signing_keys()
    if not keys:
        return values
    return signatures.signed(values, task, keys[0])


def from_stored(value: Any, task: TaskKey, *, place: str) -> ExecutionRecord:
    """
    Return the record that a stored value holds.

    :param place: where the value is, and what a user must delete if it is refused.
    :raises StoredRecordError: the value is not a record of this task instance, or that
        is not proven.
    :raises PolysyncError: the deployment's key cannot be used.
    """
    values = value
    signature = None
    if isinstance(value, Mapping):
        values = dict(value)
        signature = values.pop(signatures.SIGNATURE, None)
    try:
        record = ExecutionRecord.model_validate(values)
    except ValidationError as error:
        problem = (
            _masked(values) or f"is damaged ({texts.describe_validation_error(error)})"
        )
        raise _refused(problem, place) from None
    keys = signatures.signing_keys()
    if not keys or signatures.is_genuine(values, signature, task, keys):
        return record
    problem = (
        "is not proven: its signature is not that of this task. Somebody edited it or"
        " copied it from another task, or [core] fernet_key was rotated, or is another"
        " one on the host that wrote it"
    )
    if signature is None:
        problem = (
            "is not proven: it has no signature. Somebody edited it, or [core]"
            " fernet_key was not set on the host that wrote it"
        )
    raise _refused(_masked(values) or problem, place, record, record.deployment)


def _masked(value: Any) -> str | None:
    """
    Return the problem of a record in which Airflow has masked values for a reader; None
    if it has masked none.

    It masks what sounds like a secret: the tokens, and all values of a DAG or task
    whose id has such a word.
    """
    members = []
    # Not by recursion: an XCom may be nested more deeply than Python's stack.
    pending = [("", value)]
    while pending:
        path, part = pending.pop()
        if isinstance(part, Mapping):
            pending += [(f"{path}.{name}", member) for name, member in part.items()]
        elif isinstance(part, str) and _MASK in part:
            members.append(texts.clean_line(path[1:], 64) or "the whole text")
    if not members:
        return None
    listed = ", ".join(texts.first_problems(sorted(members)))
    return (
        f"is damaged: it has {_MASK} in place of {listed}. Airflow's UI and REST API"
        " mask such values, and somebody has written back what they show; airflow"
        " variables export masks nothing"
    )


def _refused(
    problem: str,
    place: str,
    record: ExecutionRecord | None = None,
    deployment: str | None = None,
) -> StoredRecordError:
    problem = (
        "The record that earlier tries of this task stored about their execution"
        f" {problem}."
    )
    return StoredRecordError(
        f"{problem} Nothing was started, stopped or continued, because that execution"
        " may still be running. Look for it in the SageMaker console, and stop it"
        f" there if it is running. Then delete {place}, and clear the task.",
        problem=problem,
        record=record,
        deployment=deployment,
    )


def check_deployment(
    record: ExecutionRecord, deployment: str | None, *, place: str
) -> None:
    """
    Refuse a record that a task of another deployment wrote, for example one in a copy
    of its database. Its execution is neither continued nor stopped.

    :param deployment: the identity of this deployment; None if it has none, because its
        Variable was deleted. A copy of a database has the Variable.
    :raises StoredRecordError: the record is that of another deployment.
    """
    if deployment in (None, record.deployment):
        return
    section, option = DEPLOYMENT
    raise _refused(
        f"is that of another deployment of Airflow ({record.deployment}, and this one"
        f" is {deployment}). If it is that of this one, whose address or Variable"
        f" {DEPLOYMENT_KEY} has changed, set [{section}] {option} ="
        f" {record.deployment}",
        place,
        deployment=record.deployment,
    )


def to_variable(record: ExecutionRecord, task: TaskKey) -> str:
    """Return the text of the Variable that holds a record."""
    return json.dumps({TASK: asdict(task), RECORD: to_stored(record, task)})


def from_variable(text: str, task: TaskKey) -> ExecutionRecord:
    """
    Return the record that the text of a Variable holds.

    :raises StoredRecordError: the text holds no record of this task instance.
    """
    place = place_of(variable_key(task))
    try:
        value = read_json(text, "it")
    except UnreadableJsonError as error:
        raise _refused(_masked(text) or f"is damaged ({error})", place) from None
    record = value
    if isinstance(value, dict):
        record = value.get(RECORD)
    if record is None:
        # A Variable without a record in it is damaged, which is not the same as no
        # record.
        record = text
    return from_stored(record, task, place=place)


def task_in(text: str) -> TaskKey:
    """
    Return the task instance that the text of a Variable names for its record.

    :raises StoredRecordError: it holds no record of a task. The message says why.
    """
    try:
        value = read_json(text, "it")
        key = TaskKey(**value[TASK])
    except UnreadableJsonError as error:
        raise StoredRecordError(str(error)) from None
    except (KeyError, TypeError):
        raise StoredRecordError("it names no task") from None
    if not _may_exist(key):
        raise StoredRecordError("it names a task that Airflow cannot have")
    return key


def _may_exist(key: TaskKey) -> bool:
    """Return whether Airflow's database can be asked for a task instance."""
    for text in (key.dag_id, key.run_id, key.task_id):
        if not isinstance(text, str) or not texts.is_storable_text(text):
            return False
    return isinstance(key.map_index, int) and -1 <= key.map_index <= models.MAX_INTEGER


def dag_run_start_in(text: str) -> datetime | None:
    """
    Return when the DAG run had started that the text of a Variable names for its
    record; None if it names no time.
    """
    with suppress(ValidationError, KeyError, TypeError):
        incarnation = read_json(text, "it")[RECORD]["incarnation"]
        return Incarnation.model_validate(incarnation).dag_run_started_at
    return None
