"""
Compares the parameters of a start with the pipeline's definition, before the start or after a refusal.

After a refusal, it also says what is wrong with the selected steps, and looks for the name that a misspelt
one probably means.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from polysync_airflow.exceptions import (
    RESOURCE_NOT_FOUND,
    VALIDATION,
    ParametersError,
    PolysyncError,
    SageMakerApiError,
    has_code,
)
from polysync_airflow.execution.models import StartRequest
from polysync_airflow.execution.pipelines.definition import declared_parameters
from polysync_airflow.execution.pipelines.parameter_problems import parameter_problems
from polysync_airflow.execution.texts import clean_line, nearest_name
from polysync_airflow.operators.selection import explain_selection, missing_source

if TYPE_CHECKING:
    from polysync_airflow.execution.pipelines.models import PipelineDescription
    from polysync_airflow.hooks import PolysyncSageMakerHook

# How many pipelines are listed to find the name that a misspelt one means: ten calls.
MAX_PIPELINES: Final = 1000


def check_parameters(definition: str | None, request: StartRequest) -> None:
    """
    Compare the parameters of a start with the definition of the pipeline before the start.

    :raises ParametersError: the parameters do not fit, or the definition cannot be read.
    """
    try:
        problems = parameter_problems(request.pipeline_parameters, declared_parameters(definition))
    except ParametersError as error:
        raise ParametersError(
            f"Nothing was started, because validate_parameters=True and {error}. Correct the definition, or "
            "leave validate_parameters out."
        ) from None
    if problems:
        raise ParametersError(_listed(problems, request, " Nothing was started."))


def explain_refusal(
    hook: PolysyncSageMakerHook, request: StartRequest, error: SageMakerApiError
) -> SageMakerApiError:
    """
    Return the error of a refused start with what is wrong with its parameters, or with the similar name of a
    pipeline that exists. This costs one call to AWS; for the name, one for each hundred pipelines. A source
    execution that does not exist is named without a call.

    :param hook: the hook for the region of the start.
    :return: an error with the same code, operation and meaning. Errors other than ValidationException and
        ResourceNotFound are returned as they are, without a call.
    """
    if has_code(error, RESOURCE_NOT_FOUND):
        return _with_similar_name(hook, request, error)
    if error.operation != "StartPipelineExecution" or not has_code(error, VALIDATION):
        return error
    try:
        definition = describe_version(hook, request).definition
        problems = parameter_problems(request.pipeline_parameters, declared_parameters(definition))
    except PolysyncError as reason:
        return error.with_message(
            f"{error}\nThe parameters could not be compared with the definition of the pipeline: "
            f"{clean_line(str(reason), 1000)}"
        )
    if problems:
        return error.with_message(f"{_listed(problems, request)}\n{error}")
    problems = explain_selection(hook, request, definition)
    if problems:
        return error.with_message(
            "\n".join(("The selected steps do not fit:", *_items(problems), str(error)))
        )
    return error.with_message(
        f"{error}\nThe parameters fit the definition of the pipeline, so the cause is elsewhere."
    )


def describe_version(hook: PolysyncSageMakerHook, request: StartRequest) -> PipelineDescription:
    """
    Describe the version of the pipeline that a start would run.

    :raises SageMakerApiError: the call failed.
    """
    return hook.describe_pipeline(
        request.pipeline_name, request.pipeline_version_id, version_alias=request.pipeline_version_alias
    )


def _with_similar_name(
    hook: PolysyncSageMakerHook, request: StartRequest, error: SageMakerApiError
) -> SageMakerApiError:
    name, alias = request.pipeline_name, request.pipeline_version_alias
    source = request.source_execution
    if source and source in str(error):
        return error.with_message(f"{error}\n{missing_source(source)}")
    if alias and alias in str(error):
        return error.with_message(f"{error}\nThe pipeline may have no version with the alias {alias!r}.")
    if name.startswith("arn:"):
        return error
    try:
        names = [pipeline.name for pipeline in islice(hook.list_pipelines(), MAX_PIPELINES)]
    except PolysyncError:
        # The identity may not list pipelines. The error of the start says what to do.
        return error
    similar = nearest_name(name, names)
    return error if similar in (None, name) else error.with_message(f"{error}\nDid you mean {similar}?")


def _listed(problems: list[str], request: StartRequest, consequence: str = "") -> str:
    wanted = request.pipeline_version_id or request.pipeline_version_alias
    version = f" version {wanted}" if wanted else ""
    # The name, which is the end of an ARN: Airflow shows 100 characters of a line.
    name = request.pipeline_name.rsplit("/", 1)[-1]
    first = f"The parameters do not fit pipeline {name}{version}.{consequence}"
    return "\n".join((first, *_items(problems)))


def _items(problems: list[str]) -> list[str]:
    return [f"- {problem}" for problem in problems]
