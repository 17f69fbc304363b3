"""
Determines the parameter values of an execution: what the request sends, checked against
the declared types and enums, and else the declared defaults.

The request contains the values as strings
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html). The
error messages are those of the local mode of the SageMaker Python SDK where the
service's own are not public.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sagemaker_emulator.engine.definition import Definition, Parameter
from sagemaker_emulator.texts import empty_value

_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


class ParameterError(ValueError):
    """Raised when StartPipelineExecution rejects the parameter values."""


def resolve(
    definition: Definition, request_parameters: Iterable[Mapping[str, str]]
) -> dict[str, Any]:
    """
    Return the typed value of every declared parameter.

    :param definition: the pipeline definition.
    :param request_parameters: the ``PipelineParameters`` of the request, each with
        ``Name`` and ``Value``.
    :raises ParameterError: if a name is unknown, repeated or missing, or if a value is
        empty, has the wrong type or is not in the enum of the parameter.
    """
    sent: dict[str, str] = {}
    for entry in request_parameters:
        name = entry["Name"]
        if name not in definition.parameters:
            raise ParameterError(f"Unknown parameter '{name}'")
        if name in sent:
            raise ParameterError(f"Parameter '{name}' is specified more than once.")
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
        raise ParameterError(empty_value())
    value = _parse(parameter.type, raw)
    if value is None:
        kinds = ("Integer", "Float", "Boolean", "String")
        actual = next(kind for kind in kinds if _parse(kind, raw) is not None)
        raise ParameterError(
            f"Unexpected type for parameter '{parameter.name}'. Expected"
            f" {parameter.type} but found {actual}."
        )
    if parameter.enum and value not in parameter.enum:
        allowed = ", ".join(map(str, parameter.enum))
        raise ParameterError(
            f"Value '{raw}' of parameter '{parameter.name}' is not one of its enum"
            f" values: [{allowed}]"
        )
    return value


def _parse(kind: str, raw: str) -> Any:
    """Return ``raw`` as a value of type ``kind``, or None if it is not of that type."""
    if kind == "Integer":
        if _INTEGER.fullmatch(raw):
            return int(raw)
        return None
    if kind == "Float":
        if _FLOAT.fullmatch(raw) and math.isfinite(float(raw)):
            return float(raw)
        return None
    if kind == "Boolean":
        return {"true": True, "false": False}.get(raw.lower())
    return raw
