"""A message checked against its shape in botocore's service model: requests and, before they leave, answers.

The wording of violations is AWS's own. Members that the installed botocore does not know are ignored, as AWS
services do; the call log names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.model import ListShape, Shape, StructureShape

from polysync_airflow.emulator.errors import ApiError, invalid

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "list": (list,),
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
    "boolean": (bool,),
}
# A definition may have a million characters: an error does not repeat them all.
_SHOWN_LENGTH = 4096
# Unicode properties that Python's re does not know; each is only used inside a character class.
_PROPERTIES = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s"}


def check_request(shape: Shape | None, request: Any) -> tuple[dict[str, Any], list[str]]:
    """Check a request.

    :returns: the request without unknown members, and the paths of those.
    :raises ApiError: SerializationException for a wrong JSON type, ValidationException for anything else.
    """
    if shape is None:
        return {}, []
    known, ignored = _known(shape, request, "")
    violations = list(_violations(shape, known, "", skip_enums_of=frozenset()))
    if violations:
        noun = "error" if len(violations) == 1 else "errors"
        raise invalid(f"{len(violations)} validation {noun} detected: {'; '.join(violations)}")
    return known, ignored


def check_answer(shape: Shape | None, answer: dict[str, Any], free_enums: frozenset[str]) -> list[str]:
    """Return everything that is wrong with an answer.

    :param free_enums: names of enum shapes whose values are free, because a scenario replaces them.
    """
    if shape is None:
        return [f"no answer was expected, not {answer}"] if answer else []
    try:
        _, unknown = _known(shape, answer, "")
    except ApiError as error:
        return [error.message]
    wrong = [f"'{path}' is not part of {shape.name}" for path in unknown]
    return wrong + list(_violations(shape, answer, "", free_enums))


def _known(shape: Shape, value: Any, path: str) -> tuple[Any, list[str]]:
    """Return ``value`` without unknown and null members, and the paths of the unknown ones."""
    _check_type(shape, value, path)
    ignored: list[str] = []
    if isinstance(shape, StructureShape):
        result: dict[str, Any] = {}
        for key, item in value.items():
            member = shape.members.get(key)
            if member is None:
                ignored.append(_join(path, key))
            elif item is not None:
                result[key], more = _known(member, item, _join(path, key))
                ignored += more
        return result, ignored
    if isinstance(shape, ListShape):
        items = [_known(shape.member, item, f"{path}.{i}.member") for i, item in enumerate(value, 1)]
        return [item for item, _ in items], [path for _, more in items for path in more]
    return value, ignored


def _check_type(shape: Shape, value: Any, path: str) -> None:
    expected = _JSON_TYPES[shape.type_name]
    # bool is an int in Python but not in JSON.
    if isinstance(value, expected) and (bool in expected or not isinstance(value, bool)):
        return
    found = {dict: "START_OBJECT", list: "START_ARRAY", str: "STRING_VALUE", bool: "BOOLEAN_VALUE"}
    token = "VALUE_NULL" if value is None else found.get(type(value), "NUMBER_VALUE")
    where = f" at '{path}'" if path else ""
    raise ApiError("SerializationException", f"{token} can not be converted to {shape.type_name}{where}")


def _violations(shape: Shape, value: Any, path: str, skip_enums_of: frozenset[str]) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        for name in shape.required_members:
            if name not in value:
                where = f"Value null at '{_join(path, name)}'"
                yield f"{where} failed to satisfy constraint: Member must not be null"
        for name in (name for name in shape.members if name in value):
            yield from _violations(shape.members[name], value[name], _join(path, name), skip_enums_of)
    elif isinstance(shape, ListShape):
        for constraint in _out_of_bounds(shape, len(value), "length"):
            yield _violation(value, path, constraint)
        for index, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{index}.member", skip_enums_of)
    else:
        for constraint in _scalar_constraints(shape, value, skip_enums_of):
            yield _violation(value, path, constraint)


def _scalar_constraints(shape: Shape, value: Any, skip_enums_of: frozenset[str]) -> Iterator[str]:
    if shape.type_name != "string":
        yield from _out_of_bounds(shape, value, "value")
        return
    yield from _out_of_bounds(shape, len(value), "length")
    pattern, enum = shape.metadata.get("pattern"), shape.metadata.get("enum")
    if pattern and not _compiled(pattern).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {pattern}"
    if enum and value not in enum and shape.name not in skip_enums_of:
        yield f"Member must satisfy enum value set: [{', '.join(enum)}]"


def _out_of_bounds(shape: Shape, number: float, what: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and number < least:
        yield f"Member must have {what} greater than or equal to {least}"
    if most is not None and number > most:
        yield f"Member must have {what} less than or equal to {most}"


def _violation(value: Any, path: str, constraint: str) -> str:
    shown = str(value)
    if len(shown) > _SHOWN_LENGTH:
        shown = f"{shown[:_SHOWN_LENGTH]}..."
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    """Append a member's name in AWS's spelling, which starts in lower case."""
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    for property_, python in _PROPERTIES.items():
        pattern = pattern.replace(property_, python)
    return re.compile(pattern)
