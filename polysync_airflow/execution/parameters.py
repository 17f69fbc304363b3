"""
Validates the arguments of operators before AWS is called, and reads the parameters that a pipeline's
definition declares.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.models import (
    DISPLAY_NAME_MAX,
    DeclaredParameter,
    ExecutionArn,
    PipelineName,
    StartRequest,
)

_MAX_VALUE_CHARACTERS: Final = 60
# Pydantic builds the validators on first use, which is on a worker: Airflow parses a DAG file every
# 30 seconds.
_DEFER_BUILD = ConfigDict(defer_build=True)
_DECLARED_PARAMETERS = TypeAdapter(list[DeclaredParameter], config=_DEFER_BUILD)
_PIPELINE_NAMES: TypeAdapter[list[str]] = TypeAdapter(list[PipelineName], config=_DEFER_BUILD)
_EXECUTION_ARN: TypeAdapter[str] = TypeAdapter(ExecutionArn, config=_DEFER_BUILD)


def build_start_request(**arguments: Any) -> StartRequest:
    """
    Validate the arguments of a start as far as possible without AWS, and return the request.

    :param arguments: the fields of ``StartRequest``.
    :raises ParametersError: lists each invalid field with its value and what is valid.
    """
    try:
        return StartRequest(**arguments)
    except ValidationError as error:
        raise ParametersError(
            "Nothing was started, because these arguments are not valid:\n" + "\n".join(_problems(error))
        ) from None


def _problems(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        field, *path = (str(part) for part in problem["loc"])
        name = field + "".join(f"[{part!r}]" for part in path if part != "[key]")
        cure = StartRequest.model_fields[field].description
        yield f"- {name} = {_shorten(problem['input'])}: {problem['msg']}. {cure}"


def _shorten(value: Any) -> str:
    # An invalid string can have a megabyte, and a collection can hold anything, so only its size is shown.
    if isinstance(value, str) and len(value) > _MAX_VALUE_CHARACTERS:
        return f"{value[:_MAX_VALUE_CHARACTERS]!r}... ({len(value):,} characters)"
    if isinstance(value, (Mapping, list, tuple, set)):
        return f"a {type(value).__name__} of {len(value):,}"
    return repr(value)[: 2 * _MAX_VALUE_CHARACTERS]


def default_display_name(*key: str | int | None) -> str:
    """
    Return a valid display name that is unique to one try of one task instance.

    AWS does not accept run ids such as ``scheduled__2026-01-01T00:00:00+00:00``. Run ids that differ only at
    the end would be equal after truncation. The name therefore ends with a digest of the whole key.

    :param key: DAG id, task id, run id, map index, try number.
    """
    text = "/".join(str(part) for part in key)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[: DISPLAY_NAME_MAX - len(digest) - 1]
    return f"{readable.rstrip('-')}-{digest}".lstrip("-")


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
    except json.JSONDecodeError as error:
        raise ParametersError(f"the definition is not JSON: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ParametersError(f"the definition's Parameters.{path}: {first['msg']}") from None


def check_pipeline_names(names: object) -> list[str]:
    """
    Validate a list of pipeline names before AWS is called.

    :param names: the value of the argument.
    :return: the names in the same order, without duplicates.
    :raises ParametersError: the value is not a list of valid names.
    """
    try:
        return list(dict.fromkeys(_PIPELINE_NAMES.validate_python(names)))
    except ValidationError as error:
        invalid = error.errors(include_url=False)[0]["input"]
        raise ParametersError(
            f"{_shorten(invalid)} is not valid as pipeline names: give a list of names. A name has 1 to 256 "
            "letters, digits and hyphens, and begins and ends with a letter or digit."
        ) from None


def check_execution_arn(execution_arn: object) -> None:
    """
    Validate the ARN of an execution before AWS is called.

    :param execution_arn: the value of the argument.
    :raises ParametersError: the value is not the ARN of an execution.
    """
    try:
        _EXECUTION_ARN.validate_python(execution_arn)
    except ValidationError:
        raise ParametersError(
            f"execution_arn = {_shorten(execution_arn)} is not the ARN of an execution: give "
            "arn:aws:sagemaker:<region>:<account>:pipeline/<name>/execution/<id>, such as the XCom "
            "'execution_arn' of the task that started it."
        ) from None
