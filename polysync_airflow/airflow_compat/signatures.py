"""
The signatures of records.

A signature is an HMAC with Airflow's Fernet key, which users of the UI and of the REST
API do not have. It covers the task instance, so a record that was copied from another
task fails the check. Without a key, everything that is stored in Airflow lies open, and
the shape of the record is all that can be checked.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
from collections.abc import Mapping
from dataclasses import astuple
from functools import cache
from typing import Any, Final

from airflow.providers.common.compat.sdk import conf

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.lifecycle.instructions import TaskKey

log = logging.getLogger(__name__)

# The member of a record that has its signature.
SIGNATURE: Final = "signature"
# Keeps this HMAC apart from every other use of the Fernet key.
_PURPOSE: Final = b"polysync_airflow: record of an execution, version 1\n"
_FERNET_KEY_BYTES: Final = 32
# What Airflow's SDK returns if no key is set: the default of its configuration
# template, not filled in.
_NO_KEY: Final = ("", "{FERNET_KEY}")


def signing_keys() -> list[bytes]:
    """
    Return the keys of the deployment, the current one first; empty if it has no Fernet
    key.

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
        "No [core] fernet_key is set, so the records of executions have no signature."
        " Whoever may edit Variables decides which execution a retry continues or"
        " stops. Set [core] fernet_key to the same key on all hosts."
    )


def signed(values: Mapping[str, Any], task: TaskKey, key: bytes) -> dict[str, Any]:
    """Return a record with its signature."""
    return {**values, SIGNATURE: _digest(values, task, key)}


def is_genuine(
    values: Mapping[str, Any], signature: Any, task: TaskKey, keys: list[bytes]
) -> bool:
    """
    Return whether a record was signed for a task instance, with one of the keys.

    :param values: the record without its signature.
    :param keys: the keys of the deployment. After a rotation, older ones are valid too.
    """
    if not isinstance(signature, str):
        return False
    given = signature.encode(errors="replace")
    for key in keys:
        if hmac.compare_digest(_digest(values, task, key).encode(), given):
            return True
    return False


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
            "[core] fernet_key is set, but cannot be used: each key in it must be 32"
            " bytes in URL-safe base64. Correct it on all hosts, or leave it empty."
        )
    return key
