"""Validates the arguments of operators and of stored triggers before AWS is called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.models import (
    DISPLAY_NAME_MAX,
    MAX_PARAMETERS,
    ExecutionArn,
    PipelineName,
    StartRequest,
    TriggerArguments,
)
from polysync_airflow.execution.texts import MAX_PROBLEMS, describe_validation_error

# A list of steps costs a call for each execution.
MIN_PROGRESS_INTERVAL: Final = 10.0
MAX_LOG_LINES: Final = 200
_MAX_VALUE_CHARACTERS: Final = 60
_NOT_STARTED: Final = "Nothing was started, because these arguments are not valid:"
# Pydantic builds the validators on first use, which is on a worker: Airflow parses a DAG file every
# 30 seconds.
_DEFER_BUILD = ConfigDict(defer_build=True)
_PIPELINE_NAMES: TypeAdapter[list[str]] = TypeAdapter(list[PipelineName], config=_DEFER_BUILD)
_EXECUTION_ARN: TypeAdapter[str] = TypeAdapter(ExecutionArn, config=_DEFER_BUILD)


def build_start_request(**arguments: Any) -> StartRequest:
    """
    Validate the arguments of a start as far as possible without AWS, and return the request.

    :param arguments: the fields of ``StartRequest``.
    :raises ParametersError: lists each invalid field with its value and what is valid.
    """
    values = arguments.get("pipeline_parameters")
    if isinstance(values, Mapping) and len(values) > MAX_PARAMETERS:
        # Checked first: each of them could have a problem of its own.
        cure = StartRequest.model_fields["pipeline_parameters"].description
        raise ParametersError(f"{_NOT_STARTED}\n- pipeline_parameters = {shorten(values)}. {cure}")
    try:
        return StartRequest(**arguments)
    except ValidationError as error:
        problems = list(islice(_problems(error), MAX_PROBLEMS))
        more = error.error_count() - len(problems)
        if more:
            problems.append(f"- and {more} more")
        raise ParametersError("\n".join((_NOT_STARTED, *problems))) from None


def _problems(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        field, *path = (str(part) for part in problem["loc"])
        name = field + "".join(f"[{shorten(part)}]" for part in path if part != "[key]")
        cure = StartRequest.model_fields[field].description
        yield f"- {name} = {shorten(problem['input'])}: {problem['msg']}. {cure}"


def shorten(value: Any) -> str:
    """
    Return a value as messages show it.

    :param value: the value.
    """
    # An invalid string can have a megabyte, and a collection can hold anything, so only its size is shown.
    if isinstance(value, str) and len(value) > _MAX_VALUE_CHARACTERS:
        return f"{value[:_MAX_VALUE_CHARACTERS]!r}... ({len(value):,} characters)"
    if isinstance(value, (Mapping, list, tuple, set)):
        return f"a {type(value).__name__} of {len(value):,}"
    try:
        return repr(value)[: 2 * _MAX_VALUE_CHARACTERS]
    except ValueError:
        # Python refuses to write integers of more than 4,300 digits.
        return f"a very large {type(value).__name__}"


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
            f"{shorten(invalid)} is not valid as pipeline names: give a list of names. A name has 1 to 256 "
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
            f"execution_arn = {shorten(execution_arn)} is not the ARN of an execution: give "
            "arn:aws:sagemaker:<region>:<account>:pipeline/<name>/execution/<id>, such as the XCom "
            "'execution_arn' of the task that started it."
        ) from None


def check_trigger_arguments(arguments: Mapping[str, Any]) -> TriggerArguments:
    """
    Validate the arguments of a stored trigger.

    :param arguments: the arguments by name.
    :raises ParametersError: an argument is not valid.
    """
    try:
        return TriggerArguments.model_validate(arguments)
    except ValidationError as error:
        raise ParametersError(
            "The trigger that is stored for this task has arguments that are not valid "
            f"({describe_validation_error(error)}). Clear the task. The execution may still be running."
        ) from None


def check_seconds(name: str, value: object, *, minimum: float, maximum: float) -> None:
    """
    Validate an argument that is a number of seconds.

    :param name: name of the argument.
    :param value: its value.
    :param minimum: the least valid number.
    :param maximum: the greatest valid number.
    :raises ParametersError: the value is not such a number.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not minimum <= value <= maximum:  # type: ignore[operator]
        raise ParametersError(
            f"{name} = {shorten(value)} is not valid: give a number of seconds from {minimum:g} to "
            f"{maximum:,.0f}."
        )


def check_count(name: str, value: object, *, maximum: int) -> None:
    """
    Validate an argument that is a whole number from 0.

    :param name: name of the argument.
    :param value: its value.
    :param maximum: the greatest valid number.
    :raises ParametersError: the value is not such a number.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise ParametersError(
            f"{name} = {shorten(value)} is not valid: give a whole number from 0 to {maximum}."
        )


def check_flag(name: str, value: object) -> None:
    """
    Validate an argument that is True or False.

    :param name: name of the argument.
    :param value: its value.
    :raises ParametersError: the value is neither.
    """
    if not isinstance(value, bool):
        raise ParametersError(f"{name} = {shorten(value)} is not valid: give True or False.")


def check_choice(name: str, value: str, choices: Any) -> None:
    """
    Check that an argument has one of the values that are allowed.

    :param name: the name of the argument.
    :param value: its value.
    :param choices: a ``Literal`` type of the allowed values.
    :raises ParametersError: it has another value.
    """
    if value not in get_args(choices):
        raise ParametersError(f"{name} = {value!r} is not valid: give one of {', '.join(get_args(choices))}.")
