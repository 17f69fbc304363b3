"""
What is wrong with the parameters of a start, and which values a declared parameter
accepts.
"""

from __future__ import annotations

import time

import pytest

from polysync_airflow.execution.pipelines import (
    DeclaredParameter,
    parameter_problems,
    typed_value,
)
from polysync_airflow.execution.texts import MAX_PROBLEMS


def declared(name: str, kind: str = "String", **members: object) -> DeclaredParameter:
    """Return a parameter as a definition declares it."""
    return DeclaredParameter.model_validate({"Name": name, "Type": kind, **members})


DECLARED = [
    declared("InputData", DefaultValue="s3://b/k"),
    declared("MaxJobs", "Integer", DefaultValue=4),
    declared("Rate", "Float"),
    declared("DryRun", "Boolean", DefaultValue=False),
    declared("Tier", DefaultValue="gold", EnumValues=["gold", "silver"]),
]


def test_fitting_parameters_have_no_problem() -> None:
    """
    Values may be texts of the declared types; parameters with a default may be left
    out.
    """
    sent = {"Rate": "1e-3", "MaxJobs": "-3", "DryRun": "True"}
    assert parameter_problems(sent, DECLARED) == []


def test_all_problems_are_listed_at_once() -> None:
    """
    Unknown names come first, with the nearest declared one; each line names parameter,
    value and cure.
    """
    unknown = {"maxjobs": "8", "Colour": "red"}
    sent = {**unknown, "MaxJobs": "many", "DryRun": "1", "Tier": "tin"}

    assert parameter_problems(sent, DECLARED) == [
        "maxjobs = '8': not declared; did you mean MaxJobs?",
        (
            "Colour = 'red': not declared; leave it out, or use one of InputData,"
            " MaxJobs, Rate, DryRun, Tier"
        ),
        "Rate: has no default; add a value (Float)",
        "MaxJobs = 'many': must be a whole number (declared as Integer)",
        "DryRun = '1': must be true or false (declared as Boolean)",
        "Tier = 'tin': must be one of gold, silver (declared as String)",
    ]


def test_pipeline_without_parameters_is_named_as_such() -> None:
    """The cure of an unknown parameter says that there are none."""
    assert parameter_problems({"X": "1"}, []) == [
        "X = '1': not declared; leave it out, the pipeline declares none"
    ]


def test_a_missing_parameter_names_its_enum() -> None:
    """The line says which values the definition allows."""
    assert parameter_problems(
        {}, [declared("Tier", EnumValues=["gold", "silver"])]
    ) == ["Tier: has no default; add a value (String, one of gold, silver)"]


def test_foreign_texts_are_cleaned_and_bounded() -> None:
    """
    Names, enums and values cannot add lines or control characters, and long ones are
    cut.
    """
    hostile = [
        declared("A\nB\x1b[31m", EnumValues=["x\ny" * 300] * 1000),
        declared("Long", EnumValues=["v" * 1000] * 1000),
    ]

    problems = parameter_problems({"Long": "w" * 1024}, hostile)

    assert problems[0].startswith("A B\ufffd[31m: has no default")
    assert "(1,024 characters): must be one of vvv" in problems[1]
    assert all(len(problem) < 700 and problem.isprintable() for problem in problems)


def test_many_problems_are_counted_and_cost_little() -> None:
    """
    At most 20 lines and a number, within a second or two, however many names there are.
    """
    many = [declared("p" * 200 + str(number)) for number in range(3000)]
    sent = {"q" * 200 + str(number): "x" for number in range(200)}
    before = time.process_time()

    problems = parameter_problems(sent, many)

    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == "and 3180 more"
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Integer", "1_000"),
        ("Integer", " 5 "),
        ("Integer", "\u0665"),
        ("Integer", "5.0"),
        ("Integer", "9" * 5000),
        ("Integer", 5.0),
        ("Float", "1_0.5"),
        ("Float", "inf"),
        ("Float", "1e999"),
        ("Float", float("inf")),
        ("Float", ""),
        ("Boolean", "1"),
        ("Integer", True),
        ("Float", True),
    ],
)
def test_values_that_only_python_reads_are_refused(kind: str, value: object) -> None:
    """
    A text that Python would read as a number, but AWS does not document, is not of the
    type.
    """
    with pytest.raises(ValueError, match="must be"):
        typed_value(declared("P", kind), value)


@pytest.mark.parametrize(
    ("kind", "value", "typed"),
    [
        ("Integer", "-7", -7),
        ("Integer", "+7", 7),
        ("Float", ".5", 0.5),
        ("Float", "2", 2.0),
        ("Float", "-1E3", -1000.0),
        ("Boolean", "True", True),
        ("Boolean", "false", False),
        ("String", "yes", "yes"),
        ("String", 7, "7"),
    ],
)
def test_texts_have_the_declared_type(kind: str, value: object, typed: object) -> None:
    """The value has the declared type."""
    result = typed_value(declared("P", kind), value)

    assert (result, type(result)) == (typed, type(typed))
