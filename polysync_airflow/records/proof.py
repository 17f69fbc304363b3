"""
Signs the records that Airflow's users can edit, so that a task believes only what it has written itself.

The signature is an HMAC with Airflow's Fernet key, which users of the UI and of the REST API do not have. It
covers the task instance, so a record that was copied from another task fails the check.

Without a key, everything that is stored in Airflow lies open, and the shape of the record is all that can be
checked.

The copy of a record in the XComs is for processes that cannot read the record store.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import astuple
from functools import cache
from typing import Any, Final

from airflow.providers.common.compat.sdk import Context, conf
from pydantic import ValidationError

from polysync_airflow.airflow_compat.task_instances import is_start_planned, read_incarnation
from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.instructions import StoredExecution, TaskKey
from polysync_airflow.execution.texts import describe_validation_error
from polysync_airflow.get_provider_info import ACCEPT_UNSIGNED_RECORDS

log = logging.getLogger(__name__)

SIGNATURE: Final = "signature"
# Keeps this HMAC apart from every other use of the Fernet key.
_PURPOSE: Final = b"polysync_airflow: record of an execution, version 1\n"
_MARK_PURPOSE: Final = b"polysync_airflow: name of an execution, version 1\n"
_FERNET_KEY_BYTES: Final = 32
# What Airflow's SDK returns if no key is set: the default of its configuration template, not filled in.
_NO_KEY: Final = ("", "{FERNET_KEY}")


def signing_keys() -> list[bytes]:
    """
    Return the keys of the deployment, the current one first; empty if it has no Fernet key.

    https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/fernet.html

    :raises PolysyncError: a key is set, but is not a Fernet key.
    """
    setting = (conf.get("core", "fernet_key", fallback="") or "").strip()
    if setting in _NO_KEY:
        warn_of_no_key()
        return []
    return [_decoded(text) for text in setting.split(",")]


@cache
def warn_of_no_key() -> None:
    """Warn once in each process that records are not signed."""
    log.warning(
        "No [core] fernet_key is set, so the records of executions have no signature. Whoever may edit "
        "Variables or XComs decides which execution a retry continues or stops. Set [core] fernet_key to the "
        "same key on all hosts."
    )


def signed(values: Mapping[str, Any], task: TaskKey, key: bytes) -> dict[str, Any]:
    """Return a record with its signature."""
    return {**values, SIGNATURE: _digest(values, task, key)}


def task_marks(task: TaskKey) -> tuple[str, ...]:
    """
    Return what tells the executions of a task instance from those of the same one in another deployment.

    :return: a mark for each key of the deployment, the current one first; empty if it has no key.
    :raises PolysyncError: a key is set, but is not a Fernet key.
    """
    content = _MARK_PURPOSE + json.dumps(astuple(task)).encode()
    return tuple(instructions.task_mark(hmac.digest(key, content, "sha256").hex()) for key in signing_keys())


def is_genuine(values: Mapping[str, Any], signature: Any, task: TaskKey, keys: list[bytes]) -> bool:
    """
    Return whether a record was signed for a task instance, with one of the keys.

    :param values: the record without its signature.
    :param keys: the keys of the deployment. After a rotation, older ones are valid too.
    """
    if not isinstance(signature, str):
        return False
    return any(
        hmac.compare_digest(_digest(values, task, key).encode(), signature.encode(errors="replace"))
        for key in keys
    )


def _digest(values: Mapping[str, Any], task: TaskKey, key: bytes) -> str:
    # Airflow's database may return the members in another order.
    content = json.dumps({"task": astuple(task), "record": values}, sort_keys=True)
    return hmac.digest(key, _PURPOSE + content.encode(), "sha256").hex()


def _decoded(fernet_key: str) -> bytes:
    try:
        key = base64.urlsafe_b64decode(fernet_key.strip())
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _FERNET_KEY_BYTES:
        # Never the key itself.
        raise PolysyncError(
            "[core] fernet_key is set, but cannot be used: each key in it must be 32 bytes in URL-safe "
            "base64. Correct it on all hosts, or leave it empty."
        )
    return key


# Running tasks have stored their record under this key, and its copy under the same XCom key. With another
# key, their next try would not find the record and would start a second execution.
RECORD_KEY: Final = "polysync_execution"


def to_stored(record: StoredExecution, task: TaskKey) -> dict[str, Any]:
    """Return the JSON-able form of a record, signed if the deployment has a key."""
    # An earlier version refuses a field that it does not know, so only what is set is stored.
    values = record.model_dump(mode="json", exclude_none=True)
    keys = signing_keys()
    return signed(values, task, keys[0]) if keys else values


def from_stored(value: Any, task: TaskKey, *, place: str) -> StoredExecution:
    """
    Return the record that a stored value holds.

    :param place: where the value is, and what a user must delete if it is refused.
    :raises StoredRecordError: the value is not a record of this task instance, or that is not proven.
    :raises PolysyncError: the deployment's key cannot be used.
    """
    values = dict(value) if isinstance(value, Mapping) else value
    signature = values.pop(SIGNATURE, None) if isinstance(values, dict) else None
    try:
        record = StoredExecution.model_validate(values)
    except ValidationError as error:
        problems = describe_validation_error(error)
        raise _refused(f"is damaged ({problems})", place) from None
    keys = signing_keys()
    is_accepted = not keys or (
        signature is None and conf.getboolean(*ACCEPT_UNSIGNED_RECORDS, fallback=False)
    )
    if not is_accepted and not is_genuine(values, signature, task, keys):
        raise _refused(f"is not proven: {_why_not_genuine(signature)}", place, record)
    return record


def _why_not_genuine(signature: Any) -> str:
    if signature is None:
        section, option = ACCEPT_UNSIGNED_RECORDS
        return (
            "it has no signature. Somebody edited it, or an earlier version of this provider wrote it (then "
            f"set [{section}] {option} = True until the tasks of that version have ended)"
        )
    return (
        "its signature is not that of this task. Somebody edited it or copied it from another task, or "
        "[core] fernet_key was rotated, or is another one on the host that wrote it"
    )


def _refused(problem: str, place: str, record: StoredExecution | None = None) -> StoredRecordError:
    problem = f"The record that earlier tries of this task stored about their execution {problem}."
    return StoredRecordError(
        f"{problem} Nothing was started, stopped or continued, because that execution may still be running. "
        "Look for it in the SageMaker console, and stop it there if it is running. Then delete "
        f"{place}, and clear the task.",
        problem=problem,
        record=record,
    )


# A field of the copy. A try that has not written a record has only this one.
TRY_NUMBER: Final = "try_number"


def pull_copy(ti: Any) -> StoredExecution | None:
    """
    Return the record in the XComs of a task instance; None if there is none, or if it is not proven.

    :param ti: the task instance, on a worker or in the DAG processor.
    """
    return proven_copy(pull(ti), ti)


def number_in(value: Any) -> int:
    """Return the number of the try that has pushed a copy, or its number in place of it; 0 if nobody has."""
    number = value.get(TRY_NUMBER) if isinstance(value, Mapping) else None
    return number if isinstance(number, int) else 0


def proven_copy(value: Any, ti: Any) -> StoredExecution | None:
    """Return the record that an XCom holds; None if it holds none, or if it is not proven."""
    if value is None or (isinstance(value, Mapping) and value.keys() == {TRY_NUMBER}):
        return None
    try:
        return from_stored(value, TaskKey.of(ti), place=f"the XCom {RECORD_KEY!r}")
    except StoredRecordError as error:
        log.warning("XCom %r is ignored: %s", RECORD_KEY, error)
        return None


def pull(ti: Any) -> Any:
    """Return the XCom that holds the copy, or the number of the try; None if there is none."""
    return ti.xcom_pull(task_ids=ti.task_id, key=RECORD_KEY, map_indexes=ti.map_index)


def task_identity(context: Context) -> instructions.TaskIdentity:
    """
    Return the identity of a task instance. For a worker.

    :raises PolysyncError: the deployment's Fernet key cannot be used.
    """
    key = TaskKey.of(context["ti"])
    incarnation = instructions.Incarnation.model_validate(read_incarnation(context))
    # A test run begins at its date, also the next time: it must not get the execution of the last time.
    nonce = uuid.uuid4().hex if is_start_planned(context) else ""
    return instructions.TaskIdentity(key, incarnation, task_marks(key), nonce)
