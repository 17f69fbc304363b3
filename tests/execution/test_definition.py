"""Definitions that somebody wrote to break an import: each becomes an error of its job only."""

from __future__ import annotations

import json

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.definition import declared_parameters


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
        (
            '{"Parameters": [{"Name": "P", "Type": "Integer", "DefaultValue": ' + "9" * 5000 + "}]}",
            "is not JSON",
        ),
        ('{"Parameters": [{"Name": "P", "Type": "Float", "DefaultValue": NaN}]}', "finite number"),
        ('{"Parameters": [{"Name": "P", "Type": "Float", "DefaultValue": Infinity}]}', "finite number"),
        ('{"Parameters": {"Name": "P"}}', "valid list"),
        ('{"Parameters": [{"Type": "String"}]}', "Parameters.0.Name: Field required"),
        ("5", "a JSON int, not an object"),
        ("", "is not JSON"),
        ("\x00", "is not JSON"),
    ],
    ids=["brackets", "digits", "NaN", "Infinity", "object", "no name", "number", "empty", "NUL"],
)
def test_definitions_that_cannot_be_read(definition: str, message: str) -> None:
    """The error is a ParametersError with a message that a log and a database accept."""
    with pytest.raises(ParametersError, match=message) as caught:
        declared_parameters(definition)

    text = str(caught.value)
    assert len(text) <= 500
    text.encode()
    assert "\x00" not in text


def test_parameter_without_a_type_is_a_string() -> None:
    """AWS's schema of definitions makes the type optional."""
    (parameter,) = declared_parameters(json.dumps({"Parameters": [{"Name": "P", "DefaultValue": "x"}]}))

    assert (parameter.type, parameter.default) == ("String", "x")
