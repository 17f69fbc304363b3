"""
Property files: which are read, where they are, and what a database accepts of them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.execution.pipelines import (
    PropertyFile,
    declared_steps,
    step_named,
)
from polysync_airflow.execution.results import (
    MAX_BYTES,
    MAX_DEPTH,
    files_to_read,
    missing_names,
    parse,
    uri_of,
)

EVAL = PropertyFile("Eval", "report", "evaluation.json")


def entry(**members: Any) -> dict[str, Any]:
    """Return a property file of a definition."""
    file = {
        "PropertyFileName": "Eval",
        "OutputName": "report",
        "FilePath": "evaluation.json",
    }
    return {**file, **members}


@pytest.mark.parametrize(
    ("value", "files"),
    [
        ([entry(), entry(FilePath=""), "x", entry(OutputName=5), {}], [EVAL]),
        ({"a": 1}, []),
        (None, []),
        ([entry()] * 1000, [EVAL] * 50),
    ],
    ids=["one valid", "object", "none", "too many"],
)
def test_declared_files_that_are_not_valid_are_left_out(value: Any, files: Any) -> None:
    """Entries that are not valid are left out, and so are those beyond the limit."""
    definition = json.dumps({"Steps": [{"Name": "Evaluate", "PropertyFiles": value}]})

    (step,) = declared_steps(definition)

    assert step.property_files == files


def test_files_of_all_branches_are_found_by_name() -> None:
    """A list of names selects them wherever they are declared."""
    branch = {
        "Name": "Compare",
        "PropertyFiles": [entry(PropertyFileName="Bias"), entry()],
    }
    condition = {
        "Name": "If",
        "Type": "Condition",
        "Arguments": {"IfSteps": [branch], "ElseSteps": []},
    }
    steps = declared_steps(json.dumps({"Steps": [{"Name": "Train"}, condition]}))

    compare = step_named("Compare", steps)
    assert [file.name for file in files_to_read(compare, True)] == ["Bias", "Eval"]
    assert files_to_read(compare, ["Eval"]) == [EVAL]
    assert (
        files_to_read(compare, ["Evil"])
        == files_to_read(step_named("Train", steps), True)
        == []
    )
    assert missing_names(steps, ["Eval", "Evil"]) == ["Evil"]
    assert missing_names(steps, True) == []


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("Score-0", [EVAL]),
        ("Score-12", [EVAL]),
        ("Score", []),
        ("Score-x", []),
        ("Score-0-1", []),
        ("Loop", []),
        ("Report-1", []),
    ],
)
def test_files_of_a_loop_are_of_its_body(name: str, files: list[PropertyFile]) -> None:
    """
    AWS lists a step of the body for each item. A step beside the loop may have such a
    name, too.
    """
    body = [
        {"Name": "Score", "Type": "Processing", "PropertyFiles": [entry()]},
        {"Name": 7},
    ]
    loop = {"Name": "Loop", "Type": "ForEach", "Arguments": {"ForEachBody": body}}
    report = {"Name": "Report-0", "PropertyFiles": [entry(PropertyFileName="Other")]}
    steps = declared_steps(json.dumps({"Steps": [loop, report]}))

    assert files_to_read(step_named(name, steps), True) == files
    assert missing_names(steps, ["Eval"]) == []


def test_place_of_a_file_has_no_repeated_slashes() -> None:
    """Slashes do not repeat."""
    assert uri_of(EVAL, {"report": "s3://b/x/"}) == uri_of(EVAL, {"report": "s3://b/x"})
    file = EVAL._replace(path="/a/b.json")
    assert uri_of(file, {"report": "s3://b"}) == "s3://b/a/b.json"
    file = EVAL._replace(path="X.json")
    assert uri_of(file, {"report": "s3://b/X"}) == "s3://b/X/X.json"
    assert uri_of(EVAL, {"model": "s3://b"}) is None


def nested(depth: int) -> bytes:
    """Return lists in lists."""
    return b"[" * depth + b"]" * depth


def test_file_that_no_database_stores_is_refused() -> None:
    """The error says what is wrong with it."""
    for content, problem in (
        (b"", "it is not JSON"),
        (b'{"auc": NaN}', "it is not JSON: NaN is no number of JSON"),
        (nested(MAX_DEPTH + 1), "it is nested too deeply"),
        (b'"' + b"x" * (MAX_BYTES - 1) + b'"', "it has more than 262,144 bytes"),
    ):
        with pytest.raises(ValueError, match=problem):
            parse(content)


def test_valid_file_is_cleaned_and_not_cut() -> None:
    """Texts and keys are cleaned, and nothing is cut."""
    assert parse(nested(MAX_DEPTH))
    assert len(parse(b'"' + b"x" * (MAX_BYTES - 2) + b'"')) == MAX_BYTES - 2
    assert parse(b'{"a\\u0000": ["\\ud800", 1, 0.5, true, null]}') == {
        "a\N{REPLACEMENT CHARACTER}": ["\N{REPLACEMENT CHARACTER}", 1, 0.5, True, None]
    }
