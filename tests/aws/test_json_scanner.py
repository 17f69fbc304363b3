"""The JSON scanner: what it reads is what the json module reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync_airflow.aws.service_models import JsonScanner

white_space = st.text(" \t\r\n", max_size=3)
texts = st.text() | st.sampled_from(['"', "\\", "\\u00e9", "}{][,:", "\u2028", "\x00", "😀"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=20,
)


@st.composite
def json_texts(draw: Callable[[st.SearchStrategy[Any]], Any]) -> str:
    """JSON with random white space around each token, and with or without escapes for non-ASCII characters."""
    ensure_ascii = draw(st.booleans())

    def write(value: Any) -> str:
        if isinstance(value, dict):
            members = (f"{write(name)}:{write(member)}" for name, member in value.items())
            text = f"{{{draw(white_space)}{','.join(members)}}}"
        elif isinstance(value, list):
            text = f"[{draw(white_space)}{','.join(map(write, value))}]"
        else:
            text = json.dumps(value, ensure_ascii=ensure_ascii)
        return f"{draw(white_space)}{text}{draw(white_space)}"

    return write(draw(values))


def read_all(scanner: JsonScanner, expected: Any) -> Any:
    """Read a value member by member; ``expected`` shows where objects and arrays are."""
    if isinstance(expected, dict):
        return {name: read_all(scanner, expected[name]) for name in scanner.members()}
    if isinstance(expected, list):
        return [read_all(scanner, item) for item, _ in zip(expected, scanner.items(), strict=True)]
    return scanner.value()


@given(json_texts())
def test_scanner_reads_what_json_loads_reads(text: str) -> None:
    """Any JSON, read as a whole or member by member, has the same value and the same order of members."""
    expected = json.loads(text)

    assert JsonScanner(text).value() == expected
    assert json.dumps(read_all(JsonScanner(text), expected)) == json.dumps(expected)


@given(json_texts(), st.sets(st.integers(0, 3)))
def test_skipped_parts_can_be_read_later(text: str, skipped: set[int]) -> None:
    """Skipping a member or an item does not change the others, and ``value_at`` reads it afterwards."""
    expected = json.loads(text)
    if not isinstance(expected, (dict, list)):
        return
    scanner = JsonScanner(text)
    names = list(expected) if isinstance(expected, dict) else range(len(expected))
    read: dict[Any, Any] = {}
    positions: dict[Any, int] = {}

    for number, _ in enumerate(scanner.members() if isinstance(expected, dict) else scanner.items()):
        if number in skipped:
            positions[names[number]] = scanner.skip()
        else:
            read[names[number]] = scanner.value()
    read |= {name: scanner.value_at(position) for name, position in positions.items()}

    assert len(read) == len(expected)
    assert all(read[name] == expected[name] for name in names)


@pytest.mark.parametrize("text", ["{}", "[]", " { } ", "\n[\t]\r\n", '{"a": {}, "b": [], "c": [[], {}]}'])
def test_scanner_reads_empty_objects_and_arrays(text: str) -> None:
    """Empty objects and arrays, also nested and with white space inside, are empty."""
    expected = json.loads(text)

    assert read_all(JsonScanner(text), expected) == expected


@pytest.mark.parametrize(("text", "method"), [("[1]", "members"), ("{}", "items"), (" 1", "members")])
def test_scanner_refuses_another_type(text: str, method: str) -> None:
    """Reading an array as an object, or the reverse, is an error with the position."""
    with pytest.raises(ValueError, match=r"position \d of the JSON text: expected [{\[]"):
        list(getattr(JsonScanner(text), method)())
