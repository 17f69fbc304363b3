"""Compares the parameters of a start with the pipeline's definition, before the start or after a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polysync_airflow.exceptions import (
    VALIDATION,
    ParametersError,
    PolysyncError,
    SageMakerApiError,
    has_code,
)
from polysync_airflow.execution.models import StartRequest
from polysync_airflow.execution.pipelines.definition import declared_parameters
from polysync_airflow.execution.pipelines.parameter_problems import parameter_problems
from polysync_airflow.execution.texts import clean_line

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook


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
    Return the error of a refused start with what is wrong with its parameters. This costs one call to AWS.

    :param hook: the hook for the region of the start.
    :return: an error with the same code, operation and meaning. Errors other than ValidationException are
        returned as they are, without a call.
    """
    if error.operation != "StartPipelineExecution" or not has_code(error, VALIDATION):
        return error
    try:
        pipeline = hook.describe_pipeline(request.pipeline_name, request.pipeline_version_id)
        problems = parameter_problems(request.pipeline_parameters, declared_parameters(pipeline.definition))
    except PolysyncError as reason:
        return error.with_message(
            f"{error}\nThe parameters could not be compared with the definition of the pipeline: "
            f"{clean_line(str(reason), 1000)}"
        )
    if problems:
        return error.with_message(f"{_listed(problems, request)}\n{error}")
    return error.with_message(
        f"{error}\nThe parameters fit the definition of the pipeline, so the cause is elsewhere."
    )


def _listed(problems: list[str], request: StartRequest, consequence: str = "") -> str:
    version = f" version {request.pipeline_version_id}" if request.pipeline_version_id else ""
    # The name, which is the end of an ARN: Airflow shows 100 characters of a line.
    name = request.pipeline_name.rsplit("/", 1)[-1]
    lines = (f"- {problem}" for problem in problems)
    return "\n".join((f"The parameters do not fit pipeline {name}{version}.{consequence}", *lines))
