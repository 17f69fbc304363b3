"""
The parameter values of a job in a DAG: the typed form of "Trigger", and what a run sends to AWS.

Users of AWS write the default values and the names of parameters, and people write the descriptions into the
catalogue. None of these texts is ever rendered: Airflow calls a ``JobValues`` in place of rendering it, and
renders only the templates that the DAG's author has written in code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from airflow.providers.common.compat.sdk import Param

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.models import MAX_INTEGER
from polysync_airflow.execution.pipelines.parameter_types import Value, allowed_values, typed_value
from polysync_airflow.execution.storable import MAX_NUMBER, MIN_NUMBER
from polysync_airflow.execution.texts import MAX_VALUE_LENGTH, clean_line, nearest_name, shorten
from polysync_airflow.jobs.catalogue.models import CatalogueJob, CatalogueParameter

# https://json-schema.org/understanding-json-schema/reference/type
_JSON_TYPES: Final = {"String": "string", "Integer": "integer", "Float": "number", "Boolean": "boolean"}
_LIMITS: Final[Mapping[str, Mapping[str, int]]] = {
    "String": {"minLength": 1, "maxLength": MAX_VALUE_LENGTH},
    "Integer": {"minimum": -MAX_INTEGER - 1, "maximum": MAX_INTEGER},
    "Float": {"minimum": MIN_NUMBER, "maximum": MAX_NUMBER},
}
_MARKS_OF_TEMPLATES: Final = ("{{", "{%")


class JobValues:
    """
    The value of ``pipeline_parameters`` for a job. Airflow calls it before the task runs.

    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/operators.html (templating, callables)

    :param types: the types of the parameters by name.
    :param templates: Jinja templates of the DAG's author by parameter name, for parameters that a run leaves
        empty.
    """

    def __init__(self, types: Mapping[str, str], templates: Mapping[str, str]) -> None:
        self._types = dict(types)
        self._templates = dict(templates)

    def __call__(self, context: Mapping[str, Any], jinja_env: Any) -> dict[str, Value]:
        """Return the values of a run by parameter name."""
        values: dict[str, Value] = {}
        for name, kind in self._types.items():
            value = context["params"].get(name)
            if kind == "Boolean" and value in ("true", "false"):
                # The form's drop-down has texts.
                value = value == "true"
            if value is None and name in self._templates:
                value = jinja_env.from_string(self._templates[name]).render(context)
            if value is not None:
                values[name] = value
        return values

    def serialize(self) -> str:
        """Return what Airflow stores and shows before the task runs. It must be the same at each parse."""
        return repr(self)

    def __repr__(self) -> str:
        return f"the values of the run for {', '.join(self._types) or 'no parameters'}"


class JobForm(NamedTuple):
    """
    What a job's DAG needs for its parameters.

    :param params: Airflow's params by parameter name, for the form of "Trigger".
    :param required: the parameters for which each run must give a value.
    """

    params: dict[str, Param]
    values: JobValues
    required: list[str]


def job_form(job: CatalogueJob, given: Mapping[str, Any]) -> JobForm:
    """
    Return the form of a job.

    :param given: values, or Jinja templates, of the DAG's author by parameter name.
    :raises ParametersError: the job cannot have a form, or a value is not one of its parameters.
    """
    if job.parameters_error:
        raise ParametersError(f"its parameters could not be imported: {job.parameters_error}")
    check_names(job, given)
    templates = {name: value for name, value in given.items() if is_template(value)}
    params: dict[str, Param] = {}
    required = []
    for parameter in job.parameters:
        name, default = parameter.name, _default(parameter, given)
        # AWS accepts an empty text as a default only, so an empty default is not sent. Nor is one that does
        # not fit into the form.
        is_own = default is None and (
            parameter.default == "" or (name not in given and parameter.default is not None)
        )
        may_be_empty = name in templates or is_own
        own = clean_line(str(parameter.default), 60) if is_own else None
        params[name] = _param(parameter, default, templates.get(name, own), may_be_empty=may_be_empty)
        if default is None and not may_be_empty:
            required.append(name)
    return JobForm(params, JobValues({each.name: each.type for each in job.parameters}, templates), required)


def check_names(job: CatalogueJob, given: Mapping[str, Any]) -> None:
    """
    Check the names of parameters that the DAG's author has given.

    :param given: values by parameter name.
    :raises ParametersError: the job has no parameter of a name.
    """
    declared = [parameter.name for parameter in job.parameters]
    for name in given:
        if name not in declared:
            nearest = nearest_name(name, declared)
            hint = f" (did you mean {nearest!r}?)" if nearest else ""
            raise ParametersError(f"parameters: it has no parameter {name!r}{hint}")


def is_template(value: Any) -> bool:
    """Return whether a value that the DAG's author has given is a Jinja template."""
    return isinstance(value, str) and any(mark in value for mark in _MARKS_OF_TEMPLATES)


def is_plain(value: Any) -> bool:
    """Return whether a value is known when the DAG is parsed, or is a template."""
    return isinstance(value, (str, int, float))


def _default(parameter: CatalogueParameter, given: Mapping[str, Any]) -> Value | None:
    """Return the default of a form's field; None if it has none, or if a template takes its place."""
    name = parameter.name
    value = given.get(name, parameter.default)
    if value is None or value == "" or is_template(given.get(name)):
        return None
    try:
        typed = typed_value(parameter, value)
        return typed if name in given or _fits(parameter, typed) else None
    except ValueError as problem:
        where = f"parameters[{name!r}]" if name in given else f"the default of {name!r}"
        raise ParametersError(f"{where} = {shorten(value)} {problem}") from None


def _fits(parameter: CatalogueParameter, value: Value) -> bool:
    limits = _LIMITS.get(parameter.type, {})
    return isinstance(value, str) or limits.get("minimum", value) <= value <= limits.get("maximum", value)


def _param(
    parameter: CatalogueParameter, default: Value | None, template: str | None, *, may_be_empty: bool
) -> Param:
    description = parameter.description
    if may_be_empty:
        default_text = f"Empty: {template}" if template else "May be empty."
        description = f"{description} {default_text}" if description else default_text
        return Param(None, description=description, **_schema(parameter, None, may_be_empty=True))
    schema = _schema(parameter, default)
    if default is None:
        return Param(description=description, **schema)
    return Param(default, description=description, **schema)


def _schema(
    parameter: CatalogueParameter, default: Value | None, *, may_be_empty: bool = False
) -> dict[str, Any]:
    kind = _JSON_TYPES[parameter.type]
    allowed = [value for value in allowed_values(parameter) if _fits(parameter, value)]
    empty = [None] if may_be_empty else []
    if parameter.type == "Boolean" and default is None:
        return _boolean_schema(empty, allowed or [True, False])
    schema = {"type": ["null", kind] if may_be_empty else kind, **_LIMITS.get(parameter.type, {})}
    return {**schema, "enum": [*empty, *allowed]} if allowed else schema


def _boolean_schema(empty: list[None], values: list[Value]) -> dict[str, Any]:
    """Return the schema of a Boolean without a default: a drop-down in the form, also booleans in the API."""
    # A switch is off or on, so nobody could see in it that no value is chosen; Airflow's form refuses it then
    # until it was on once. Airflow has drop-downs for texts only.
    texts = [str(value).lower() for value in values]
    return {
        # In this version of JSON Schema, the keywords beside "$ref" are only for the form.
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": ["null", "string"] if empty else "string",
        "enum": [*empty, *texts],
        "$ref": "#/definitions/accepted",
        "definitions": {"accepted": {"enum": [*empty, *texts, *values]}},
    }
