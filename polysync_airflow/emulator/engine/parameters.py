"""The parameter values of one execution: declared types, defaults and enums applied to what was sent.

Values arrive as strings (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html). The
messages are those of the local mode of AWS's Python SDK; what the service itself says is not documented.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from polysync_airflow.emulator.engine.definition import Definition, Parameter

_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


class ParameterError(ValueError):
    """Values that StartPipelineExecution refuses."""


def resolve(definition: Definition, given: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Return the typed value of every declared parameter.

    :param given: the request's ``PipelineParameters``, each with ``Name`` and ``Value``.
    :raises ParameterError: for an unknown, repeated or missing name, a wrong type, an empty value or one
        that is not in the parameter's enum.
    """
    sent: dict[str, str] = {}
    for entry in given:
        name = entry["Name"]
        if name not in definition.parameters:
            raise ParameterError(f"Unknown parameter '{name}'")
        if name in sent:
            raise ParameterError(f"Parameter '{name}' is given more than once.")
        sent[name] = entry["Value"]
    values: dict[str, Any] = {}
    for name, parameter in definition.parameters.items():
        if name in sent:
            values[name] = _typed(parameter, sent[name])
        elif parameter.default is not None:
            values[name] = parameter.default
        else:
            raise ParameterError(f"Parameter '{name}' is undefined.")
    return values


def _typed(parameter: Parameter, raw: str) -> Any:
    if raw == "":
        raise ParameterError(
            f"Parameter '{parameter.name}': [string \"\" is too short (length: 0, required minimum: 1)]"
        )
    value = _parse(parameter.type, raw)
    if value is None:
        kinds = ("Integer", "Float", "Boolean", "String")
        found = next(kind for kind in kinds if _parse(kind, raw) is not None)
        raise ParameterError(
            f"Unexpected type for parameter '{parameter.name}'. Expected {parameter.type} but found {found}."
        )
    if parameter.enum and value not in parameter.enum:
        allowed = ", ".join(map(str, parameter.enum))
        raise ParameterError(
            f"Value '{raw}' of parameter '{parameter.name}' is not one of its enum values: [{allowed}]"
        )
    return value


def _parse(kind: str, raw: str) -> Any:
    """Return the value of ``raw`` as ``kind``, or None if it has no such value."""
    if kind == "Integer":
        return int(raw) if _INTEGER.fullmatch(raw) else None
    if kind == "Float":
        return float(raw) if _FLOAT.fullmatch(raw) and math.isfinite(float(raw)) else None
    if kind == "Boolean":
        return {"true": True, "false": False}.get(raw.lower())
    return raw
