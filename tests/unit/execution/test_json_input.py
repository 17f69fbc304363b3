"""JSON of others is read, or refused with one error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.execution.json_input import (
    MAX_DEPTH,
    UnreadableJsonError,
    is_larger,
    read_json,
)
from tests.fakes.evil_json import FOREIGN, UNREADABLE, nested_value


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_one_error(kind: str) -> None:
    """Its text names what was read, is short, and has no part of it."""
    content = UNREADABLE[kind]

    for given in (content, content.encode()):
        with pytest.raises(UnreadableJsonError) as caught:
            read_json(given, "the record")

        text = str(caught.value)
        assert text.startswith("the record ")
        assert len(text) < 200
        assert "person" not in text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[-1e999]", "^it has a number that is too large$"),
        ("9" * 5000, "^it is not JSON: Exceeds the limit"),
        (None, "^it is no text$"),
    ],
)
def test_error_says_why_a_text_cannot_be_read(content: Any, problem: str) -> None:
    """The reasons that ``json.loads`` has no, or another, error for are among them."""
    with pytest.raises(UnreadableJsonError, match=problem):
        read_json(content, "it")


@pytest.mark.parametrize("kind", FOREIGN)
def test_odd_but_valid_json_is_read(kind: str) -> None:
    """Also a NUL, half a surrogate pair, and an integer of more than 64 bits."""
    assert read_json(FOREIGN[kind], "it") == json.loads(FOREIGN[kind])


def test_depth_is_that_of_lists_and_objects() -> None:
    """The limit itself is allowed, and many lists beside each other are."""
    for content in ("[" * MAX_DEPTH + "]" * MAX_DEPTH, "[[]," * 50 + "1" + "]" * 50):
        assert read_json(content, "it") == json.loads(content)
    assert read_json(json.dumps([[]] * 1000), "it") == [[]] * 1000
    assert read_json('[{"a": []}]', "it", max_depth=3)
    with pytest.raises(UnreadableJsonError, match="nested too deeply"):
        read_json('[{"a": []}]', "it", max_depth=2)


@pytest.mark.parametrize("letter", ["a", "\N{EURO SIGN}", "\ud800"])
def test_limit_of_a_text_counts_bytes(letter: str) -> None:
    """A character has up to four of them."""
    content = f'"{letter * 10}"'
    size = len(content.encode("utf-8", "surrogatepass"))

    assert read_json(content, "it", max_bytes=size) == letter * 10
    with pytest.raises(UnreadableJsonError, match="more than"):
        read_json(content, "it", max_bytes=size - 1)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 100,
        ["x" * 50, {"x" * 50: None}],
        {"a": [[{"x" * 99: 1}]]},
        [None] * 100,
        {str(number): 1 for number in range(50)},
    ],
)
def test_size_of_a_decoded_value(value: Any) -> None:
    """It is counted by characters and members, whatever is inside of each other."""
    assert is_larger(value, 99)
    assert not is_larger(value, 200)


def test_nested_value_is_too_deep_for_python() -> None:
    """The tests of other doors get what Python cannot show."""
    with pytest.raises(RecursionError):
        repr(nested_value())
