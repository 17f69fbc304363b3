"""Tests of conditions and expressions."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_emulator.engine.conditions import outcome
from sagemaker_emulator.engine.expressions import (
    ExpressionError,
    Scope,
    Unknown,
    evaluate,
)

YES = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}
NO = {"Type": "Equals", "LeftValue": 1, "RightValue": 2}
UNKNOWN = {
    "Type": "Equals",
    "LeftValue": {"Get": "Steps.A.ModelArtifacts"},
    "RightValue": 2,
}


def compare(kind: str, left: Any, right: Any) -> dict[str, Any]:
    """Return a comparison."""
    return {"Type": kind, "LeftValue": left, "RightValue": right}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([compare("Equals", "a", "a")], True),
        ([compare("Equals", "a", "b")], False),
        ([compare("Equals", True, {"Get": "Parameters.Flag"})], True),
        ([compare("GreaterThan", 2, 2)], False),
        ([compare("GreaterThanOrEqualTo", 2, 2)], True),
        ([compare("LessThan", {"Get": "Parameters.Rate"}, 1)], True),
        ([compare("LessThanOrEqualTo", 2, 1)], False),
        ([{"Type": "In", "QueryValue": "b", "Values": ["a", "b"]}], True),
        ([{"Type": "In", "QueryValue": "c", "Values": ["a", "b"]}], False),
        ([{"Type": "Not", "Condition": YES}], False),
        ([{"Type": "Not", "Expression": NO}], True),
        ([{"Type": "Or", "Conditions": [NO, YES]}], True),
        ([{"Type": "Or", "Conditions": [NO, NO]}], False),
        ([{"Type": "And", "Conditions": [YES, YES]}], True),
        ([{"Type": "And", "Conditions": [NO, YES]}], False),
        ([YES, NO], False),
        ([], True),
        ([UNKNOWN], True),
        ([UNKNOWN, NO], False),
        ([{"Type": "Or", "Conditions": [UNKNOWN, YES]}], True),
        ([{"Type": "Not", "Condition": UNKNOWN}], True),
    ],
)
def test_condition_outcome(conditions: list[Any], expected: bool) -> None:
    """
    Each condition type evaluates as in AWS, and an unknown outcome counts as true.
    """
    assert (
        outcome(conditions, Scope(parameters={"Flag": True, "Rate": 0.5})) is expected
    )


@pytest.mark.parametrize(
    "condition",
    [compare("LessThan", "a", 1), compare("Resembles", 1, 1), {"LeftValue": 1}, "text"],
)
def test_invalid_condition_raises_expression_error(condition: Any) -> None:
    """A condition that cannot be evaluated is an error and does not count as true."""
    with pytest.raises(ExpressionError):
        outcome([condition], Scope())


@pytest.mark.parametrize("kind", ["Equals", "In", "Not"])
def test_missing_file_is_an_error(kind: str) -> None:
    """A condition on a file that no scenario has does not count as true."""
    source = {"Get": "Steps.S.PropertyFiles.F"}
    value = {"Std:JsonGet": {"PropertyFile": source, "Path": "a"}}
    condition = {
        "Equals": compare("Equals", value, 1),
        "In": {"Type": "In", "QueryValue": 1, "Values": [value]},
        "Not": {"Type": "Not", "Condition": compare("Equals", 1, value)},
    }[kind]
    with pytest.raises(ExpressionError, match=r"PropertyFiles.F:a .* does not exist"):
        outcome([condition], Scope(property_files={("S", "G"): {}}))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.b[1]", 2),
        ("$.a.b[0]", 1),
        ("['x y'].z", "deep"),
        ('["x y"]["z"]', "deep"),
        ("a['b'][1]", 2),
    ],
)
def test_json_paths(path: str, expected: Any) -> None:
    """JSON paths can be dotted, indexed and quoted."""
    scope = Scope(
        property_files={("S", "F"): {"a": {"b": [1, 2]}, "x y": {"z": "deep"}}}
    )
    expression = {
        "Std:JsonGet": {
            "PropertyFile": {"Get": "Steps.S.PropertyFiles.F"},
            "Path": path,
        }
    }
    assert evaluate(expression, scope) == expected


def test_join_formats_values_like_sagemaker() -> None:
    """
    A join writes booleans in lower case, and an unknown value as its reference. It is
    then unknown, too.
    """
    values = [True, 1.5, {"Get": "Execution.PipelineName"}, {"Get": "Steps.A.Arn"}]
    joined = evaluate(
        {"Std:Join": {"On": "-", "Values": values}},
        Scope(execution={"PipelineName": "P"}),
    )
    assert joined == Unknown("true-1.5-P-Steps.A.Arn")
    assert str(joined) == "true-1.5-P-Steps.A.Arn"


def test_step_property_is_unknown() -> None:
    """A property of a step has no value in the emulator."""
    assert evaluate({"Get": "Steps.A.ModelArtifacts"}, Scope()) == Unknown(
        "Steps.A.ModelArtifacts"
    )
