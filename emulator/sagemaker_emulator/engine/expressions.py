"""
Evaluates the expressions ``Get``, ``Std:Join`` and ``Std:JsonGet``.

The emulator runs no jobs, so most step properties and property files have no value
unless a scenario sets one. Such a value is `Unknown`, and its text, for example in a
join, is the reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sagemaker_emulator.engine.definition import iteration_name, references

_PATH_PART = re.compile(r"\.?([A-Za-z0-9_\-]+)|\[(\d+)\]|\[(['\"])(.*?)\3\]")
_OUTPUT = re.compile(r"Steps\.([A-Za-z0-9\-_]+)\.OutputParameters\[(['\"])(.+)\2\]")
# A property file, or where the SageMaker Python SDK stores what a function that is a
# step returns.
_PROPERTY_FILE = re.compile(
    r"Steps\.([A-Za-z0-9\-_]+)\.(?:PropertyFiles\.(.+)|OutputDataConfig\.S3OutputPath)"
)
#: The name of the file with what such a function returns.
FUNCTION_RESULT = "results.json"
_METRIC = re.compile(
    r"Steps\.([A-Za-z0-9\-_]+)\.FinalMetricDataList\[(['\"])(.+)\2\]\.Value"
)
_PROPERTY = re.compile(r"Steps\.([A-Za-z0-9\-_]+)\.([A-Za-z]+)")
_OUTCOME = re.compile(r"Steps\.([A-Za-z0-9\-_]+)\.Outcome")
_ITERATION = re.compile(
    r"Steps\.[A-Za-z0-9\-_]+\.IterationOutputs\[(\d+)\]\.([A-Za-z0-9\-_]+)([.\[].*)"
)
_SELECTED = re.compile(r"Steps\.([A-Za-z0-9\-_]+)\.Selected([.\[].*)")
_CURRENT_ITEM = re.compile(r"CurrentItem((?:[.\[].*)?)")
_MISSING: Final = object()


class ExpressionError(ValueError):
    """
    Raised when an expression cannot be evaluated. The step that uses the expression
    fails.
    """


@dataclass(frozen=True)
class Unknown:
    """A value that only a real job could produce."""

    reference: str

    def __str__(self) -> str:
        return self.reference


@dataclass
class Scope:
    """
    The values that the expressions of an execution can refer to, by name.

    :param metrics: the metrics of steps, by step name and metric name.
    :param properties: the known properties of steps, by step name and property name.
    :param scenario_names: the names that the scenario has for the steps that have
        started, by step name.
    :param selected: the steps that the selectors of ForEach steps have picked, by the
        name of the ForEach step.
    :param item: the item of the iteration, for a step in the body of a ForEach step.
    :param resolve: returns the value of a reference that no other member has.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, bool] = field(default_factory=dict)
    property_files: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    metrics: Mapping[tuple[str, str], float] = field(default_factory=dict)
    properties: dict[tuple[str, str], Any] = field(default_factory=dict)
    scenario_names: dict[str, str] = field(default_factory=dict)
    selected: dict[str, str] = field(default_factory=dict)
    item: Any = None
    resolve: Callable[[str], Any] = Unknown


def evaluate(value: Any, scope: Scope) -> Any:
    """
    Return the value of an expression. A value that is not an expression is returned
    unchanged.

    :param value: the expression or value.
    :param scope: the values that the expression can refer to.
    :raises ExpressionError: if the expression is malformed, or if its JSON path does
        not exist in a property file whose content is known.
    """
    if isinstance(value, dict) and len(value) == 1:
        ((key, operand),) = value.items()
        if key == "Get" and isinstance(operand, str):
            return _get(operand, scope)
        if key == "Std:Join":
            return _join(operand, scope)
        if key == "Std:JsonGet":
            return _json_get(operand, scope)
    return value


def evaluate_all(
    value: Any, scope: Scope, shown: Callable[[Unknown], Any] = str
) -> Any:
    """
    Return a JSON value in which every expression is evaluated, at any depth. A part
    without expressions is that of the value itself, so that executions share it.

    :param value: the JSON value.
    :param scope: the values that the expressions can refer to.
    :param shown: returns what is in the place of a value that is not known.
    :raises ExpressionError: as `evaluate` does.
    """
    result = evaluate(value, scope)
    if isinstance(result, Unknown):
        return shown(result)
    if result is not value:
        # What looks like an expression in the value of an expression is none.
        return result
    if isinstance(value, dict):
        members = {key: evaluate_all(item, scope, shown) for key, item in value.items()}
        is_same = all(members[key] is item for key, item in value.items())
        return value if is_same else members
    if isinstance(value, list):
        items = [evaluate_all(item, scope, shown) for item in value]
        is_same = all(new is old for new, old in zip(items, value, strict=True))
        return value if is_same else items
    return value


def text(value: Any) -> str:
    """
    Return a value as SageMaker writes it into a string, with booleans in lower case.
    """
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _get(reference: str, scope: Scope) -> Any:
    root, _, rest = reference.partition(".")
    if root == "Parameters":
        if rest not in scope.parameters:
            raise ExpressionError(f"Parameter '{rest}' is not declared")
        return scope.parameters[rest]
    if root == "Execution":
        return scope.execution.get(rest, Unknown(reference))
    if root == "ForEach":
        return _current_item(rest, scope)
    return _step_value(reference, scope)


def _step_value(reference: str, scope: Scope) -> Any:
    reference = _to_iteration(reference, scope)
    value = _recorded_value(reference, scope)
    if value is _MISSING:
        return scope.resolve(reference)
    return value


def _recorded_value(reference: str, scope: Scope) -> Any:
    """Return the value of a step that the scope has; ``_MISSING`` if it has none."""
    match = _OUTPUT.fullmatch(reference)
    if match:
        return scope.outputs.get(match[1], {}).get(match[3], _MISSING)
    match = _OUTCOME.fullmatch(reference)
    if match:
        return scope.outcomes.get(match[1], _MISSING)
    match = _METRIC.fullmatch(reference)
    if match:
        step = scope.scenario_names.get(match[1], match[1])
        return scope.metrics.get((step, match[3]), _MISSING)
    match = _PROPERTY.fullmatch(reference)
    if match:
        return scope.properties.get((match[1], match[2]), _MISSING)
    return _MISSING


def _to_iteration(reference: str, scope: Scope) -> str:
    """
    Return a reference to the step of an iteration, in place of one to its ForEach step.

    All other references stay as they are.
    """
    match = _ITERATION.fullmatch(reference)
    if match:
        return f"Steps.{iteration_name(match[2], int(match[1]))}{match[3]}"
    match = _SELECTED.fullmatch(reference)
    if match and match[1] in scope.selected:
        return f"Steps.{scope.selected[match[1]]}{match[2]}"
    return reference


def _current_item(path: str, scope: Scope) -> Any:
    """Return the item of an iteration, or the part of it that a path leads to."""
    match = _CURRENT_ITEM.fullmatch(path)
    if match is None:
        raise ExpressionError(
            f"ForEach.{path} is not ForEach.CurrentItem or one of its fields"
        )
    return _walk(scope.item, match[1], "in the item of the iteration")


def _join(operand: Any, scope: Scope) -> str | Unknown:
    try:
        separator = operand["On"]
        values = [evaluate(value, scope) for value in operand["Values"]]
    except (KeyError, TypeError) as error:
        raise ExpressionError(
            f"Std:Join needs 'On' and 'Values': {operand!r}"
        ) from error
    joined = text(separator).join(map(text, values))
    if any(isinstance(value, Unknown) for value in values):
        return Unknown(joined)
    return joined


def _json_get(operand: Any, scope: Scope) -> Any:
    try:
        path = operand["Path"]
        source = operand.get("PropertyFile") or operand.get("S3Uri")
    except (KeyError, TypeError, AttributeError) as error:
        raise ExpressionError(f"Std:JsonGet needs 'Path': {operand!r}") from error
    reference = next(references(source), "")
    path = evaluate(path, scope)
    match = _PROPERTY_FILE.fullmatch(reference)
    if match:
        step = scope.scenario_names.get(match[1], match[1])
        file = match[2] or FUNCTION_RESULT
        if (step, file) in scope.property_files:
            content = scope.property_files[step, file]
            return _walk(content, text(path), f"in property file '{file}'")
    return scope.resolve(f"{reference or json.dumps(operand)}:{path}")


def _walk(content: Any, path: str, where: str) -> Any:
    """
    Return the value at a JSON path.

    :param content: the JSON value that the path starts at.
    :param path: the path, with or without ``$`` at the beginning.
    :param where: what has the content, for error messages.
    :raises ExpressionError: if the path is malformed or does not exist.
    """
    position = 0
    if path.startswith("$"):
        position = 1
    while position < len(path):
        part = _PATH_PART.match(path, position)
        if part is None:
            raise ExpressionError(f"Path '{path}' {where} is not a valid JSON path")
        try:
            if part[2]:
                content = content[int(part[2])]
            else:
                content = content[part[1] or part[4]]
        except (KeyError, IndexError, TypeError) as error:
            raise ExpressionError(f"Path '{path}' does not exist {where}") from error
        position = part.end()
    return content
