"""
Which values a declared parameter accepts.

AWS gets every value as a text, and compares it with the declared type. It does not document which texts it
accepts as numbers. Those that only Python reads as numbers (``1_000``, digits of other scripts, spaces around
the number) are not accepted here. Booleans are accepted in any case, because AWS's SDK sends ``True``.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-parameters.html
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any, Final

from polysync_airflow.execution.pipelines.models import DeclaredParameter
from polysync_airflow.execution.texts import MAX_VALUE_LENGTH

Value = str | int | float | bool
_BOOLEANS: Final = {"true": True, "false": False}
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_FLOAT: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def typed_value(parameter: DeclaredParameter, value: Any) -> Value:
    """
    Return a value as the type that the parameter declares.

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
    """
    read = _READERS[parameter.type]
    values = [read(value) for value in parameter.enum_values or ()]
    return [value for value in values if value is not None]


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int, float)) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        # Python refuses to read more than 4,300 digits. AWS accepts 1,024 characters.
        short = len(value) <= MAX_VALUE_LENGTH
        value = int(value) if short and _INTEGER.fullmatch(value) else None
    return value if isinstance(value, int) else None


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        value = float(value) if _FLOAT.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if isinstance(value, int) or isfinite(value) else None


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
