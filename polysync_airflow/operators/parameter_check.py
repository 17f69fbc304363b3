"""
Compares the parameters and the selected steps of a start with the pipeline's
definition, before the start or after AWS has refused it.

After a refusal, it also looks for the pipeline whose name was probably meant.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from polysync_airflow import exceptions
from polysync_airflow.execution import pipelines
from polysync_airflow.execution.models import (
    LATEST,
    ManagedBy,
    StartRequest,
    is_managed,
    pipeline_name_of,
)
from polysync_airflow.execution.texts import clean_line, first_problems
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.importer import near_pipelines

# How many executions are listed to find the latest one that can be a source.
MAX_SOURCES: Final = 1000


def check_selection(definition: str | None, request: StartRequest) -> None:
    """
    Compare the selected steps of a start with the definition of the pipeline before the
    start.

    :raises ParametersError: a step does not exist, or the selection breaks one of AWS's
        rules.
    """
    problems = _problems(definition, request)
    if problems:
        raise exceptions.ParametersError(
            _listed("selected_steps", problems, request, " Nothing was started.")
        )


def with_source(
    hook: PolysyncSageMakerHook,
    request: StartRequest,
    retry: Callable[[Callable[[], Any]], Any],
) -> StartRequest:
    """
    Return a start request whose ``source_execution`` is an ARN. In place of ``latest``,
    that is the newest execution that can be the source.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html

    :param retry: calls a function again while AWS's errors are transient.
    :raises ParametersError: none of the newest executions can be a source.
    :raises SageMakerApiError: the executions cannot be listed.
    """
    if request.source_execution != LATEST:
        return request
    executions = hook.find_pipeline_executions(
        request.pipeline_name, created_after=None, newest_first=True, through=retry
    )
    count = 0
    for execution in islice(executions, MAX_SOURCES):
        if execution.status in pipelines.SOURCE_STATUSES:
            return request.model_copy(
                update={"source_execution": execution.execution_arn}
            )
        count += 1
    newest = f"of its {count:,} executions"
    if count == MAX_SOURCES:
        newest = f"of the newest {count:,} executions"
    name = pipeline_name_of(request.pipeline_name)
    raise exceptions.ParametersError(
        f"source_execution = {LATEST!r}: pipeline {name} has no execution that can be"
        f" the source. None {newest} has the status"
        f" {' or '.join(pipelines.SOURCE_STATUSES)}. Nothing was started. Give the ARN"
        " of an execution, or leave selected_steps out once, so that all steps run."
    )


def explain_selection(
    hook: PolysyncSageMakerHook, request: StartRequest, definition: str | None
) -> list[str]:
    """
    Return why AWS may have refused the selected steps of a start: one line for each
    problem that is found.

    If the steps fit the definition, this costs the calls that describe the source and
    list its steps.

    :param hook: the hook for the region of the start.
    """
    if not request.selected_steps:
        return []
    problems = _problems(definition, request)
    if problems or not request.source_execution:
        return problems
    source = request.source_execution
    try:
        status = hook.describe_pipeline_execution(source).status
        if status not in pipelines.SOURCE_STATUSES:
            statuses = " or ".join(pipelines.SOURCE_STATUSES)
            return [
                f"source_execution: {source} has the status {status}; give an execution"
                f" that is {statuses}"
            ]
        steps = hook.list_pipeline_execution_steps(source)
    except exceptions.PolysyncError as error:
        if exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
            return [missing_source(source)]
        return [
            f"The source execution could not be checked: {clean_line(str(error), 1000)}"
        ]
    succeeded = {
        step.name for step in steps if step.status == pipelines.REUSABLE_STATUS
    }
    declared = pipelines.declared_steps(definition)
    return first_problems(
        [
            f"source_execution: step {name} has not succeeded in {source}; select it,"
            " too, or give another one"
            for name in pipelines.reused_steps(request.selected_steps, declared)
            if name not in succeeded
        ]
    )


def missing_source(source: str) -> str:
    """
    Return what is wrong with a source execution that does not exist, and the cure.
    """
    return (
        f"source_execution: {source} does not exist; give another execution, or"
        f" {LATEST!r}"
    )


def _problems(definition: str | None, request: StartRequest) -> list[str]:
    declared = pipelines.declared_steps(definition)
    if not declared:
        # AWS decides about a definition that this version cannot read.
        return []
    return first_problems(
        pipelines.selection_problems(
            request.selected_steps or (),
            declared,
            has_source=request.source_execution is not None,
        )
    )


def check_parameters(definition: str | None, request: StartRequest) -> None:
    """
    Compare the parameters of a start with the definition of the pipeline before the
    start.

    :raises ParametersError: the parameters do not fit, or the definition cannot be
        read.
    """
    try:
        declared = pipelines.declared_parameters(definition)
    except exceptions.ParametersError as error:
        raise exceptions.ParametersError(
            f"Nothing was started, because validate_parameters=True and {error}."
            " Correct the definition, or leave validate_parameters out."
        ) from None
    problems = pipelines.parameter_problems(request.pipeline_parameters, declared)
    if problems:
        raise exceptions.ParametersError(
            _listed("parameters", problems, request, " Nothing was started.")
        )


def explain_refusal(
    hook: PolysyncSageMakerHook,
    request: StartRequest,
    error: exceptions.SageMakerApiError,
) -> exceptions.SageMakerApiError:
    """
    Return the error of a refused start with what is wrong with its parameters, or with
    the similar name of a pipeline that exists. This costs one call to AWS; for the
    name, one for each hundred pipelines. A source execution that does not exist is
    named without a call.

    :param hook: the hook for the region of the start.
    :return: an error with the same code, operation and meaning. Errors other than
        ValidationException and ResourceNotFound are returned as they are, without a
        call.
    """
    if exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
        return _with_similar_name(hook, request, error)
    if error.operation != "StartPipelineExecution":
        return error
    if not exceptions.has_code(error, exceptions.VALIDATION):
        return error
    try:
        definition = describe_version(hook, request).definition
        declared = pipelines.declared_parameters(definition)
    except exceptions.PolysyncError as reason:
        return error.with_message(
            f"{error}\nThe parameters could not be compared with the definition of the"
            f" pipeline: {clean_line(str(reason), 1000)}"
        )
    subject = "parameters"
    problems = pipelines.parameter_problems(request.pipeline_parameters, declared)
    if not problems:
        subject = "selected_steps"
        problems = explain_selection(hook, request, definition)
    if problems:
        listed = _listed(subject, problems, request)
        return error.with_message(f"{listed}\n{error}")
    return error.with_message(
        f"{error}\nThe parameters fit the definition of the pipeline, so the cause is"
        " elsewhere."
    )


def describe_version(
    hook: PolysyncSageMakerHook, request: StartRequest
) -> pipelines.PipelineDescription:
    """
    Describe the version of the pipeline that a start would run.

    :raises SageMakerApiError: the call failed.
    """
    return hook.describe_pipeline(
        request.pipeline_name,
        request.pipeline_version_id,
        version_alias=request.pipeline_version_alias,
    )


def _with_similar_name(
    hook: PolysyncSageMakerHook,
    request: StartRequest,
    error: exceptions.SageMakerApiError,
) -> exceptions.SageMakerApiError:
    source = request.source_execution
    if source and source in str(error):
        return error.with_message(f"{error}\n{missing_source(source)}")
    alias = request.pipeline_version_alias
    if alias and alias in str(error):
        return error.with_message(
            f"{error}\nThe pipeline may have no version with the alias {alias!r}."
        )
    name = request.pipeline_name
    managed_by: ManagedBy = "CUSTOMER"
    if is_managed(name):
        managed_by = "AWS"
    elif name.startswith("arn:"):
        return error
    try:
        near_names, _ = near_pipelines(hook, name, managed_by)
    except exceptions.PolysyncError:
        # The identity may not list pipelines. The error of the start says what to do.
        return error
    if not near_names or name in near_names:
        return error
    return error.with_message(f"{error}\nDid you mean {near_names[0]}?")


def _listed(
    subject: str, problems: list[str], request: StartRequest, consequence: str = ""
) -> str:
    # The name, which is the end of an ARN: Airflow shows 100 characters of a line.
    pipeline = pipeline_name_of(request.pipeline_name)
    version = request.pipeline_version_id or request.pipeline_version_alias
    if version:
        pipeline = f"{pipeline} version {version}"
    verdict = f"The {subject} do not fit pipeline {pipeline}.{consequence}"
    return "\n- ".join((verdict, *problems))
