"""
What somebody may write where the provider expects JSON of its own: no reader may fail
with another error than its own.
"""

from __future__ import annotations

from typing import Any, Final

from polysync_airflow.execution.json_input import MAX_BYTES, MAX_DEPTH

# Python's own reader raises a RecursionError.
NESTED: Final = "[" * 3000 + "]" * 3000
# What is no JSON, or more of it than anybody needs, by what is wrong with it.
UNREADABLE: Final[dict[str, str]] = {
    "nested": NESTED,
    "without end": "[" * 100_000,
    "nested objects": '{"a":' * 3000 + "1" + "}" * 3000,
    "one level too many": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "huge": '"' + "x" * MAX_BYTES + '"',
    "digits": "9" * 5000,
    "NaN": '{"epoch": NaN}',
    "infinite": '{"epoch": 1e999}',
    "empty": "",
    "NUL": "\x00",
    "text": "typed by a person",
}
# JSON that is none of ours.
FOREIGN: Final[dict[str, str]] = {
    "null": "null",
    "list": '["\\ud800", "\\u0000"]',
    "number": str(2**70),
    "surrogates": '{"record": "\\ud800", "task": "\\ud800", "\\ud800": "\\udfff"}',
    "NULs": '{"record": {"\\u0000": "\\u0000"}, "task": {"dag_id": "\\u0000"}}',
    "wrong types": '{"record": [1], "task": ["a"], "Steps": 1, "region_name": {}}',
}
EVIL: Final = {**UNREADABLE, **FOREIGN}


def nested_value(depth: int = 3000) -> Any:
    """Return lists and objects in each other, as a decoder returns them."""
    value: Any = None
    for _ in range(depth // 2):
        value = {"a": [value]}
    return value
