"""
Definitions that somebody wrote to break an import: each becomes an error of its job
only.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.pipelines import declared_parameters, definition_digest


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
        ('{"Parameters": [{"DefaultValue": NaN}]}', "NaN is no number of JSON"),
        ('{"Parameters": {"Name": "P"}}', "valid list"),
        ('{"Parameters": [{"Type": "String"}]}', "Parameters.0.Name: Field required"),
        ("5", "a JSON int, not an object"),
        ("\x00", "is not JSON"),
    ],
    ids=["brackets", "NaN", "object", "no name", "number", "NUL"],
)
def test_definition_that_cannot_be_read_is_an_error_of_its_job(
    definition: str, message: str
) -> None:
    """
    The error is a ParametersError with a message that a log and a database accept.
    """
    with pytest.raises(ParametersError, match=message) as caught:
        declared_parameters(definition)

    text = str(caught.value)
    assert len(text) <= 500
    text.encode()
    assert "\x00" not in text


def test_parameter_without_a_type_is_a_string() -> None:
    """AWS's schema of definitions makes the type optional."""
    definition = {"Parameters": [{"Name": "P", "DefaultValue": "x"}]}

    (parameter,) = declared_parameters(json.dumps(definition))

    assert parameter.type == "String"
    assert parameter.default == "x"


def test_digest_is_that_of_the_canonical_json() -> None:
    """
    White space and the order of keys do not change it; the order of a list, and a
    value, do.
    """
    text = '{"Steps": [1, {"b": 1.0, "a": "\\u00fc"}], "Parameters": []}'
    canonical = '{"Parameters":[],"Steps":[1,{"a":"\\u00fc","b":1.0}]}'

    digest = definition_digest(text)

    assert digest == f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
    assert definition_digest(canonical) == digest
    assert definition_digest(text.replace("\\u00fc", "ü")) == digest
    assert definition_digest(text.replace("1.0", "2.0")) != digest
    # JSON can have half a character, which UTF-8 cannot encode.
    assert definition_digest('{"a": "\\ud800"}') is not None


@pytest.mark.parametrize("definition", [None, "", "{"])
def test_text_that_is_not_json_has_no_digest(definition: str | None) -> None:
    """A definition that cannot be read has no digest, and is no error."""
    assert definition_digest(definition) is None
