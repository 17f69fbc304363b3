"""
Parses pipeline definitions: the parameters, the steps and the dependencies of each
step.

It refuses only what the engine cannot run. `sagemaker.definition_checks` has the other
rules of AWS.

The format is AWS's JSON schema for pipeline definitions, version 2020-12-01; see
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-overview.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps.html.
Only the SageMaker Python SDK describes dependencies with a trigger
(``{"Step": ..., "Trigger": ...}``) and ForEach steps, in the classes ``StepDependency``
and ``ForEachStep`` (the latter as of version 3.27).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from math import isinf
from typing import Any, NoReturn

from sagemaker_emulator.engine.durations import DEFAULTS

PARAMETER_TYPES = ("String", "Integer", "Float", "Boolean")
#: The trigger of a dependency that names no other: the step runs if the other step
#: succeeds.
COMPLETED = "Completed"
TRIGGERS = (COMPLETED, "Failed", "Stopped", "Any")
MAX_CONCURRENCY = 50
#: How many items a ForEach step may name in its definition.
MAX_LITERAL_ITEMS = 100
#: Lambda functions whose names begin so do not exist; all others do.
MISSING_FUNCTION = "polysync-no-such-function"
# An ISO 8601 duration. AWS's examples also have no P and lower-case letters.
_DURATION = re.compile(
    r"P?(?:(\d{1,9})Y)?(?:(\d{1,9})M)?(?:(\d{1,9})W)?(?:(\d{1,9})D)?"
    r"(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})S)?)?",
    re.IGNORECASE,
)
_DAY = 86_400.0
_DURATION_UNITS = (365 * _DAY, 30 * _DAY, 7 * _DAY, _DAY, 3600.0, 60.0, 1.0)
_STEP_NAME = re.compile(r"[A-Za-z0-9\-_]{1,64}")
# The name of an iteration is the name of the body step, a hyphen and the index.
_BODY_STEP_NAME = re.compile(r"[A-Za-z0-9\-_]{1,58}")
# What the selector of a ForEach step compares. ``ChildOutput`` is the word of version
# 3.26 of the SDK.
SELECTOR_FIELD = re.compile(
    r"(?:IterationOutput|ChildOutput)\.([A-Za-z0-9\-_]+)([.\[].+)"
)
_NOT_IN_LOOPS = ("Condition", "Fail", "ForEach")
#: A reference to a step. Its name is the first group.
STEP_REFERENCE = re.compile(r"Steps\.([A-Za-z0-9\-_]+)(?:\.|\[|$)")


# Real definitions have less than 40 levels. The functions that walk through a
# definition call themselves for each level, which Python limits.
_MAX_DEPTH = 100


class DefinitionError(ValueError):
    """
    Raised when SageMaker would refuse a pipeline definition.

    :param text: the text of AWS's error.
    :param places: the text with steps and members, which AWS does not name; empty if
        the first text has them.
    """

    def __init__(self, text: str, places: str = "") -> None:
        super().__init__(text)
        self.places = places or text


@dataclass(frozen=True)
class Parameter:
    """A declared pipeline parameter."""

    name: str
    type: str
    default: Any = None
    enum: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Iteration:
    """
    One iteration of a ForEach step.

    :param parent: the name of the ForEach step.
    :param index: the position of the item in the list.
    :param item: the item.
    """

    parent: str
    index: int
    item: Any


@dataclass(frozen=True)
class Step:
    """
    A step.

    :param body: the step as the definition has it.
    :param depends_on: the names of all steps that it depends on, but for its condition
        step.
    :param condition: the condition step that contains this step; None for a step at the
        top level.
    :param branch: True for a step in ``IfSteps``, False for a step in ``ElseSteps``,
        None at the top level.
    :param triggers: the triggers of the dependencies in ``DependsOn``; all others have
        ``Completed``.
    :param iteration: the iteration of a ForEach step that runs this step; None for all
        other steps.
    """

    name: str
    type: str
    body: Mapping[str, Any]
    depends_on: frozenset[str]
    condition: str | None = None
    branch: bool | None = None
    triggers: Mapping[str, str] = field(default_factory=dict)
    iteration: Iteration | None = None

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The ``Arguments`` of the step, with expressions that are not evaluated."""
        arguments: Mapping[str, Any] = self.body.get("Arguments") or {}
        return arguments

    @property
    def loop_body(self) -> list[Mapping[str, Any]]:
        """
        The steps that a ForEach step runs for each item; none for all other steps.
        """
        if self.type != "ForEach":
            return []
        steps: list[Mapping[str, Any]] = self.arguments["ForEachBody"]
        return steps

    @property
    def predecessors(self) -> frozenset[str]:
        """The steps that it depends on, with the condition step that contains it."""
        if self.condition is None:
            return self.depends_on
        return self.depends_on | {self.condition}

    @property
    def calls_missing_function(self) -> bool:
        """Whether the Lambda function of the step is one that does not exist."""
        arn = self.body.get("FunctionArn")
        if not isinstance(arn, str):
            return False
        return arn.rpartition(":")[2].startswith(MISSING_FUNCTION)

    @property
    def property_files(self) -> tuple[str, ...]:
        """The names of the property files that the step declares."""
        return tuple(
            entry["PropertyFileName"] for entry in self.body.get("PropertyFiles") or ()
        )

    def iterations(self, items: list[Any]) -> list[Step]:
        """
        Return the steps that a ForEach step runs: those of its body, for each item.

        :param items: the items of the ForEach step, in order.
        """
        steps: list[Step] = []
        for index, item in enumerate(items):
            # A step of the body depends on other steps of the body for the same item.
            names = {
                body["Name"]: iteration_name(body["Name"], index)
                for body in self.loop_body
            }
            for body in self.loop_body:
                triggers = _triggers(body["Name"], body)
                dependencies = _dependencies(body["Name"], body, triggers)
                steps.append(
                    Step(
                        name=names[body["Name"]],
                        type=body["Type"],
                        body=_with_step_names(body, names),
                        depends_on=frozenset(
                            names[name] for name in dependencies if name in names
                        ),
                        triggers={
                            names[name]: trigger
                            for name, trigger in triggers.items()
                            if name in names
                        },
                        iteration=Iteration(self.name, index, item),
                    )
                )
        return steps


def iteration_name(body: str, index: int) -> str:
    """
    Return the name of the step that runs a step of a ForEach step's body for an item.
    """
    return f"{body}-{index}"


@dataclass(frozen=True)
class Definition:
    """
    A parsed definition.

    ``steps`` contains the steps of all levels in document order. The steps of a branch
    follow their condition step.
    """

    parameters: Mapping[str, Parameter]
    steps: Mapping[str, Step]
    document: Mapping[str, Any] = field(repr=False)
    text: str = field(repr=False)


@lru_cache(maxsize=32)
def parse(text: str) -> Definition:
    """
    Parse and validate a pipeline definition.

    The latest ones are kept, because each reset of an emulator creates the same
    pipelines again.

    :param text: the JSON text that was passed to CreatePipeline or UpdatePipeline.
    :raises DefinitionError: if the definition is invalid; the message names the invalid
        element.
    """
    document = _document(text)
    parameters = _parameters(document.get("Parameters"))
    steps: dict[str, Step] = {}
    for step in _steps(document["Steps"]):
        if step.name in steps:
            raise DefinitionError(f"'Name' of step '{step.name}' is not unique")
        steps[step.name] = step
    _check_bodies(steps)
    _check_graph(steps)
    return Definition(parameters, steps, document, text)


def _document(text: str) -> dict[str, Any]:
    """Return the JSON object of a definition."""
    try:
        document = json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
        _check_depth(document)
        # A JSON text can have halves of characters, which no other service accepts.
        json.dumps(document, ensure_ascii=False).encode()
    except RecursionError as error:
        raise DefinitionError("the text is nested too deeply") from error
    except DefinitionError:
        raise
    except ValueError as error:
        raise DefinitionError(f"the text is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise DefinitionError("the text is not a JSON object")
    if not isinstance(document.get("Steps"), list) or not document["Steps"]:
        raise DefinitionError("'Steps' is missing or empty")
    return document


def _refuse_number(text: str) -> NoReturn:
    raise DefinitionError(f"the text is not JSON: {text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        _refuse_number(text)
    return number


def _check_depth(document: Any) -> None:
    containers = [document]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for container in containers:
            values = container
            if isinstance(container, dict):
                values = container.values()
            if isinstance(container, dict | list):
                inner += values
        containers = inner
    if containers:
        raise DefinitionError(f"the text has more than {_MAX_DEPTH} levels")


def references(value: Any) -> Iterator[str]:
    """
    Yield every ``Get`` reference in ``value``, at any depth, such as
    ``Steps.Train.ModelArtifacts``.
    """
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


def _with_step_names(value: Any, names: Mapping[str, str]) -> Any:
    """
    Return a JSON value whose references have other names of steps.

    :param value: the JSON value.
    :param names: the new name of each step that gets one, by the old name.
    """
    if isinstance(value, list):
        return [_with_step_names(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("Get")
    if isinstance(reference, str) and len(value) == 1:
        match = STEP_REFERENCE.match(reference)
        if match and match[1] in names:
            path = reference[match.end(1) :]
            return {"Get": f"Steps.{names[match[1]]}{path}"}
    return {key: _with_step_names(item, names) for key, item in value.items()}


def _parameters(entries: Any) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for entry in _objects(entries, "Parameters"):
        name = entry.get("Name")
        # AWS's schema of definitions: a parameter without a type is a String.
        kind = entry.get("Type", "String")
        if not isinstance(name, str) or not name:
            raise DefinitionError("a parameter has no 'Name'")
        if kind not in PARAMETER_TYPES:
            raise DefinitionError(
                f"parameter '{name}' has type {kind!r}, not one of"
                f" {list(PARAMETER_TYPES)}"
            )
        if name in parameters:
            raise DefinitionError(f"parameter name '{name}' is not unique")
        enum = entry.get("EnumValues") or []
        if not isinstance(enum, list):
            raise DefinitionError(f"'EnumValues' of parameter '{name}' is not a list")
        parameters[name] = Parameter(name, kind, entry.get("DefaultValue"), tuple(enum))
    return parameters


def _steps(
    entries: Any,
    condition: str | None = None,
    branch: bool | None = None,
    where: str = "Steps",
) -> Iterator[Step]:
    """
    Yield the steps of a list, and after each condition step those of its branches.

    :param entries: the list in the definition.
    :param condition: the condition step that has the list; None at the top level.
    :param branch: True for the list ``IfSteps``, False for ``ElseSteps``; None at the
        top level.
    :param where: what the error message calls the list.
    """
    for body in _objects(entries, where):
        step = _step(body, condition, branch)
        yield step
        if step.type != "Condition":
            continue
        for member, is_if in (("IfSteps", True), ("ElseSteps", False)):
            branch_steps = step.arguments.get(member)
            where = f"{member} of step '{step.name}'"
            yield from _steps(branch_steps, step.name, is_if, where)


def _step(body: dict[str, Any], condition: str | None, branch: bool | None) -> Step:
    name = body.get("Name")
    if not isinstance(name, str) or not _STEP_NAME.fullmatch(name):
        raise DefinitionError(
            f"'Name' of step {name!r} does not match {_STEP_NAME.pattern}"
        )
    kind = body.get("Type")
    if not isinstance(kind, str):
        raise DefinitionError(f"step '{name}' has no 'Type'")
    _check_type(name, kind)
    _objects(
        body.get("PropertyFiles"),
        f"PropertyFiles of step '{name}'",
        "PropertyFileName",
    )
    triggers = _triggers(name, body)
    dependencies = _dependencies(name, body, triggers)
    if kind == "ForEach":
        _check_for_each(name, body)
        dependencies = _loop_dependencies(
            dependencies, body["Arguments"]["ForEachBody"]
        )
    return Step(name, kind, body, dependencies, condition, branch, triggers)


def _check_type(name: str, kind: str) -> None:
    if kind not in DEFAULTS:
        # There is no public text of a type; this is that of other enums.
        allowed = ", ".join(sorted(DEFAULTS))
        text = f"Value '{kind}' for 'StepType' failed to satisfy enum value set:"
        text = f"{text} [{allowed}]"
        raise DefinitionError(text, f"{text}. Step '{name}', member 'Type'.")


def _triggers(name: str, body: Mapping[str, Any]) -> dict[str, str]:
    """Return the trigger of each step in ``DependsOn``, by the name of the step."""
    entries = body.get("DependsOn") or []
    if not isinstance(entries, list):
        raise _depends_on_error(name)
    triggers: dict[str, str] = {}
    for entry in entries:
        other = entry
        trigger = COMPLETED
        if isinstance(entry, dict) and entry.keys() <= {"Step", "Trigger"}:
            other = entry.get("Step")
            trigger = entry.get("Trigger", COMPLETED)
        if not isinstance(other, str):
            raise _depends_on_error(name)
        if trigger not in TRIGGERS:
            raise DefinitionError(
                f"step '{name}' has trigger {trigger!r}, not one of {list(TRIGGERS)}"
            )
        if triggers.setdefault(other, trigger) != trigger:
            raise DefinitionError(
                f"step '{name}' depends on step '{other}' with conflicting triggers"
            )
    return triggers


def _depends_on_error(name: str) -> DefinitionError:
    return DefinitionError(f"'DependsOn' of step '{name}' is not a list of step names")


def _dependencies(
    name: str, body: Mapping[str, Any], depends_on: Collection[str]
) -> frozenset[str]:
    """
    Return the steps in ``DependsOn`` and all steps whose properties a step uses.

    The steps in the branches of a condition step have dependencies of their own, which
    are not those of the condition step.
    """
    arguments = body.get("Arguments", {})
    if not isinstance(arguments, dict):
        raise DefinitionError(f"'Arguments' of step '{name}' is not an object")
    own_arguments = {
        member: value
        for member, value in arguments.items()
        if member not in ("IfSteps", "ElseSteps")
    }
    dependencies = set(depends_on)
    for reference in references({**body, "Arguments": own_arguments}):
        match = STEP_REFERENCE.match(reference)
        if match:
            dependencies.add(match[1])
    return frozenset(dependencies)


def _loop_dependencies(
    own_dependencies: frozenset[str], steps: list[dict[str, Any]]
) -> frozenset[str]:
    """
    Return the steps outside its body that a ForEach step waits for, with those that the
    steps of its body depend on.

    AWS documents neither; the SDK's graph of a pipeline has both.

    :param own_dependencies: the steps in the ``DependsOn`` and in the references of the
        ForEach step.
    :param steps: the body of the ForEach step.
    """
    graph: dict[str, frozenset[str]] = {}
    for step in steps:
        triggers = _triggers(step["Name"], step)
        graph[step["Name"]] = _dependencies(step["Name"], step, triggers)
    _check_acyclic(graph)
    return own_dependencies.union(*graph.values()) - graph.keys()


def _check_for_each(name: str, body: Mapping[str, Any]) -> None:
    arguments = body.get("Arguments") or {}
    steps = _objects(
        arguments.get("ForEachBody"), f"ForEachBody of step '{name}'", "Name", "Type"
    )
    if not steps or any(step["Type"] in _NOT_IN_LOOPS for step in steps):
        raise DefinitionError(
            f"'ForEachBody' of step '{name}' must be steps that are no Condition, Fail"
            " or ForEach steps"
        )
    for step in steps:
        _check_type(step["Name"], step["Type"])
        if not _BODY_STEP_NAME.fullmatch(step["Name"]):
            raise DefinitionError(
                f"'Name' of step {step['Name']!r} does not match"
                f" {_BODY_STEP_NAME.pattern}"
            )
    limit: Any = arguments.get("MaxConcurrency")
    is_integer = isinstance(limit, int) and not isinstance(limit, bool)
    if not is_integer or not 1 <= limit <= MAX_CONCURRENCY:
        raise DefinitionError(
            f"'MaxConcurrency' of step '{name}' is not between 1 and {MAX_CONCURRENCY}"
        )
    _check_items(name, arguments.get("IterableItems"))
    if arguments.get("Selector") is not None:
        body_names = [step["Name"] for step in steps]
        _check_selector(name, arguments["Selector"], body_names)


def _check_selector(name: str, selector: Any, body_names: list[str]) -> None:
    reference = next(references(selector), "")
    match = SELECTOR_FIELD.fullmatch(reference)
    has_pick = isinstance(selector, dict) and selector.get("Pick") in ("MaxBy", "MinBy")
    if not has_pick or match is None:
        raise DefinitionError(
            f"'Selector' of step '{name}' has no 'Pick' or no 'Field'"
        )
    if match[1] not in body_names:
        raise DefinitionError(
            f"'Selector' of step '{name}': '{reference}' is no step of its"
            " 'ForEachBody'"
        )


def _check_items(name: str, items: Any) -> None:
    if isinstance(items, dict):
        # The list is known when the step runs.
        return
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_LITERAL_ITEMS:
        raise DefinitionError(
            f"'IterableItems' of step '{name}' is neither a reference nor a list of 1"
            f" to {MAX_LITERAL_ITEMS} items"
        )
    for item in items:
        if isinstance(item, str | int | float):
            continue
        if isinstance(item, dict) and any(references(item)):
            continue
        raise DefinitionError(
            f"'IterableItems' of step '{name}': {item!r} is neither a value nor a"
            " reference"
        )


def _check_bodies(steps: Mapping[str, Step]) -> None:
    """Check that the name of each iteration is unique, however many items there are."""
    body_names: set[str] = set()
    for step in steps.values():
        for body in step.loop_body:
            if body["Name"] in body_names or body["Name"] in steps:
                raise DefinitionError(f"'Name' of step '{body['Name']}' is not unique")
            body_names.add(body["Name"])
    for name in steps:
        body_name, hyphen, index = name.rpartition("-")
        if hyphen and index.isdecimal() and body_name in body_names:
            raise DefinitionError(
                f"step name '{name}' is that of an iteration of step '{body_name}'"
            )


def duration_seconds(text: Any) -> float | None:
    """
    Return the seconds of an ISO 8601 duration, such as ``P30D`` or ``T16m``; None if it
    is not one.
    """
    if not isinstance(text, str):
        return None
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    return sum(
        int(number) * unit
        for number, unit in zip(match.groups(), _DURATION_UNITS, strict=True)
        if number
    )


def _check_graph(steps: Mapping[str, Step]) -> None:
    for step in steps.values():
        for other in sorted(step.depends_on):
            member = "'Arguments'"
            if other in step.triggers:
                member = "'DependsOn'"
            if other not in steps:
                raise DefinitionError(
                    f"{member} of step '{step.name}' depends on '{other}', which does"
                    " not exist"
                )
            if steps[other].type == "Fail":
                raise DefinitionError(
                    f"{step.name} can not depends on {other}, which is a Fail step:"
                    f" {member} of step '{step.name}'"
                )
    _check_acyclic({step.name: step.predecessors for step in steps.values()})


def _check_acyclic(graph: Mapping[str, Collection[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        names = " -> ".join(f"'{name}'" for name in error.args[1])
        raise DefinitionError(
            "the dependencies of the steps form a cycle ('DependsOn' or references):"
            f" step {names}"
        ) from error


def _objects(entries: Any, where: str, *required: str) -> list[dict[str, Any]]:
    """
    Check that a JSON value is a list of objects, and return it.

    :param entries: the JSON value; None for an empty list.
    :param where: what the error message calls the list.
    :param required: the members that each object must have, as texts.
    """
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) for entry in entries
    ):
        raise DefinitionError(f"'{where}' is not a list of objects")
    for entry in entries:
        for key in required:
            if not isinstance(entry.get(key), str):
                raise DefinitionError(f"an entry of '{where}' has no '{key}'")
    return entries
