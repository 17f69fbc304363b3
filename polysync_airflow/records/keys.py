"""Where records are stored: the keys of their Variables, and that of their XCom."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from typing import Final

from polysync_airflow.execution.lifecycle.instructions import TaskKey

# Running tasks have stored their record under this key. With another one, their next
# try would not find the record and would start a second execution.
RECORD_KEY: Final = "polysync_execution"
KEY_PREFIX: Final = f"{RECORD_KEY}."
# The key of a Variable has at most 250 characters.
_READABLE_CHARACTERS: Final = 200


def variable_key(task: TaskKey) -> str:
    """
    Return the key of the Variable of a task instance:
    ``polysync_execution.<dag>.<task>.<map>.<run>.<hash>``.

    Secrets backends are asked for the key too. It has only characters that those of AWS
    allow.
    """
    parts = [task.dag_id, task.task_id, task.run_id]
    if task.map_index >= 0:
        parts.insert(2, str(task.map_index))
    content = json.dumps(asdict(task), sort_keys=True)
    unique = hashlib.sha256(content.encode()).hexdigest()[:16]
    return f"{KEY_PREFIX}{_readable(*parts)}.{unique}"


def dag_prefix(dag_id: str) -> str:
    """
    Return how the keys of the Variables of a DAG begin. So do the keys of a DAG whose
    id begins with ``<dag>.``.
    """
    return f"{KEY_PREFIX}{_readable(dag_id, '')}"


def _readable(*parts: str) -> str:
    text = re.sub(r"[^A-Za-z0-9_.-]+", "_", ".".join(parts))
    return text[:_READABLE_CHARACTERS]


def place_of(key: str) -> str:
    """Return where a user finds a record, and deletes it."""
    return f"the Variable {key!r} under Admin > Variables"
