"""The form of an imported job: which fields it has, and what they accept."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Param

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.dags import JobForm, job_form
from polysync_airflow.exceptions import ParametersError
from tests.unit.dags.catalogues import job, parameter

if CAPABILITIES.task_sdk:
    from airflow.sdk.exceptions import ParamValidationError
else:
    from airflow.exceptions import ParamValidationError

TEXT = {"type": "string", "minLength": 1, "maxLength": 1024}
INTEGER = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
FLOAT = {"type": "number", "minimum": -(2**63), "maximum": 2**64 - 1}
TEMPLATE = "{{ conn.x.password }}"
NOT_SET = object()


def form_of(declared: dict[str, Any], given: dict[str, Any] | None = None) -> JobForm:
    """Return the form of a job with one parameter."""
    return job_form(job("churn", declared), given or {})


def field(declared: dict[str, Any], given: Any = NOT_SET) -> Param:
    """Return the field of a parameter, for which the DAG's author has given a value."""
    values = {} if given is NOT_SET else {declared["name"]: given}
    return form_of(declared, values).params[declared["name"]]


def one_of(kind: str, default: Any, other: str) -> dict[str, Any]:
    """Return a parameter that has one of two values."""
    values = sorted((str(default), other))
    return parameter("P", kind, default=default, enum_values=values)


@pytest.mark.parametrize(
    ("declared", "schema", "value"),
    [
        (parameter("P", default="gold"), TEXT, "gold"),
        (parameter("P", default=TEMPLATE), TEXT, TEMPLATE),
        (parameter("P", "Integer", default=4), INTEGER, 4),
        (parameter("P", "Integer", default="4"), INTEGER, 4),
        (parameter("P", "Float", default=0.5), FLOAT, 0.5),
        (parameter("P", "Float", default=6), FLOAT, 6),
        (parameter("P", "Boolean", default=False), {"type": "boolean"}, False),
        (parameter("P", "Boolean", default="True"), {"type": "boolean"}, True),
        (one_of("String", "a", "b"), {**TEXT, "enum": ["a", "b"]}, "a"),
        (one_of("Integer", 2, "1"), {**INTEGER, "enum": [1, 2]}, 2),
        (one_of("Float", 1, "0.5"), {**FLOAT, "enum": [0.5, 1]}, 1),
    ],
    ids=str,
)
def test_field_has_type_default_and_enum(
    declared: dict[str, Any], schema: dict[str, Any], value: Any
) -> None:
    """The default is one that the field accepts."""
    param = field(declared)

    assert param.schema == schema
    assert param.value == value
    assert param.resolve() == value


@pytest.mark.parametrize("value", ["true", "false", True, False])
@pytest.mark.parametrize("given", [NOT_SET, "{{ params.x }}"])
def test_boolean_without_default_is_a_drop_down(given: Any, value: Any) -> None:
    """
    Airflow's drop-downs have texts; the REST API accepts booleans as well. AWS gets a
    boolean.
    """
    declared = parameter("P", "Boolean")
    form = form_of(declared, {} if given is NOT_SET else {"P": given})

    accepted = form.params["P"].resolve(value)

    values = form.values({"params": {"P": accepted}}, None)
    assert values == {"P": value in ("true", True)}
    assert form.params["P"].schema["enum"][-2:] == ["true", "false"]
    for wrong in ("True", "yes", 1, ""):
        with pytest.raises(ParamValidationError):
            form.params["P"].resolve(wrong)


def test_boolean_drop_down_has_only_the_allowed_values() -> None:
    """The definition may limit the values of a Boolean, too."""
    param = field(parameter("P", "Boolean", enum_values=["True"]))

    assert param.schema["enum"] == ["true"]
    assert param.resolve(True) is True
    with pytest.raises(ParamValidationError):
        param.resolve("false")


def test_empty_default_may_stay_empty() -> None:
    """AWS accepts an empty text as a default only, so such a value is not sent."""
    param = field(parameter("P", default=""))

    assert param.resolve() is None
    assert form_of(parameter("P", default="")).required == []


def test_template_of_the_author_is_not_in_the_form() -> None:
    """The field is empty and says which template applies then."""
    declared = parameter("P", "Integer", default=1, description="How many.")
    param = field(declared, "{{ 2 + 3 }}")

    assert param.resolve() is None
    assert param.resolve(7) == 7
    assert param.description == "How many. Empty: {{ 2 + 3 }}"


@pytest.mark.parametrize(
    ("default", "text", "shown"),
    [
        ("x", "A folder.", "A folder."),
        ("x", None, None),
        ("", "A folder.", "A folder. May be empty."),
        ("", None, "May be empty."),
    ],
)
def test_text_of_a_field_is_that_of_the_definition(
    default: str, text: str | None, shown: str | None
) -> None:
    """That of the definition, as the catalogue has it; no text of it is a template."""
    assert field(parameter("P", default=default, description=text)).description == shown
    described = parameter("P", default="x", description="{{ conn.x.password }}")
    assert field(described).description == "{{ conn.x.password }}"


def test_value_of_the_author_is_the_default() -> None:
    """It has the declared type."""
    assert field(parameter("P", "Integer"), 5).resolve() == 5
    assert field(parameter("P", "Float"), "0.25").resolve() == 0.25


SHARDS = parameter("Shards", "Integer")
TIER = parameter("Tier", enum_values=["a", "b"])
RATE = parameter("Rate", "Float", default=1)
DRY = parameter("Dry", "Boolean", default="maybe")


@pytest.mark.parametrize(
    ("declared", "given", "message"),
    [
        (
            SHARDS,
            {"Shards": "abc"},
            "parameters['Shards'] = 'abc' must be a whole number",
        ),
        (TIER, {"Tier": "c"}, "parameters['Tier'] = 'c' must be one of a, b"),
        (parameter("Shards"), {"shard": 1}, "it has no parameter 'shard'"),
        (DRY, {}, "the default of 'Dry' = 'maybe' must be true or false"),
        # Airflow could not send the DAG, or its form would refuse its own default.
        (SHARDS, {"Shards": 2**31}, "is not between -2147483648 and 2147483647"),
        (RATE, {"Rate": -(2**63) - 1}, "-9223372036854775808 and 18446744073709551615"),
    ],
    ids=str,
)
def test_wrong_value_is_named(
    declared: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    """The error names the parameter, the value, and what it accepts."""
    with pytest.raises(ParametersError) as caught:
        form_of(declared, given)

    assert message in str(caught.value)


def test_job_without_readable_parameters_has_no_form() -> None:
    """The reason of the import is in the error."""
    problem = "the definition is not JSON"
    with pytest.raises(ParametersError, match=f"could not be imported: {problem}"):
        job_form(job("churn", parameters_error=problem), {})
