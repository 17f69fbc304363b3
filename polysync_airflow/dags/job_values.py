"""
The parameter values of a job in a DAG: the typed form of "Trigger", and what a run sends to AWS.

Users of AWS write the default values and the names of parameters, and people write the descriptions into the
catalogue. None of these texts is ever rendered: Airflow calls a ``JobValues`` in place of rendering it, and
renders only the templates that the DAG's author has written in code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from airflow.providers.common.compat.sdk import Param

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.models import MAX_INTEGER
from polysync_airflow.execution.pipelines.parameter_types import Value, allowed_values, typed_value
from polysync_airflow.execution.texts import MAX_VALUE_LENGTH, nearest_name, shorten
from polysync_airflow.jobs.catalogue.models import CatalogueJob, CatalogueParameter

# https://json-schema.org/understanding-json-schema/reference/type
_JSON_TYPES: Final = {"String": "string", "Integer": "integer", "Float": "number", "Boolean": "boolean"}
_LIMITS: Final[Mapping[str, Mapping[str, int]]] = {
    "String": {"minLength": 1, "maxLength": MAX_VALUE_LENGTH},
    "Integer": {"minimum": -MAX_INTEGER - 1, "maximum": MAX_INTEGER},
}
_MARKS_OF_TEMPLATES: Final = ("{{", "{%")


class JobValues:
    """
    The value of ``pipeline_parameters`` for a job. Airflow calls it before the task runs.

    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/operators.html (templating, callables)

    :param templates: Jinja templates of the DAG's author by parameter name, for parameters that a run leaves
        empty.
    """

    def __init__(self, names: Sequence[str], templates: Mapping[str, str]) -> None:
        self._names = tuple(names)
        self._templates = dict(templates)

    def __call__(self, context: Mapping[str, Any], jinja_env: Any) -> dict[str, Value]:
        """Return the values of a run by parameter name."""
        values: dict[str, Value] = {}
        for name in self._names:
            value = context["params"].get(name)
            if value is None and name in self._templates:
                value = jinja_env.from_string(self._templates[name]).render(context)
            if value is not None:
                values[name] = value
        return values

    def serialize(self) -> str:
        """Return what Airflow stores and shows before the task runs. It must be the same at each parse."""
        return repr(self)

    def __repr__(self) -> str:
        return f"the values of the run for {', '.join(self._names) or 'no parameters'}"


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
        # AWS accepts an empty text as a default only, so an empty default is not sent.
        may_be_empty = name in templates or (default is None and parameter.default == "")
        params[name] = _param(parameter, default, templates.get(name), may_be_empty=may_be_empty)
        if default is None and not may_be_empty:
            required.append(name)
    return JobForm(params, JobValues(list(params), templates), required)


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
        return typed_value(parameter, value)
    except ValueError as problem:
        where = f"parameters[{name!r}]" if name in given else f"the default of {name!r}"
        raise ParametersError(f"{where} = {shorten(value)} {problem}") from None


def _param(
    parameter: CatalogueParameter, default: Value | None, template: str | None, *, may_be_empty: bool
) -> Param:
    kind = _JSON_TYPES[parameter.type]
    schema: dict[str, Any] = {"type": kind, **_LIMITS.get(parameter.type, {})}
    allowed = allowed_values(parameter)
    if allowed:
        schema["enum"] = allowed
    description = parameter.description
    if may_be_empty:
        schema["type"] = ["null", kind]
        if allowed:
            schema["enum"] = [None, *allowed]
        default_text = f"Empty: {template}" if template is not None else "May be empty."
        description = f"{description} {default_text}" if description else default_text
        return Param(None, description=description, **schema)
    if default is None:
        return Param(description=description, **schema)
    return Param(default, description=description, **schema)
