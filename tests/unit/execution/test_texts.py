"""
Texts from AWS: whatever they contain, logs and databases accept what the provider makes
of them.
"""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.pipelines import DeclaredParameter
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.texts import (
    MAX_PROBLEMS,
    MAX_QUOTED,
    NameText,
    clean_line,
    clean_text,
    clean_value,
    describe_arguments,
    describe_validation_error,
    first_problems,
    shorten,
)
from tests.unit.execution.lifecycle.builders import ARN

# Characters that st.text() leaves out or rarely draws.
DANGEROUS = st.sampled_from(
    [
        *"\x00\n\r\x85\ud800\udfff\u061c\u200b\u2028\u202e\u2060\u2066\ufeff\U000e0041",
        *("\x1b[31m", "\r\n", "::", "##[", "end", "group::", "group]"),
    ]
)
# Nobody sees them, or they change the direction of a text. Others of the category Cf
# have a form.
INVISIBLE = [
    chr(code)
    for code in (0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x2028, 0x202F))
]
INVISIBLE += [
    chr(code) for code in (*range(0x2060, 0x2070), 0xFEFF, *range(0xE0000, 0xE0080))
]
texts = st.lists(st.text() | DANGEROUS, max_size=8).map("".join)


@given(texts, st.integers(3, 50))
def test_every_text_becomes_printable_and_short(text: str, length: int) -> None:
    """
    A cleaned text can be encoded, has no control character except tab and newline, and
    is not too long.
    """
    for cleaned in (
        clean_value(text, length),
        clean_text(text, length),
        clean_line(text, length),
    ):
        assert len(cleaned) <= length
        cleaned.encode()
        assert all(
            character in "\t\n"
            or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
            for character in cleaned
        )
        assert not set(INVISIBLE) & set(cleaned)


@given(texts)
def test_no_text_begins_a_line_or_a_group_of_a_log(text: str) -> None:
    """
    Each line but the first has the prefix, also if a text is cleaned twice; the log
    pane finds no marker.
    """
    cleaned = clean_text(text, 10_000)

    assert all(line.startswith("  | ") for line in cleaned.split("\n")[1:])
    assert clean_text(cleaned, 10_000) == cleaned
    assert "\n" not in clean_line(text)
    for shown in (cleaned, clean_line(text)):
        # What Airflow 2.11 and 3.3 look for.
        assert not re.search(r"(::|##\[)(end)?group(::|\])", shown)


def test_each_invisible_character_is_replaced() -> None:
    """Two names that look the same are the same."""
    for character in INVISIBLE:
        assert clean_value(f"a{character}b", 9) == "a\N{REPLACEMENT CHARACTER}b"


def test_ordinary_texts_stay_as_they_are() -> None:
    """Letters of all languages, tabs and, in data, newlines are kept."""
    for text in (
        "No data in s3://bucket/train",
        "Zeile 1\nZeile 2\tend",
        "データがありません",
        "🚀",
    ):
        assert clean_value(text, 100) == text
        assert clean_text(text) == text.replace("\n", "\n  | ")


def test_long_texts_are_cut_with_an_ellipsis() -> None:
    """A text of a megabyte becomes one of 500 characters."""
    cut = clean_text("x" * 1_000_000)

    assert len(cut) == MAX_QUOTED == 500
    assert cut.endswith("x...")


def test_reasons_are_cleaned_where_responses_become_models() -> None:
    """A NUL or half a surrogate pair in a reason does not get past the models."""
    execution = ExecutionDescription.model_validate(
        {
            "PipelineExecutionArn": ARN,
            "PipelineExecutionStatus": "Failed",
            "FailureReason": "a\x00b\ud800c",
        }
    )
    step = StepDescription.model_validate(
        {"StepName": "Train\x00", "StepStatus": "Failed", "FailureReason": "x" * 5000}
    )

    assert execution.failure_reason == "a\ufffdb\ufffdc"
    assert step.name == "Train\N{REPLACEMENT CHARACTER}"
    assert step.failure_reason
    assert len(step.failure_reason) == 1300


@pytest.mark.parametrize("status", ["", "Exec\x00uting", "x" * 65, "<html>", 5, None])
def test_status_that_is_no_word_makes_a_response_invalid(status: object) -> None:
    """A status that is not a word makes the whole response invalid."""
    with pytest.raises(ValidationError):
        ExecutionDescription.model_validate(
            {"PipelineExecutionArn": ARN, "PipelineExecutionStatus": status}
        )


@pytest.mark.parametrize(
    ("given", "default"),
    [
        ("5", "5"),
        (5, 5),
        (True, True),
        (0.5, 0.5),
        ("a\x00", "a\N{REPLACEMENT CHARACTER}"),
        (None, None),
    ],
)
def test_declared_defaults_keep_their_type(given: object, default: object) -> None:
    """Cleaning does not turn a text into a number, or a number into a text."""
    parameter = DeclaredParameter.model_validate(
        {"Name": "P", "Type": "String", "DefaultValue": given}
    )

    assert parameter.default == default
    assert type(parameter.default) is type(default)


def test_what_is_not_dangerous_stays_as_it_was_written() -> None:
    """What is not dangerous stays as it was written."""
    assert clean_value("a\r\nb\nc", 6) == "a\nb\nc"
    assert clean_value("abcdef", 6) == "abcdef"
    assert clean_value("abcdefg", 6) == "abc..."
    assert clean_text("a ::group::b") == "a : :group::b"
    assert TypeAdapter(NameText).validate_python("a\nb\x00") == "a b\ufffd"
    with pytest.raises(ValidationError):
        TypeAdapter(NameText).validate_python(7)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 60, repr("x" * 60)),
        ("x" * 61, f"{'x' * 60!r}... (61 characters)"),
        ("\x00" * 60, repr("\x00" * 60)[:120]),
        ({"a": 1}, "a dict of 1"),
        (10**5000, "a very large int"),
    ],
    ids=["longest", "too long", "long when quoted", "collection", "number"],
)
def test_values_are_shown_short(value: object, shown: str) -> None:
    """A message shows the size of what is large."""
    assert shorten(value) == shown


@pytest.mark.parametrize(("more", "counted"), [(0, []), (1, ["and 1 more"])])
def test_problems_beyond_the_first_are_counted(more: int, counted: list[str]) -> None:
    """A message lists the first ones, and how many there are beside them."""
    problems = [str(number) for number in range(MAX_PROBLEMS + more)]

    assert first_problems(problems) == problems[:MAX_PROBLEMS] + counted


def test_problems_of_pydantic_name_their_fields() -> None:
    """
    But not their values, which may be secret. That of a validator has its words only,
    without pydantic's "Value error".
    """

    class Inner(BaseModel):
        size: int

        @field_validator("size")
        @classmethod
        def _check(cls, size: int) -> int:
            raise ValueError("Give an even number.")

    class Outer(BaseModel):
        inner: Inner
        name: int

    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": {"size": "s3cret"}, "name": "s3cret"})
    described = describe_validation_error(caught.value)
    with pytest.raises(ValidationError) as whole:
        TypeAdapter(int).validate_python("s3cret")

    with pytest.raises(ValidationError) as odd:
        Inner.model_validate({"size": 1})

    problem = "Input should be a valid integer, unable to parse string as an integer"
    assert described == f"inner.size: {problem}; name: {problem}"
    assert describe_validation_error(odd.value) == "size: Give an even number."
    assert describe_validation_error(whole.value) == f"the whole value: {problem}"


def test_problems_of_arguments_name_value_and_cure() -> None:
    """Also those after a problem of the model as a whole, and of a value in a value."""

    class Arguments(BaseModel):
        sizes: dict[str, list[int]] = Field(description="Give lists of whole numbers.")
        name: int = 0

    whole = PydanticCustomError("value_error", "Value error, no such thing")
    error = ValidationError.from_exception_data(
        "Arguments",
        [
            {"type": whole, "loc": (), "input": 1},
            {"type": "int_parsing", "loc": ("sizes", "a", 1), "input": "x"},
            {"type": "int_parsing", "loc": ("name", "[key]"), "input": "y"},
        ],
    )

    problem = "Input should be a valid integer, unable to parse string as an integer"
    assert describe_arguments(Arguments, error).splitlines() == [
        "- no such thing.",
        f"- sizes['a']['1'] = 'x': {problem}. Give lists of whole numbers.",
        f"- name = 'y': {problem}.",
    ]
