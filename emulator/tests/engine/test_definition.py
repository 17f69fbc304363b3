"""Tests of the parser of pipeline definitions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.session import get_session

from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.definition import DefinitionError, parse
from sagemaker_emulator.engine.durations import DEFAULTS
from tests.builders import condition, fail


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"Steps": [NaN]}', "NaN is no number"),
        ('{"Steps": [1e999]}', "1e999 is no number"),
        (f'{{"Steps": [{"9" * 5000}]}}', "not JSON"),
        ('{"Steps": ["\\ud800"]}', "not JSON"),
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("{}", "'Steps'"),
        ('{"Steps": []}', "'Steps'"),
        (definition({"Name": "A"}), "no 'Type'"),
        (
            definition(step("A", "Trainning")),
            "Value 'Trainning' for 'StepType' failed to satisfy enum value",
        ),
        (definition(step("A", "TrainingJob")), "Value 'TrainingJob' for 'StepType'"),
        (
            definition(condition("C", [], [], [step("A", "Spark")])),
            "Value 'Spark' for 'StepType'",
        ),
        (definition(step("A b")), "'A b' does not match"),
        (definition(step("A"), step("A")), "'A' is not unique"),
        (
            definition(step("A", "Processing", "B")),
            "depends on 'B', which does not exist",
        ),
        (
            definition(step("A", "Processing", "B"), step("B", "Processing", "A")),
            "cycle",
        ),
        (definition(fail("F", "x"), step("A", "Model", "F")), "A can not depends on F"),
        (definition(step("A", DependsOn="B")), "'DependsOn'"),
        (definition(step("A", Arguments=[])), "'Arguments'"),
        (
            definition(step("A"), parameters=({"Name": "P", "Type": "Text"},)),
            "type 'Text'",
        ),
        (definition(step("A"), parameters=({"Type": "String"},)), "no 'Name'"),
        (
            definition(step("A"), parameters=({"Name": "P", "EnumValues": 1},)),
            "'EnumValues' of parameter 'P' is not a list",
        ),
        (
            definition(step("A"), parameters=({"Name": "P", "Type": "String"},) * 2),
            "'P' is not unique",
        ),
        (
            definition(condition("C", [], [step("A", "Processing", "B")], [])),
            "depends on 'B'",
        ),
    ],
)
def test_invalid_definition_is_rejected(text: str, reason: str) -> None:
    """The error message names what is invalid in the definition."""
    with pytest.raises(DefinitionError) as error:
        parse(text)
    assert reason in str(error.value)


def test_types_of_steps_are_those_of_the_service_model() -> None:
    """A newer botocore may have more of them than this release."""
    metadata: Any = (
        get_session()
        .get_service_model("sagemaker")
        .shape_for("PipelineExecutionStepMetadata")
    )
    unknown = {
        member.removesuffix("Job") or member for member in metadata.members
    } - DEFAULTS.keys()
    assert not unknown, (
        f"botocore has types of steps that DEFAULTS in engine/durations.py lacks: {unknown}"
    )


def test_nested_steps_are_listed_after_their_condition_step() -> None:
    """The steps of all branches are in the definition, after their condition step."""
    text = definition(
        condition("C", [], [step("A")], [condition("D", [], [], [step("B")])])
    )
    parsed = parse(text)
    assert [(s.name, s.condition, s.branch) for s in parsed.steps.values()] == [
        ("C", None, None),
        ("A", "C", True),
        ("D", "C", False),
        ("B", "D", False),
    ]


def test_parameters_are_parsed() -> None:
    """A parameter has a type, and optionally a default and an enum."""
    entry: dict[str, Any] = {
        "Name": "P",
        "Type": "Integer",
        "DefaultValue": 1,
        "EnumValues": [1, 2],
    }
    parsed = parse(
        json.dumps(
            {"Version": "2020-12-01", "Parameters": [entry], "Steps": [step("A")]}
        )
    )
    assert parsed.parameters["P"].enum == (1, 2)
    assert parsed.parameters["P"].default == 1


def test_parameter_without_a_type_is_a_string() -> None:
    """AWS's schema of definitions has this default."""
    assert (
        parse(definition(step("A"), parameters=({"Name": "P"},))).parameters["P"].type
        == "String"
    )
