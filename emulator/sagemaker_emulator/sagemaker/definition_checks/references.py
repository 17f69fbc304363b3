"""
Finds what references refer to, and the types of the values of expressions.

A property of a step is a member of the description of its job; see the section "Data
Dependency - Property Reference" of
https://sagemaker.readthedocs.io/en/stable/amazon_sagemaker_model_building_pipeline.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagemaker_emulator.engine.definition import STEP_REFERENCE, Parameter
from sagemaker_emulator.sagemaker.definition_checks.faults import names_in
from sagemaker_emulator.sagemaker.definition_checks.rules import described_shapes, rules
from sagemaker_emulator.texts import shown

Json = Mapping[str, Any]

# What only the body or the selector of a ForEach step can refer to.
_LOOP_ROOTS = ("ForEach", "IterationOutput", "ChildOutput")
_PATH_PART = re.compile(r"\.([A-Za-z0-9_\-]+)|\[(\d{1,9})\]|\[(['\"])(.*?)\3\]")
_OUTPUT = re.compile(r"\.OutputParameters\[(['\"])(.+)\1\]")
_PROPERTY_FILE = re.compile(r"Steps\.([A-Za-z0-9\-_]+)\.PropertyFiles\.(.+)")
# A text of JSON, into which a reference may descend.
_JSON_TEXT = "JobConfigDocument"


class UnknownReferenceError(ValueError):
    """Raised for a reference to what does not exist; the text says what."""


@dataclass(frozen=True)
class Declarations:
    """
    What the expressions of a definition can refer to.

    :param parameters: the parameters, by name.
    :param steps: all steps as the definition has them, by name.
    """

    parameters: Mapping[str, Parameter]
    steps: Mapping[str, Json]


def is_expression(value: Any) -> bool:
    """Return whether a JSON value is a reference or a function."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((name, operand),) = value.items()
    return (name == "Get" and isinstance(operand, str)) or name.startswith("Std:")


def type_of(shape: Shape) -> str | None:
    """
    Return the type of the values of a shape, in lower case as parameters have it; None
    for times, which are texts in some places and numbers in others.
    """
    types = {"long": "integer", "double": "float", "timestamp": None}
    return types.get(shape.type_name, shape.type_name)


def refers_to_property_file(value: Any, declared: Declarations) -> bool:
    """Return whether a value is a reference to a property file that a step declares."""
    if not is_expression(value):
        return False
    match = _PROPERTY_FILE.fullmatch(str(value.get("Get")))
    if match is None:
        return False
    files = declared.steps.get(match[1], {}).get("PropertyFiles")
    return match[2] in names_in(files, "PropertyFileName")


def reference_type(reference: str, declared: Declarations, in_loop: bool) -> str | None:
    """
    Return the type of the value to which a reference leads, such as ``string`` or
    ``list``; None if it is known only when the pipeline runs.

    :param reference: the reference, such as ``Parameters.Name``.
    :param declared: what it can refer to.
    :param in_loop: whether it can refer to the item of an iteration.
    :raises UnknownReferenceError: if it leads to nothing.
    """
    root, _, name = reference.partition(".")
    if root == "Parameters" and name in declared.parameters:
        return declared.parameters[name].type.lower()
    if root == "Execution" and name in rules()["references"]["execution"]:
        return "string"
    if reference in rules()["references"]["experiment"]:
        return "string"
    if root in _LOOP_ROOTS and in_loop:
        return None
    match = STEP_REFERENCE.match(reference)
    if match is not None and match[1] in declared.steps:
        return _property_type(reference, match.end(1), declared.steps[match[1]])

    problems = {
        "Parameters": "names a parameter that is not declared",
        "Execution": "names no variable of executions",
        "Steps": "names a step that does not exist",
        **dict.fromkeys(_LOOP_ROOTS, "is not in a ForEach step"),
    }
    problem = problems.get(
        root, "does not start with Parameters, Steps, Execution or ForEach"
    )
    raise UnknownReferenceError(f"reference '{shown(reference)}' {problem}")


def _property_type(reference: str, start: int, step: Json) -> str | None:
    """
    Return the type of a property of a step.

    :param reference: the reference.
    :param start: where the path of the property begins in it.
    :param step: the step as the definition has it.
    """
    kind = step["Type"]
    path = reference[start:]
    first = _PATH_PART.match(path)
    property_name = ""
    if first is not None:
        property_name = first[1] or ""
    shapes = described_shapes(kind)
    for shape in shapes:
        if property_name in shape.members:
            return _type_at(shape, reference, start)
    others = rules()["references"]["properties"].get(kind)
    if property_name in (others or ()) or _has_output(step, path):
        return None
    if property_name and not shapes and others is None:
        return None
    raise UnknownReferenceError(
        f"reference '{shown(reference)}': a {kind} step has no property"
        f" '{shown(path[1:])}'"
    )


def _has_output(step: Json, path: str) -> bool:
    match = _OUTPUT.fullmatch(path)
    if match is None:
        return False
    return match[2] in names_in(step.get("OutputParameters"), "OutputName")


def _type_at(shape: Shape, reference: str, start: int) -> str | None:
    position = start
    while position < len(reference):
        part = _PATH_PART.match(reference, position)
        below = None
        if part is not None:
            below = _shape_below(shape, part)
        if below is None and shape.name == _JSON_TEXT:
            return None
        if part is None or below is None:
            raise UnknownReferenceError(
                f"reference '{shown(reference)}': {shape.name} has no"
                f" '{shown(reference[position:])}'"
            )
        shape = below
        position = part.end()
    return type_of(shape)


def _shape_below(shape: Shape, part: re.Match[str]) -> Shape | None:
    """Return the shape to which a part of a path leads; None if it leads to none."""
    below: Shape | None = None
    if isinstance(shape, StructureShape) and part[1]:
        below = shape.members.get(part[1])
    elif isinstance(shape, ListShape) and not part[1]:
        below = shape.member
    elif isinstance(shape, MapShape) and not part[2]:
        below = shape.value
    return below
