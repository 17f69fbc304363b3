"""
Compares the parameters and the selected steps of a start with the pipeline's
definition, before the start or after a refusal.

After a refusal, it also looks for the name that a misspelt one probably means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from polysync_airflow import exceptions
from polysync_airflow.execution import pipelines
from polysync_airflow.execution.models import (
    LATEST,
    StartRequest,
    is_managed,
    pipeline_name_of,
)
from polysync_airflow.execution.texts import clean_line, first_problems
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.importer import near_pipelines

# How many pages of executions are listed to find the latest one that can be a source: a
# hundred each.
MAX_PAGES: Final = 10


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
    Return a start request whose ``source_execution`` is an ARN: of ``latest``, the
    newest possible source.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html

    :param retry: calls a function again while AWS's errors are transient.
    :raises ParametersError: none of the newest executions can be a source.
    :raises SageMakerApiError: the executions cannot be listed.
    """
    if request.source_execution != LATEST:
        return request
    token, count = None, 0
    for _ in range(MAX_PAGES):
        list_page = partial(
            hook.list_pipeline_executions, request.pipeline_name, page_token=token
        )
        executions, token = retry(list_page)
        source = next(
            (each for each in executions if each.status in pipelines.SOURCE_STATUSES),
            None,
        )
        if source:
            return request.model_copy(update={"source_execution": source.execution_arn})
        count += len(executions)
        if not token:
            break
    newest = (
        f"of the newest {count:,} executions"
        if token
        else f"of its {count:,} executions"
    )
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
        declared = pipelines.declared_steps(definition)
        return _source_problems(
            hook, source, pipelines.reused_steps(request.selected_steps, declared)
        )
    except exceptions.PolysyncError as error:
        if exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
            return [missing_source(source)]
        return [
            f"The source execution could not be checked: {clean_line(str(error), 1000)}"
        ]


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


def _source_problems(
    hook: PolysyncSageMakerHook, source: str, reused: Sequence[str]
) -> list[str]:
    status = hook.describe_pipeline_execution(source).status
    if status not in pipelines.SOURCE_STATUSES:
        wanted = " or ".join(pipelines.SOURCE_STATUSES)
        return [
            f"source_execution: {source} has the status {status}; give an execution"
            f" that is {wanted}"
        ]
    steps = hook.list_pipeline_execution_steps(source)
    done = {step.name for step in steps if step.status == pipelines.REUSABLE_STATUS}
    cure = "select it, too, or give another one"
    return first_problems(
        [
            f"source_execution: step {name} has not succeeded in {source}; {cure}"
            for name in reused
            if name not in done
        ]
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
    if error.operation != "StartPipelineExecution" or not exceptions.has_code(
        error, exceptions.VALIDATION
    ):
        return error
    try:
        definition = describe_version(hook, request).definition
        declared = pipelines.declared_parameters(definition)
    except exceptions.PolysyncError as reason:
        return error.with_message(
            f"{error}\nThe parameters could not be compared with the definition of the"
            f" pipeline: {clean_line(str(reason), 1000)}"
        )
    if problems := pipelines.parameter_problems(request.pipeline_parameters, declared):
        return error.with_message(
            f"{_listed('parameters', problems, request)}\n{error}"
        )
    if problems := explain_selection(hook, request, definition):
        return error.with_message(
            f"{_listed('selected_steps', problems, request)}\n{error}"
        )
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
    name, alias = request.pipeline_name, request.pipeline_version_alias
    source = request.source_execution
    if source and source in str(error):
        return error.with_message(f"{error}\n{missing_source(source)}")
    if alias and alias in str(error):
        return error.with_message(
            f"{error}\nThe pipeline may have no version with the alias {alias!r}."
        )
    if name.startswith("arn:") and not is_managed(name):
        return error
    try:
        near, _ = near_pipelines(hook, name, "AWS" if is_managed(name) else "CUSTOMER")
    except exceptions.PolysyncError:
        # The identity may not list pipelines. The error of the start says what to do.
        return error
    return (
        error
        if not near or name in near
        else error.with_message(f"{error}\nDid you mean {near[0]}?")
    )


def _listed(
    what: str, problems: list[str], request: StartRequest, consequence: str = ""
) -> str:
    wanted = request.pipeline_version_id or request.pipeline_version_alias
    version = f" version {wanted}" if wanted else ""
    # The name, which is the end of an ARN: Airflow shows 100 characters of a line.
    name = pipeline_name_of(request.pipeline_name)
    return "\n- ".join(
        (f"The {what} do not fit pipeline {name}{version}.{consequence}", *problems)
    )
