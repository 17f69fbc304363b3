"""Compares the JSON values of a definition with shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagemaker_emulator import texts
from sagemaker_emulator.sagemaker.definition_checks.faults import (
    Fault,
    Place,
    entries_of,
)
from sagemaker_emulator.sagemaker.definition_checks.references import (
    Declarations,
    Json,
    UnknownReferenceError,
    is_expression,
    reference_type,
    refers_to_property_file,
    type_of,
)
from sagemaker_emulator.sagemaker.definition_checks.rules import (
    own_shape,
    resolved,
    rules,
    rules_of,
)
from sagemaker_emulator.sagemaker.request_rules import broken_in
from sagemaker_emulator.sagemaker.validation import broken_constraints, has_type


class Checker:
    """
    Compares values with shapes. A reference or function stands for a value of its type.

    :param declared: what the expressions can refer to.
    :param in_loop: whether they can refer to the item of an iteration.
    """

    def __init__(self, declared: Declarations, in_loop: bool = False) -> None:
        self._declared = declared
        self._in_loop = in_loop

    def faults(self, shape: Shape, value: Any, place: Place) -> Iterator[Fault]:
        """
        Yield what is wrong with a value.

        :param shape: the shape that it must have.
        :param value: the value.
        :param place: its place.
        """
        shape = resolved(shape, value)
        if shape.name == "Elsewhere":
            return
        if shape.name == "PropertyFileReference":
            if not refers_to_property_file(value, self._declared):
                yield place.fault("the value refers to no property file of a step")
        elif is_expression(value):
            yield from self._faults_of_expression(shape, value, place)
        elif shape.name == "Json":
            yield from self._faults_of_json(value, place)
        elif shape.name == "Scalar":
            if not isinstance(value, str | int | float):
                yield place.fault("the value is neither text, number nor expression")
        elif not has_type(shape, value):
            yield place.refused(texts.wrong_type(shape.type_name))
        else:
            yield from self._faults_of_typed(shape, value, place)

    def _faults_of_json(self, value: Any, place: Place) -> Iterator[Fault]:
        """Check the expressions in a value that has no shape."""
        for entry, entry_place in entries_of(value, place):
            yield from self.faults(own_shape("Json"), entry, entry_place)
        if isinstance(value, dict):
            for name, item in value.items():
                yield from self.faults(own_shape("Json"), item, place.member(name))

    def _faults_of_typed(
        self, shape: Shape, value: Any, place: Place
    ) -> Iterator[Fault]:
        if value or shape.name not in rules()["may_be_empty"]["shapes"]:
            for constraint in broken_constraints(shape, value):
                yield place.refused(_violation(shape, value, constraint))
                return
        if isinstance(shape, StructureShape):
            yield from self._faults_of_structure(shape, value, place)
        elif isinstance(shape, ListShape):
            for entry, entry_place in entries_of(value, place):
                yield from self.faults(shape.member, entry, entry_place)
        elif isinstance(shape, MapShape):
            for key, item in value.items():
                yield from self.faults(shape.key, key, place.member(key))
                yield from self.faults(shape.value, item, place.member(key))

    def _faults_of_structure(
        self, shape: StructureShape, value: Json, place: Place
    ) -> Iterator[Fault]:
        known = {
            name: member
            for name, member in shape.members.items()
            if name not in rules()["not_known"].get(shape.name, ())
        }
        for name, other in rules()["other_shapes"].get(shape.name, {}).items():
            known[name] = own_shape(other)
        for name in shape.required_members:
            is_optional = name in rules()["not_required"].get(shape.name, ())
            if not is_optional and value.get(name) is None:
                yield place.missing(name)
        for broken in broken_in(rules_of(shape.name), value, ""):
            # With published words, AWS accepts the definition: the step fails.
            if broken.published is None:
                text = f"value '{texts.shown(broken.value)}': {broken.rule}"
                yield place.member(broken.path).fault(text)
        present = {
            name: item
            for name, item in value.items()
            if name in known and item is not None
        }
        if shape.is_tagged_union and len(present) != 1:
            yield place.fault(f"'{shape.name}' needs exactly one member")
        for name, item in present.items():
            yield from self.faults(known[name], item, place.member(name))
        for name in value:
            if name not in known:
                yield place.member(name).refused(_unknown(shape, name))

    def _faults_of_expression(
        self, shape: Shape, value: Json, place: Place
    ) -> Iterator[Fault]:
        ((function, operand),) = value.items()
        actual: str | None = None
        if function == "Get":
            try:
                actual = reference_type(operand, self._declared, self._in_loop)
            except UnknownReferenceError as error:
                yield place.fault(str(error))
                return
        elif function in rules()["shapes"]:
            function_place = place.member(function)
            yield from self.faults(own_shape(function), operand, function_place)
            if function == "Std:Join":
                actual = "string"
        else:
            yield place.fault(f"there is no function '{texts.shown(function)}'")
        untyped = ("Json", "Scalar", *rules()["texts_of_any_type"]["shapes"])
        if shape.name in untyped or actual is None:
            return

        expected = type_of(shape)
        if expected in (None, actual) or (expected, actual) == ("float", "integer"):
            return
        if expected in ("list", "map", "structure"):
            yield place.refused(texts.wrong_type(expected))
            return
        yield place.refused(texts.wrong_reference(operand, str(expected)))


def _violation(shape: Shape, value: Any, constraint: str) -> str:
    """Return the text of a constraint that a value does not satisfy."""
    least = shape.metadata.get("min")
    most = shape.metadata.get("max")
    text = texts.out_of_bounds(value, least, most, shape.name)
    if text is not None:
        return text
    rule = constraint.removeprefix("Member must satisfy ")
    return texts.not_satisfied(value, rule, shape.name)


def _unknown(shape: Shape, name: str) -> str:
    if shape.name in rules()["shapes"]:
        return texts.unknown_property(name)
    return texts.unknown_argument(name)
