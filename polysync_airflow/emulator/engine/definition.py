"""
Parses and validates pipeline definitions: the parameters, the steps and the dependencies of each step.

The format is AWS's JSON schema for pipeline definitions, version 2020-12-01; see
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-overview.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

PARAMETER_TYPES = ("String", "Integer", "Float", "Boolean")
_STEP_NAME = re.compile(r"[A-Za-z0-9\-_]{1,64}")
_STEP_REFERENCE = re.compile(r"Steps\.([A-Za-z0-9\-_]+)(?:\.|\[|$)")


class DefinitionError(ValueError):
    """Raised when SageMaker would reject a pipeline definition."""


@dataclass(frozen=True)
class Parameter:
    """A declared pipeline parameter."""

    name: str
    type: str
    default: Any = None
    enum: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Step:
    """
    A step and the names of all steps that it depends on.

    :param condition: the condition step that contains this step; None for a step at the top level.
    :param branch: True for a step in ``IfSteps``, False for a step in ``ElseSteps``, None at the top level.
    """

    name: str
    type: str
    body: Mapping[str, Any]
    depends_on: frozenset[str]
    condition: str | None = None
    branch: bool | None = None

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The ``Arguments`` of the step, with expressions that are not evaluated."""
        arguments: Mapping[str, Any] = self.body.get("Arguments") or {}
        return arguments

    @property
    def property_files(self) -> tuple[str, ...]:
        """The names of the property files that the step declares."""
        return tuple(entry["PropertyFileName"] for entry in self.body.get("PropertyFiles") or ())


@dataclass(frozen=True)
class Definition:
    """
    A parsed definition.

    ``steps`` contains the steps of all levels in document order. The steps of a branch follow their condition
    step.
    """

    parameters: Mapping[str, Parameter]
    steps: Mapping[str, Step]
    experiment: Mapping[str, Any] | None = None
    text: str = field(default="", repr=False)


def parse(text: str) -> Definition:
    """
    Parse and validate a pipeline definition.

    :param text: the JSON text that was passed to CreatePipeline or UpdatePipeline.
    :raises DefinitionError: if the definition is invalid; the message names the invalid element.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise DefinitionError(f"the text is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise DefinitionError("the text is not a JSON object")
    if not isinstance(document.get("Version"), str):
        raise DefinitionError("'Version' is missing or not a string")
    if not isinstance(document.get("Steps"), list) or not document["Steps"]:
        raise DefinitionError("'Steps' is missing or empty")
    parameters = _parameters(document.get("Parameters") or [])
    steps: dict[str, Step] = {}
    for step in _steps(document["Steps"], None, None):
        if step.name in steps:
            raise DefinitionError(f"step name '{step.name}' is not unique")
        steps[step.name] = step
    _check_references(document["Steps"], parameters)
    _check_graph(steps)
    return Definition(parameters, steps, document.get("PipelineExperimentConfig"), text)


def references(value: Any) -> Iterator[str]:
    """Yield every ``Get`` reference in ``value``, at any depth, such as ``Steps.Train.ModelArtifacts``."""
    if isinstance(value, dict):
        reference = value.get("Get")
        if isinstance(reference, str) and len(value) == 1:
            yield reference
            return
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def _parameters(entries: Any) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for entry in _objects(entries, "Parameters"):
        name, kind = entry.get("Name"), entry.get("Type")
        if not isinstance(name, str) or not name:
            raise DefinitionError("a parameter has no 'Name'")
        if kind not in PARAMETER_TYPES:
            raise DefinitionError(f"parameter '{name}' has type {kind!r}, not one of {list(PARAMETER_TYPES)}")
        if name in parameters:
            raise DefinitionError(f"parameter name '{name}' is not unique")
        enum = tuple(entry.get("EnumValues") or ())
        parameters[name] = Parameter(name, kind, entry.get("DefaultValue"), enum)
    return parameters


def _steps(entries: Any, condition: str | None, branch: bool | None) -> Iterator[Step]:
    for body in _objects(entries, "Steps"):
        name, kind = body.get("Name"), body.get("Type")
        if not isinstance(name, str) or not _STEP_NAME.fullmatch(name):
            raise DefinitionError(f"step name {name!r} does not match {_STEP_NAME.pattern}")
        if not isinstance(kind, str):
            raise DefinitionError(f"step '{name}' has no 'Type'")
        _objects(body.get("PropertyFiles") or [], f"PropertyFiles of step '{name}'", "PropertyFileName")
        yield Step(name, kind, body, _dependencies(name, body), condition, branch)
        if kind == "Condition":
            arguments = body.get("Arguments") or {}
            if not isinstance(arguments.get("Conditions"), list):
                raise DefinitionError(f"condition step '{name}' has no 'Conditions'")
            yield from _steps(arguments.get("IfSteps") or [], name, True)
            yield from _steps(arguments.get("ElseSteps") or [], name, False)


def _dependencies(name: str, body: Mapping[str, Any]) -> frozenset[str]:
    """
    Return the steps in ``DependsOn`` and all steps whose properties the step uses.

    The nested steps of a condition step are not included: they have dependencies of their own.
    """
    depends_on = body.get("DependsOn") or []
    if not isinstance(depends_on, list) or not all(isinstance(item, str) for item in depends_on):
        raise DefinitionError(f"'DependsOn' of step '{name}' is not a list of step names")
    arguments = body.get("Arguments", {})
    if not isinstance(arguments, dict):
        raise DefinitionError(f"'Arguments' of step '{name}' is not an object")
    own_body = {key: value for key, value in body.items() if key != "Arguments"}
    own_body["Arguments"] = {k: v for k, v in arguments.items() if k not in ("IfSteps", "ElseSteps")}
    referenced = (
        match[1] for reference in references(own_body) if (match := _STEP_REFERENCE.match(reference))
    )
    return frozenset(depends_on) | frozenset(referenced)


def _check_references(steps: Any, parameters: Mapping[str, Parameter]) -> None:
    for reference in references(steps):
        root, _, name = reference.partition(".")
        if root not in ("Parameters", "Steps", "Execution"):
            raise DefinitionError(
                f"reference '{reference}' does not start with Parameters, Steps or Execution"
            )
        if root == "Parameters" and name not in parameters:
            raise DefinitionError(f"reference '{reference}' names a parameter that is not declared")


def _check_graph(steps: Mapping[str, Step]) -> None:
    graph: dict[str, set[str]] = {}
    for step in steps.values():
        for other in step.depends_on:
            if other not in steps:
                raise DefinitionError(f"step '{step.name}' depends on '{other}', which does not exist")
            if steps[other].type == "Fail":
                raise DefinitionError(f"{step.name} can not depends on {other}, which is a Fail step")
        graph[step.name] = {*step.depends_on, *([step.condition] if step.condition else [])}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise DefinitionError(f"the dependencies of the steps form a cycle: {error.args[1]}") from error


def _objects(entries: Any, where: str, *required: str) -> list[dict[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DefinitionError(f"'{where}' is not a list of objects")
    for entry in entries:
        for key in required:
            if not isinstance(entry.get(key), str):
                raise DefinitionError(f"an entry of '{where}' has no '{key}'")
    return entries
