"""
Validates requests, and responses before they are sent, against the shapes in botocore's
service model.

The messages are those of AWS. Request members that the installed botocore does not know
are ignored, as AWS services do, unless they are operations; the call log lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape

from sagemaker_emulator.engine.expressions import Unknown
from sagemaker_emulator.errors import ApiError, invalid

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "list": (list,),
    "map": (dict,),
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
    "boolean": (bool,),
}
# What AWS calls the first token of a JSON value; a number has another name.
_JSON_TOKENS: dict[type, str] = {
    type(None): "VALUE_NULL",
    dict: "START_OBJECT",
    list: "START_ARRAY",
    str: "STRING_VALUE",
    bool: "BOOLEAN_VALUE",
}
# A definition can have a million characters. An error message does not repeat all of
# them.
_MAX_VALUE_LENGTH = 4096
# Structures that cannot have unknown members: their members are the operations.
_CLOSED = frozenset({"AliasOperations"})
# Unicode properties that Python's re does not support, with their most frequent
# characters. The service model uses each of them only inside a character class.
_PROPERTIES = {
    r"\p{L}": r"\w",
    r"\p{M}": r"\u0300-\u036f",
    r"\p{N}": r"\d",
    r"\p{P}": r"!-#%-*,-/:;?@\[-\]_{}\u00a1-\u00bf\u2010-\u2027\u2030-\u205e",
    r"\p{S}": r"+<=>$\^`|~\u00a2-\u00b8\u20a0-\u20cf\u2100-\u2bff",
    r"\p{Z}": r"\s",
}


@cache
def service_model() -> ServiceModel:
    """Return the service model of SageMaker in the installed botocore."""
    return botocore.session.get_session().get_service_model("sagemaker")


@cache
def structure(name: str) -> StructureShape:
    """Return a structure of the service model of SageMaker."""
    shape = service_model().shape_for(name)
    if not isinstance(shape, StructureShape):
        raise TypeError(f"{name} is not a structure")
    return shape


def declared_members(structure_name: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that a structure has in the installed botocore."""
    declared = structure(structure_name).members
    return {name: value for name, value in members.items() if name in declared}


def check_request(
    shape: Shape | None, request: Any, unchecked: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], list[str]]:
    """
    Validate a request.

    :param shape: the input shape of the operation.
    :param request: the request, parsed from JSON. It may have values that are not
        known.
    :param unchecked: the names of shapes of which neither enum values nor empty values
        nor a ``*`` are checked.
    :return: the request without unknown members, and the paths of the unknown members.
    :raises ApiError: SerializationException for a wrong JSON type, ValidationException
        for any other violation.
    """
    if shape is None:
        return {}, []
    cleaned, ignored = _without_unknown_members(shape, request, "")
    violations = list(_violations(shape, cleaned, "", unchecked))
    if violations:
        noun = "error" if len(violations) == 1 else "errors"
        raise invalid(
            f"{len(violations)} validation {noun} detected: {'; '.join(violations)}"
        )
    return cleaned, ignored


def check_response(
    shape: Shape | None, response: dict[str, Any], unchecked: frozenset[str]
) -> list[str]:
    """
    Return all violations in a response.

    :param shape: the output shape of the operation.
    :param response: the response.
    :param unchecked: the names of shapes of which neither enum values nor empty values
        nor a ``*`` are checked.
    """
    if shape is None and response:
        return [
            f"the operation has no response members, but the response is {response}"
        ]
    if shape is None:
        return []
    try:
        _, unknown = _without_unknown_members(shape, response, "")
    except ApiError as error:
        return [error.message]
    violations = [f"'{path}' is not part of {shape.name}" for path in unknown]
    return violations + list(_violations(shape, response, "", unchecked))


def conforming(shape: Shape, value: Any) -> Any:
    """
    Return the part of a value that matches its shape; None if nothing of it does.

    :param shape: the shape.
    :param value: a JSON value that nobody has validated, such as an argument in a
        pipeline definition.
    """
    if not has_type(shape, value):
        return None
    if isinstance(shape, StructureShape):
        value = matching_members(shape, value)
        if shape.is_tagged_union and len(value) != 1:
            return None
        if any(name not in value for name in shape.required_members):
            return None
        return value
    if isinstance(shape, ListShape):
        items = (conforming(shape.member, item) for item in value)
        value = [item for item in items if item is not None]
    elif isinstance(shape, MapShape):
        pairs = (
            (conforming(shape.key, key), conforming(shape.value, item))
            for key, item in value.items()
        )
        value = {key: item for key, item in pairs if None not in (key, item)}
    if any(_violations(shape, value, "", frozenset())):
        return None
    return value


def matching_members(shape: StructureShape, value: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the members of a structure that match their shapes. Required members may be
    missing.
    """
    members = {
        name: conforming(shape.members[name], value[name])
        for name in shape.members
        if name in value
    }
    return {name: member for name, member in members.items() if member is not None}


def _without_unknown_members(
    shape: Shape, value: Any, path: str
) -> tuple[Any, list[str]]:
    """
    Return ``value`` without unknown and null members, and the paths of the unknown
    members.
    """
    _check_type(shape, value, path)
    ignored: list[str] = []
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        result: dict[str, Any] = {}
        for key, item in value.items():
            member = shape.members.get(key)
            if member is None and shape.name in _CLOSED:
                # There is no public text.
                raise invalid(f"Unknown operation '{key}' at '{path}'")
            if member is None:
                ignored.append(_join(path, key))
            elif item is not None:
                result[key], ignored_below = _without_unknown_members(
                    member, item, _join(path, key)
                )
                ignored += ignored_below
        return result, ignored
    if isinstance(shape, ListShape) and isinstance(value, list):
        items: list[Any] = []
        for index, item in enumerate(value, 1):
            cleaned, ignored_below = _without_unknown_members(
                shape.member, item, f"{path}.{index}.member"
            )
            items.append(cleaned)
            ignored += ignored_below
        return items, ignored
    if isinstance(shape, MapShape) and isinstance(value, dict):
        for key, item in value.items():
            _check_type(shape.value, item, f"{path}.{key}")
    return value, ignored


def has_type(shape: Shape, value: Any) -> bool:
    """Return whether a JSON value has the type of a shape, or is not known."""
    if isinstance(value, Unknown):
        return True
    expected = _JSON_TYPES[shape.type_name]
    if isinstance(value, bool):
        # In Python, bool is a subclass of int; in JSON, a boolean is not a number.
        return bool in expected
    return isinstance(value, expected)


def _check_type(shape: Shape, value: Any, path: str) -> None:
    if has_type(shape, value):
        return
    token = _JSON_TOKENS.get(type(value), "NUMBER_VALUE")
    where = ""
    if path:
        where = f" at '{path}'"
    raise ApiError(
        "SerializationException",
        f"{token} can not be converted to {shape.type_name}{where}",
    )


def _violations(
    shape: Shape, value: Any, path: str, unchecked: frozenset[str]
) -> Iterator[str]:
    if isinstance(value, Unknown):
        return
    if shape.name not in unchecked or not _may_be(shape, value):
        for constraint in broken_constraints(shape, value):
            yield _violation(value, path, constraint)
    if isinstance(shape, StructureShape):
        yield from _structure_violations(shape, value, path, unchecked)
    elif isinstance(shape, ListShape):
        for index, item in enumerate(value, 1):
            yield from _violations(
                shape.member, item, f"{path}.{index}.member", unchecked
            )
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _violations(shape.key, key, path, unchecked)
            yield from _violations(shape.value, item, f"{path}.{key}", unchecked)


def _may_be(shape: Shape, value: Any) -> bool:
    """Return whether a value is one that is not compared with an unchecked shape."""
    return value in ("", "*", []) or "enum" in shape.metadata


def broken_constraints(shape: Shape, value: Any) -> list[str]:
    """
    Return the constraints of a shape that a value of its type does not satisfy, without
    those of what is in it.
    """
    if isinstance(shape, ListShape | MapShape):
        return list(_out_of_bounds(shape, len(value), "length"))
    if isinstance(shape, StructureShape):
        return []
    return list(_scalar_constraints(shape, value))


def _structure_violations(
    shape: StructureShape,
    value: dict[str, Any],
    path: str,
    unchecked: frozenset[str],
) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            where = f"Value null at '{_join(path, name)}'"
            yield f"{where} failed to satisfy constraint: Member must not be null"
    for name, member in shape.members.items():
        if name in value:
            yield from _violations(member, value[name], _join(path, name), unchecked)


def _scalar_constraints(shape: Shape, value: Any) -> Iterator[str]:
    if shape.type_name != "string":
        yield from _out_of_bounds(shape, value, "value")
        return
    yield from _out_of_bounds(shape, len(value), "length")
    pattern = shape.metadata.get("pattern")
    if pattern and not _compiled(pattern).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {pattern}"
    enum = shape.metadata.get("enum")
    if enum and value not in enum:
        yield f"Member must satisfy enum value set: [{', '.join(enum)}]"


def _out_of_bounds(shape: Shape, number: float, measure: str) -> Iterator[str]:
    least = shape.metadata.get("min")
    if least is not None and number < least:
        yield f"Member must have {measure} greater than or equal to {least}"
    most = shape.metadata.get("max")
    if most is not None and number > most:
        yield f"Member must have {measure} less than or equal to {most}"


def _violation(value: Any, path: str, constraint: str) -> str:
    shown = str(value)
    if len(shown) > _MAX_VALUE_LENGTH:
        shown = f"{shown[:_MAX_VALUE_LENGTH]}..."
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    """Append the name of a member in AWS's spelling, which starts in lower case."""
    member = name[:1].lower() + name[1:]
    if not path:
        return member
    return f"{path}.{member}"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    for unicode_property, characters in _PROPERTIES.items():
        pattern = pattern.replace(unicode_property, characters)
    try:
        return re.compile(pattern)
    except re.error:
        # The service model has patterns that are no regular expressions of Python, such
        # as "[...]*${1,128}".
        return re.compile(".*", re.DOTALL)
