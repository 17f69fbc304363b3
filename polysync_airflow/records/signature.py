"""
Signs the records that Airflow's users can edit, so that a task believes only what it has written itself.

The signature is an HMAC with Airflow's Fernet key, which users of the UI and of the REST API do not have. It
covers the task instance, so a record that was copied from another task fails the check.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final

from polysync_airflow.airflow_compat.sdk import conf

SIGNATURE: Final = "signature"
# Keeps this HMAC apart from every other use of the Fernet key.
_PURPOSE: Final = b"polysync_airflow: record of an execution, version 1\n"
_FERNET_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class TaskKey:
    """What identifies a task instance, in all of its tries."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, ti: Any) -> TaskKey:
        """
        Return the key of a task instance.

        :param ti: a task instance of Airflow, in any process.
        """
        map_index = -1 if ti.map_index is None else ti.map_index
        return cls(ti.dag_id, ti.run_id, ti.task_id, map_index)


def signing_keys() -> list[bytes]:
    """
    Return the keys of the deployment, the current one first; empty if it has no Fernet key.

    https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/fernet.html
    """
    setting = conf.get("core", "fernet_key", fallback="") or ""
    return [key for text in setting.split(",") if (key := _decoded(text.strip()))]


def signed(values: Mapping[str, Any], task: TaskKey, key: bytes) -> dict[str, Any]:
    """
    Return a record with its signature.

    :param values: the record, as JSON-able values.
    :param task: the task instance to which the record belongs.
    :param key: the current key.
    """
    return {**values, SIGNATURE: _digest(values, task, key)}


def is_genuine(values: Mapping[str, Any], signature: Any, task: TaskKey, keys: list[bytes]) -> bool:
    """
    Return whether a record was signed for a task instance, with one of the keys.

    :param values: the record without its signature.
    :param signature: the signature that was stored with it.
    :param task: the task instance that reads the record.
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


def _decoded(fernet_key: str) -> bytes | None:
    # Without a key, Airflow's SDK returns the placeholder of its configuration template.
    try:
        key = base64.urlsafe_b64decode(fernet_key)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _FERNET_KEY_BYTES else None
