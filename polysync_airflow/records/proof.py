"""
Decides whether a record that was read back is one that this task has written.

With a Fernet key, the signature decides. Without one, everything that is stored in Airflow lies open, and the
shape of the record is all that can be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from polysync_airflow.airflow_compat.sdk import conf
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.lifecycle.identity import TaskKey
from polysync_airflow.execution.record import StoredExecution
from polysync_airflow.execution.texts import describe_validation_error
from polysync_airflow.get_provider_info import ACCEPT_UNSIGNED_RECORDS
from polysync_airflow.records.signature import SIGNATURE, is_genuine, signed, signing_keys

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
