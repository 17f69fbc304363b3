"""
Reads ``rules.toml``, and finds the shapes of botocore's service models.

An older botocore may lack an operation. What it starts or describes is then not
checked.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
from botocore.model import OperationNotFoundError, ServiceModel, Shape, StructureShape

from sagemaker_emulator.sagemaker.request_rules import request_rules
from sagemaker_emulator.sagemaker.validation import service_model

_V2_MEMBERS = ("AutoMLJobInputDataConfig", "AutoMLProblemTypeConfig")


@cache
def rules() -> dict[str, Any]:
    """Return the tables of the file."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


@cache
def own_shape(name: str) -> Shape:
    """Return a shape of the file."""
    return _own_model().shape_for(name)


@cache
def _own_model() -> ServiceModel:
    shapes = dict(rules()["shapes"])
    for base in rules()["shapes"].values():
        for name in set(base.get("variants", {}).values()):
            variant = rules()["shapes"][name]
            shapes[name] = {
                "type": "structure",
                "members": {**base["members"], **variant.get("members", {})},
                "required": [*base.get("required", ()), *variant.get("required", ())],
            }
    return ServiceModel({"metadata": {}, "shapes": shapes})


def resolved(shape: Shape, value: Any) -> Shape:
    """
    Return the shape that a value must have in place of a shape: that of another
    service, or the variant for its type.
    """
    other = rules()["other_services"].get(shape.name)
    if other is not None:
        return _shape_of_service(*other)
    variants = rules()["shapes"].get(shape.name, {}).get("variants", {})
    if not variants or not isinstance(value, dict):
        return shape
    kind = value.get("Type", "String")
    if not isinstance(kind, str) or kind not in variants:
        return shape
    return own_shape(variants[kind])


def has_own_arguments(kind: str) -> bool:
    """Return whether the file has the arguments of a type of step."""
    variant = rules()["shapes"]["Step"]["variants"].get(kind, "")
    return "Arguments" in rules()["shapes"].get(variant, {}).get("members", ())


def rules_of(structure: str) -> Sequence[Mapping[str, Any]]:
    """
    Return the rules for the members of a structure that need or exclude each other.
    """
    own = rules()["rules"].get(structure, ())
    return [*request_rules().get(structure, ()), *own]


def start_operation(kind: str, arguments: Mapping[str, Any]) -> str | None:
    """
    Return the operation that starts the job of a step; None if it is not known.

    :param kind: the type of the step.
    :param arguments: its arguments.
    """
    if kind == "AutoML" and any(member in arguments for member in _V2_MEMBERS):
        return "CreateAutoMLJobV2"
    operation: str | None = rules()["start"].get(kind)
    return operation


def request_shape(kind: str, arguments: Mapping[str, Any]) -> Shape:
    """
    Return the shape of the request that starts the job of a step.

    :param kind: the type of the step.
    :param arguments: its arguments.
    """
    return _input_shape(start_operation(kind, arguments))


@cache
def _input_shape(operation: str | None) -> Shape:
    """Return the shape of a request; that of any JSON if it is not known."""
    shape: Shape | None = None
    if operation is not None:
        with suppress(OperationNotFoundError):
            shape = service_model().operation_model(operation).input_shape
    return shape or own_shape("Json")


@cache
def described_shapes(kind: str) -> tuple[StructureShape, ...]:
    """
    Return the shapes that have the properties of a type of step; none if it has none.
    """
    shapes: list[Shape | None] = []
    for operation in rules()["describe"].get(kind, ()):
        with suppress(OperationNotFoundError):
            shapes.append(service_model().operation_model(operation).output_shape)
    if kind == "EMR":
        shapes.append(_shape_of_service("emr", "Step"))
    return tuple(shape for shape in shapes if isinstance(shape, StructureShape))


@cache
def _shape_of_service(service: str, name: str) -> Shape:
    return botocore.session.get_session().get_service_model(service).shape_for(name)
