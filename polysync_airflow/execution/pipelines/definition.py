"""
Reads the parameters and steps that a pipeline's definition declares.

Any user of the account may have written it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.pipelines.models import DeclaredParameter
from polysync_airflow.execution.texts import clean_line, clean_text

# More than AWS allows in a pipeline.
MAX_STEPS: Final = 500
# Of a step.
MAX_PROPERTY_FILES: Final = 50
_STEP_REFERENCE: Final = re.compile(r"Steps\.([A-Za-z0-9\-_]+)")
_DECLARED_PARAMETERS = TypeAdapter(list[DeclaredParameter])


def declared_parameters(definition: str | None) -> list[DeclaredParameter]:
    """
    Return the parameters that a pipeline definition declares.

    :param definition: the definition, as JSON text.
    :raises ParametersError: the text is not a definition with valid ``Parameters``.
    """
    try:
        parsed = json.loads(definition or "")
        if not isinstance(parsed, dict):
            raise ParametersError(f"the definition is a JSON {type(parsed).__name__}, not an object")
        return _DECLARED_PARAMETERS.validate_python(parsed.get("Parameters") or [])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ParametersError(clean_text(f"the definition's Parameters.{path}: {first['msg']}")) from None
    except ValueError as error:
        # Not only JSONDecodeError: Python refuses numbers with more than 4,300 digits.
        raise ParametersError(clean_text(f"the definition is not JSON: {error}")) from None
    except RecursionError:
        raise ParametersError("the definition is nested too deeply to be read") from None


def definition_digest(definition: str | None) -> str | None:
    """
    Return a digest of what a pipeline definition says. White space and the order of keys do not change it.

    :param definition: the definition, as JSON text.
    :return: ``sha256:<hex>``; None if the text is not JSON.
    """
    try:
        canonical = json.dumps(json.loads(definition or ""), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


class PropertyFile(NamedTuple):
    """
    A JSON file that a processing step of a definition writes.

    :param output: the name of the job's output that has the file.
    :param path: where the file is in the output.
    """

    name: str
    output: str
    path: str


class DeclaredStep(NamedTuple):
    """
    A step that a pipeline's definition declares.

    :param type: its type, such as ``Training``; None if the definition has none.
    :param condition: the Condition step in whose branch it is; None if it is in none.
    :param branch: the outcome with which this branch is taken: ``True`` or ``False``.
    :param needs: the steps that it names in ``DependsOn``, or whose properties it uses.
    :param not_selected: whether a selective execution has not selected it.
    """

    name: str
    type: str | None
    condition: str | None = None
    branch: str | None = None
    property_files: Sequence[PropertyFile] = ()
    needs: frozenset[str] = frozenset()
    not_selected: bool = False


def declared_steps(definition: str | None) -> list[DeclaredStep]:
    """
    Return the steps that a pipeline definition declares, in its order. A condition's branches follow it.

    https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html

    :param definition: the definition, as JSON text.
    :return: at most ``MAX_STEPS``; none if the text is not a definition.
    """
    try:
        parsed = json.loads(definition or "")
    except (ValueError, RecursionError):
        return []
    found: list[DeclaredStep] = []
    pending: deque[tuple[Any, str | None, str | None]] = deque(_steps_in(parsed))
    while pending and len(found) < MAX_STEPS:
        step, condition, branch = pending.popleft()
        name, kind, arguments = step.get("Name"), step.get("Type"), step.get("Arguments")
        name = clean_line(name, 256) if isinstance(name, str) else None
        if name is not None:
            files = _property_files_in(step.get("PropertyFiles"))
            needs = _needs_of(step) - {name}
            found.append(DeclaredStep(name, _text_or_none(kind), condition, branch, files, needs))
        if isinstance(arguments, dict):
            if_steps = _steps_in(arguments, "IfSteps", name, "True")
            pending.extendleft(reversed([*if_steps, *_steps_in(arguments, "ElseSteps", name, "False")]))
    return found


def _steps_in(
    parent: Any, member: str = "Steps", *place: str | None
) -> list[tuple[dict[str, Any], str | None, str | None]]:
    """Return steps, each with the condition and the branch in which it is."""
    condition, branch = place or (None, None)
    steps = parent.get(member) if isinstance(parent, dict) else None
    listed = steps if isinstance(steps, list) else []
    return [(step, condition, branch) for step in listed if isinstance(step, dict)]


def _property_files_in(value: Any) -> list[PropertyFile]:
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    files = [
        PropertyFile(*(entry.get(member) or "" for member in ("PropertyFileName", "OutputName", "FilePath")))
        for entry in entries[:MAX_PROPERTY_FILES]
    ]
    return [file for file in files if all(isinstance(text, str) and text for text in file)]


def _needs_of(step: dict[str, Any]) -> frozenset[str]:
    """Return the names of the steps that a step depends on. The steps in its branches have their own."""
    depends_on = step.get("DependsOn")
    needs = set()
    for entry in depends_on if isinstance(depends_on, list) else ():
        # An entry is a name, or an object with a trigger.
        name = entry.get("Step") if isinstance(entry, dict) else entry
        needs |= {name} if isinstance(name, str) else set()
    arguments = step.get("Arguments")
    own = arguments if isinstance(arguments, dict) else {}
    pending: list[Any] = [
        {member: value for member, value in step.items() if member != "Arguments"},
        {member: value for member, value in own.items() if member not in ("IfSteps", "ElseSteps")},
    ]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            reference = value.get("Get")
            match = _STEP_REFERENCE.match(reference) if isinstance(reference, str) else None
            needs |= {match[1]} if match else set()
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return frozenset(needs)


def _text_or_none(value: Any) -> str | None:
    return clean_line(value, 64) if isinstance(value, str) else None
