"""Conditions and expressions."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.emulator.engine.conditions import outcome
from polysync_airflow.emulator.engine.expressions import ExpressionError, Scope, Unknown, evaluate

YES = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}
NO = {"Type": "Equals", "LeftValue": 1, "RightValue": 2}
OPEN = {"Type": "Equals", "LeftValue": {"Get": "Steps.A.ModelArtifacts"}, "RightValue": 2}


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
        ([OPEN], True),
        ([OPEN, NO], False),
        ([{"Type": "Or", "Conditions": [OPEN, YES]}], True),
        ([{"Type": "Not", "Condition": OPEN}], True),
    ],
)
def test_outcome(conditions: list[Any], expected: bool) -> None:
    """Each type of condition has AWS's meaning, and what stays open is true."""
    assert outcome(conditions, Scope(parameters={"Flag": True, "Rate": 0.5})) is expected


@pytest.mark.parametrize(
    "condition", [compare("LessThan", "a", 1), compare("Resembles", 1, 1), {"LeftValue": 1}, "text"]
)
def test_nonsense_is_an_error(condition: Any) -> None:
    """A condition that cannot be decided fails its step instead of being true."""
    with pytest.raises(ExpressionError):
        outcome([condition], Scope())


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a.b[1]", 2), ("$.a.b[0]", 1), ("['x y'].z", "deep"), ('["x y"]["z"]', "deep"), ("a['b'][1]", 2)],
)
def test_json_paths(path: str, expected: Any) -> None:
    """Property files are read by dotted, indexed and quoted paths."""
    scope = Scope(property_files={("S", "F"): {"a": {"b": [1, 2]}, "x y": {"z": "deep"}}})
    expression = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.S.PropertyFiles.F"}, "Path": path}}
    assert evaluate(expression, scope) == expected


def test_join_writes_values_as_sagemaker_does() -> None:
    """A join writes booleans in lower case and an unknown value as its reference."""
    values = [True, 1.5, {"Get": "Execution.PipelineName"}, {"Get": "Steps.A.Arn"}]
    joined = evaluate({"Std:Join": {"On": "-", "Values": values}}, Scope(execution={"PipelineName": "P"}))
    assert joined == "true-1.5-P-Steps.A.Arn"


def test_what_no_job_made_is_unknown() -> None:
    """A step's property has no value in the emulator."""
    assert evaluate({"Get": "Steps.A.ModelArtifacts"}, Scope()) == Unknown("Steps.A.ModelArtifacts")
