"""
Which values a declared parameter accepts.

AWS gets every value as a text, and compares it with the declared type.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-parameters.html
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from polysync_airflow.execution.pipeline_models import DeclaredParameter

Value = str | int | float | bool
_BOOLEANS = {"true": True, "false": False}


def typed_value(parameter: DeclaredParameter, value: Any) -> Value:
    """
    Return a value as the type that the parameter declares.

    :param parameter: the declared parameter.
    :param value: a value of that type, or its text as AWS accepts it.
    :raises ValueError: the parameter does not accept the value. The message says what it accepts.
    """
    typed = _READERS[parameter.type](value)
    if typed is None:
        raise ValueError(f"must be {_WANTED[parameter.type]}")
    if parameter.enum_values and typed not in allowed_values(parameter):
        raise ValueError(f"must be one of {', '.join(map(str, parameter.enum_values))}")
    return typed


def allowed_values(parameter: DeclaredParameter) -> list[Value]:
    """
    Return the values to which the definition limits the parameter, in its order; an empty list for no limit.

    :param parameter: the declared parameter.
    """
    read = _READERS[parameter.type]
    values = [read(value) for value in parameter.enum_values or ()]
    return [value for value in values if value is not None]


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int, float)) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    try:
        return int(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = value if isinstance(value, int) else float(value)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return _BOOLEANS.get(value.lower()) if isinstance(value, str) else None


_READERS = {"String": _text, "Integer": _integer, "Float": _number, "Boolean": _boolean}
_WANTED = {
    "String": "a text",
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
}
