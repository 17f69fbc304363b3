"""Owns what a pipeline's definition declares, and whether the arguments of a start are legal."""

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

_SHOWN_CHARACTERS: Final = 60
# Built on first use, which is on a worker: a DAG file is parsed every 30 seconds.
_LATER = ConfigDict(defer_build=True)
_DECLARED = TypeAdapter(list[DeclaredParameter], config=_LATER)
_PIPELINE_NAMES: TypeAdapter[list[str]] = TypeAdapter(list[PipelineName], config=_LATER)
_EXECUTION_ARN: TypeAdapter[str] = TypeAdapter(ExecutionArn, config=_LATER)


def build_start_request(**arguments: Any) -> StartRequest:
    """
    Check everything about a start that can be checked without AWS.

    :param arguments: the fields of ``StartRequest``.
    :raises ParametersError: naming every illegal field with its value and the cure.
    """
    try:
        return StartRequest(**arguments)
    except ValidationError as error:
        raise ParametersError(
            "Nothing was started, since these arguments are not legal:\n" + "\n".join(_problems(error))
        ) from None


def _problems(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        field, *path = (str(part) for part in problem["loc"])
        where = field + "".join(f"[{part!r}]" for part in path if part != "[key]")
        cure = StartRequest.model_fields[field].description
        yield f"- {where} = {_shown(problem['input'])}: {problem['msg']}. {cure}"


def _shown(value: Any) -> str:
    # Sizes rather than floods: an illegal value can be a megabyte, and a mapping can hold anything.
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        return f"{value[:_SHOWN_CHARACTERS]!r}... ({len(value):,} characters)"
    if isinstance(value, (Mapping, list, tuple, set)):
        return f"a {type(value).__name__} of {len(value):,}"
    return repr(value)[: 2 * _SHOWN_CHARACTERS]


def default_display_name(*key: str | int | None) -> str:
    """
    Make a legal display name that is unique to one try of one task instance.

    Run ids (``scheduled__2026-01-01T00:00:00+00:00``) are not legal as they are, and cutting them to length
    would make neighbours collide, so a digest of the whole key ends the name.

    :param key: dag id, task id, run id, map index, try number.
    """
    whole = "/".join(str(part) for part in key)
    digest = hashlib.sha256(whole.encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", whole).strip("-")[: DISPLAY_NAME_MAX - len(digest) - 1]
    return f"{readable.rstrip('-')}-{digest}".lstrip("-")


def declared_parameters(definition: str | None) -> list[DeclaredParameter]:
    """
    Read the parameters that a pipeline's definition declares.

    :param definition: the definition, JSON text.
    :raises ParametersError: if it is not a definition with legal ``Parameters``.
    """
    try:
        parsed = json.loads(definition or "")
        if not isinstance(parsed, dict):
            raise ParametersError(f"the definition is a JSON {type(parsed).__name__}, not an object")
        return _DECLARED.validate_python(parsed.get("Parameters") or [])
    except json.JSONDecodeError as error:
        raise ParametersError(f"the definition is not JSON: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ParametersError(f"the definition's Parameters.{where}: {first['msg']}") from None


def check_pipeline_names(names: object) -> list[str]:
    """
    Refuse what cannot be the names of pipelines, before AWS is asked.

    :param names: the argument.
    :return: the names, each once, in their order.
    :raises ParametersError: naming what is wrong and the form it must have.
    """
    try:
        return list(dict.fromkeys(_PIPELINE_NAMES.validate_python(names)))
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]["input"]
        raise ParametersError(
            f"{_shown(wrong)} is not legal for pipeline names: give names of letters, digits and hyphens, "
            "beginning and ending with a letter or digit, at most 256, in a list."
        ) from None


def check_execution_arn(execution_arn: object) -> None:
    """
    Refuse what is not an execution's ARN, before AWS is asked.

    :param execution_arn: the argument.
    :raises ParametersError: naming it and the form it must have.
    """
    try:
        _EXECUTION_ARN.validate_python(execution_arn)
    except ValidationError:
        raise ParametersError(
            f"execution_arn = {_shown(execution_arn)} is not an execution's ARN: give "
            "arn:aws:sagemaker:<region>:<account>:pipeline/<name>/execution/<id>, such as the XCom "
            "'execution_arn' of the task that started it."
        ) from None
