"""
JSON values by key: the Variable of a simulated task, or the task state store of Airflow
3.3.
"""

from __future__ import annotations

import json
from typing import Any


class JsonStore:
    """Keeps values as JSON text, which all tries of a task reach, also after clears."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.deleted: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        """Return a value; None if there is none."""
        return json.loads(self.values[key]) if key in self.values else None

    def set(self, key: str, value: Any) -> None:
        """Store a value; only JSON can be stored."""
        self.values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        """Delete a value, which is then in ``deleted``."""
        if key in self.values:
            self.deleted[key] = json.loads(self.values.pop(key))
