"""
Checks references and functions, and knows the type of their values.

A property of a step is a member of the answer of the Describe operation of its job; see
the section "Data Dependency - Property Reference" of
https://sagemaker.readthedocs.io/en/stable/amazon_sagemaker_model_building_pipeline.html.
Properties without a shape in botocore's service model are those that the SageMaker
Python SDK offers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagemaker_emulator.engine.definition import STEP_REFERENCE, Parameter
from sagemaker_emulator.sagemaker.definition_checks.faults import (
    Fault,
    Place,
    entries_of,
    members_of,
    names_in,
    shown,
)
from sagemaker_emulator.sagemaker.definition_checks.models import described_shapes

Json = Mapping[str, Any]

#: The types of conditions and parameters that are one value.
SCALARS = (str, int, float, bool)
# ``sagemaker.workflow.execution_variables.ExecutionVariables``
_EXECUTION_VARIABLES = (
    "CurrentDateTime",
    "PipelineArn",
    "PipelineExecutionArn",
    "PipelineExecutionId",
    "PipelineName",
    "ProcessingJobName",
    "StartDateTime",
    "TrainingJobName",
)
#: The members of ``PipelineExperimentConfig``.
EXPERIMENT = ("ExperimentName", "TrialName")
# What only the body or the selector of a ForEach step can refer to.
_LOOP_ROOTS = ("ForEach", "IterationOutput", "ChildOutput")
_BASELINES = (
    "BaselineUsedForDriftCheckConstraints",
    "BaselineUsedForDriftCheckStatistics",
    "CalculatedBaselineConstraints",
    "CalculatedBaselineStatistics",
)
# By the type of the step: the properties without a shape.
_OTHER_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "AutoML": ("BestCandidateProperties",),
    "ClarifyCheck": _BASELINES,
    "QualityCheck": _BASELINES,
    "Condition": ("Outcome",),
    "EMR": ("ClusterConfig", "ClusterId", "ExecutionRoleArn"),
    "ForEach": (
        "FailedStepCount",
        "InputItemCount",
        "IterationOutputs",
        "Selected",
        "Status",
        "StoppedStepCount",
        "SucceededStepCount",
        "TotalStepCount",
    ),
    "Lambda": (),
    "Callback": (),
}
_PATH_PART = re.compile(r"\.([A-Za-z0-9_\-]+)|\[(\d{1,9})\]|\[(['\"])(.*?)\3\]")
_OUTPUT = re.compile(r"\.OutputParameters\[(['\"])(.+)\1\]")
_PROPERTY_FILE = re.compile(r"Steps\.([A-Za-z0-9\-_]+)\.PropertyFiles\.(.+)")
# A string of JSON, into which a reference may descend.
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


def expression_type(expression: Json, declared: Declarations) -> str | None:
    """
    Return the type of the value of an expression, such as ``string`` or ``list``; None
    if it is known only when the pipeline runs.
    """
    if "Std:Join" in expression:
        return "string"
    if "Get" not in expression:
        return None
    try:
        return _reference_type(expression["Get"], declared)
    except UnknownReferenceError:
        return None


def faults_of_expressions(
    value: Any, place: Place, declared: Declarations, in_loop: bool = False
) -> Iterator[Fault]:
    """
    Check all expressions in a JSON value, at any depth.

    :param value: the JSON value.
    :param place: its place.
    :param declared: what the expressions can refer to.
    :param in_loop: whether they can refer to the item of an iteration.
    """
    for entry, entry_place in entries_of(value, place):
        yield from faults_of_expressions(entry, entry_place, declared, in_loop)
    if not isinstance(value, dict):
        return
    if not is_expression(value):
        for name, item in value.items():
            yield from faults_of_expressions(
                item, place.member(name), declared, in_loop
            )
        return

    ((function, operand),) = value.items()
    if function == "Get":
        yield from _faults_of_reference(operand, place, declared, in_loop)
    elif function == "Std:Join":
        yield from _faults_of_join(operand, place, declared, in_loop)
    elif function == "Std:JsonGet":
        yield from _faults_of_json_get(operand, place, declared, in_loop)
    else:
        yield place.fault(f"there is no function '{shown(function)}'")


def _faults_of_reference(
    reference: str, place: Place, declared: Declarations, in_loop: bool
) -> Iterator[Fault]:
    if reference.partition(".")[0] in _LOOP_ROOTS and not in_loop:
        yield place.fault(f"reference '{shown(reference)}' is not in a ForEach step")
        return
    try:
        _reference_type(reference, declared)
    except UnknownReferenceError as error:
        yield place.fault(str(error))


def _faults_of_join(
    operand: Any, place: Place, declared: Declarations, in_loop: bool
) -> Iterator[Fault]:
    place = place.member("Std:Join")
    yield from members_of(operand, place, ("On", "Values"), ("On", "Values"))
    if not isinstance(operand, dict):
        return
    values = operand.get("Values")
    if values is not None and not isinstance(values, list):
        yield place.member("Values").wrong_type("list")
    if not isinstance(operand.get("On", ""), str):
        yield place.member("On").wrong_type("string")
    for value, value_place in entries_of(values, place.member("Values")):
        if isinstance(value, SCALARS) or is_expression(value):
            yield from faults_of_expressions(value, value_place, declared, in_loop)
        else:
            yield value_place.fault("the value is neither text, number nor expression")


def _faults_of_json_get(
    operand: Any, place: Place, declared: Declarations, in_loop: bool
) -> Iterator[Fault]:
    place = place.member("Std:JsonGet")
    yield from members_of(operand, place, ("Path", "PropertyFile", "S3Uri"), ("Path",))
    if not isinstance(operand, dict):
        return
    if not isinstance(operand.get("Path", ""), str) and not is_expression(
        operand["Path"]
    ):
        yield place.member("Path").wrong_type("string")
    sources = [name for name in ("PropertyFile", "S3Uri") if operand.get(name)]
    if len(sources) != 1:
        yield place.member("PropertyFile").fault(
            "Std:JsonGet needs either 'PropertyFile' or 'S3Uri'"
        )
    for name in ("Path", "S3Uri"):
        yield from faults_of_expressions(
            operand.get(name), place.member(name), declared, in_loop
        )
    if operand.get("PropertyFile"):
        yield from _faults_of_property_file(
            operand["PropertyFile"], place.member("PropertyFile"), declared
        )


def _faults_of_property_file(
    value: Any, place: Place, declared: Declarations
) -> Iterator[Fault]:
    reference = ""
    if is_expression(value):
        reference = str(value.get("Get", ""))
    match = _PROPERTY_FILE.fullmatch(reference)
    if match is None:
        yield place.fault("the value refers to no property file of a step")
        return
    files = declared.steps.get(match[1], {}).get("PropertyFiles")
    if match[2] not in names_in(files, "PropertyFileName"):
        yield place.fault(
            f"step '{match[1]}' declares no property file '{shown(match[2])}'"
        )


def _reference_type(reference: str, declared: Declarations) -> str | None:
    root, _, name = reference.partition(".")
    if root == "Parameters":
        if name not in declared.parameters:
            raise UnknownReferenceError(
                f"reference '{shown(reference)}' names a parameter that is not declared"
            )
        return declared.parameters[name].type.lower()
    if root == "Execution":
        if name not in _EXECUTION_VARIABLES:
            raise UnknownReferenceError(
                f"reference '{shown(reference)}' names no variable of executions"
            )
        return "string"
    if root in _LOOP_ROOTS:
        return None
    if root == "PipelineExperimentConfig" and name in EXPERIMENT:
        return "string"
    match = STEP_REFERENCE.match(reference)
    if match is None:
        raise UnknownReferenceError(
            f"reference '{shown(reference)}' does not start with Parameters, Steps or"
            " Execution"
        )
    if match[1] not in declared.steps:
        raise UnknownReferenceError(f"step '{match[1]}' does not exist")
    return _property_type(reference, match.end(1), declared.steps[match[1]])


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
    if first is None or not first[1]:
        raise UnknownReferenceError(
            f"reference '{shown(reference)}' names no property of the step"
        )
    if first[1] == "PropertyFiles" and step.get("PropertyFiles"):
        return None
    if kind in ("Lambda", "Callback") and _has_output(step, path):
        return None
    if first[1] in _OTHER_PROPERTIES.get(kind, ()):
        return None
    shapes = described_shapes(kind)
    for shape in shapes:
        if first[1] in shape.members:
            return _type_at(shape, reference, start)
    if not shapes and kind not in _OTHER_PROPERTIES:
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
        if part is None:
            raise UnknownReferenceError(f"'{shown(reference)}' is no reference")
        found = _shape_below(shape, part)
        if found is None and shape.name == _JSON_TEXT:
            return None
        if found is None:
            raise UnknownReferenceError(
                f"reference '{shown(reference)}': {shape.name} has no '{part[0]}'"
            )
        shape = found
        position = part.end()
    return type_of(shape)


def type_of(shape: Shape) -> str | None:
    """
    Return the type of the values of a shape, in lower case as parameters have it; None
    for times, which are texts in some places and numbers in others.
    """
    types: Mapping[str, str | None] = {
        "long": "integer",
        "double": "float",
        "timestamp": None,
    }
    name: str = shape.type_name
    return types.get(name, name)


def _shape_below(shape: Shape, part: re.Match[str]) -> Shape | None:
    """Return the shape to which a part of a path leads; None if it leads to none."""
    if isinstance(shape, StructureShape) and part[1]:
        member: Shape | None = shape.members.get(part[1])
        return member
    if isinstance(shape, ListShape) and not part[1]:
        entry: Shape = shape.member
        return entry
    if isinstance(shape, MapShape) and not part[2]:
        value: Shape = shape.value
        return value
    return None
