"""
Validates the request that starts the job of a step, with the values that it has when
the step starts, as the API of the job does.

The form of the reasons is that of public reports of failed steps: issues 3758 and 4140
of https://github.com/aws/sagemaker-python-sdk. Such a step has no job.
"""

from __future__ import annotations

import re
from typing import Any, Final

from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagemaker_emulator import texts
from sagemaker_emulator.engine.expressions import (
    ExpressionError,
    Unknown,
    evaluate_all,
    text,
)
from sagemaker_emulator.engine.step_runs import StepRun
from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.sagemaker.definition_checks.rules import (
    request_shape,
    rules,
    start_operation,
)
from sagemaker_emulator.sagemaker.jobs.names import job_name, source_of
from sagemaker_emulator.sagemaker.request_rules import broken_rules
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region
from sagemaker_emulator.sagemaker.validation import check_request

# A name may have 256 characters:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html.
# Issue 2933 of the SDK has these words of AWS for a longer name than this.
_MAX_PIPELINE_NAME: Final = 82


def refusal(region: Region, record: ExecutionRecord, run: StepRun) -> str | None:
    """
    Return why AWS refuses to start the job of a step, as the reason of its failure;
    None if it does not refuse it, or if the step starts no job of SageMaker.

    :param region: the region.
    :param record: the execution.
    :param run: the run of the step, which has just started.
    """
    operation = start_operation(run.step.type, run.step.arguments)
    if operation is None:
        return None
    try:
        problem = _problem(region, record, run)
    except ExpressionError as error:
        return str(error)
    if problem is None:
        return None
    return (
        f"ClientError: Failed to invoke sagemaker:{operation}. Error Details: {problem}"
    )


def _problem(region: Region, record: ExecutionRecord, run: StepRun) -> str | None:
    name = record.pipeline.name
    if len(name) > _MAX_PIPELINE_NAME:
        return (
            f'[string "{name}" is too long (length: {len(name)}, maximum allowed:'
            f" {_MAX_PIPELINE_NAME})] for pipelineName"
        )
    scope = record.engine.scope_of(run.step)
    arguments = evaluate_all(dict(run.step.arguments), scope, shown=_kept)
    if not isinstance(arguments, dict):
        # All of them are one reference.
        return None
    shape = request_shape(run.step.type, arguments)
    made_by_aws = dict.fromkeys(rules()["not_required"].get(shape.name, ()), "x")
    request = _with_texts(shape, {**made_by_aws, **arguments})
    unchecked = frozenset(rules()["not_checked_at_start"]["shapes"])
    try:
        request, _ = check_request(shape, request, unchecked)
    except ApiError as error:
        return error.message
    for path, value, rule, published in broken_rules(shape, request):
        return published or _violation(path, value, rule)
    if run.step.type == "Transform":
        return _missing_model(region, record, request["ModelName"])
    return None


def _kept(value: Unknown) -> Unknown:
    return value


def _with_texts(shape: Shape, value: Any) -> Any:
    """
    Return a request with texts where it must have some: an expression may stand for a
    number.
    """
    if shape.type_name == "string" and isinstance(value, int | float):
        return text(value)
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        members = shape.members
        return {
            name: _with_texts(members[name], item) if name in members else item
            for name, item in value.items()
        }
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {name: _with_texts(shape.value, item) for name, item in value.items()}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_with_texts(shape.member, item) for item in value]
    return value


def _violation(path: str, value: Any, rule: str) -> str:
    """Return that a rule is violated of which there is no public text of AWS."""
    place = re.sub(r"(?:^|\.)[A-Z]", lambda match: match[0].lower(), path)
    return (
        f"1 validation error detected: Value '{texts.shown(value)}' at '{place}' failed"
        f" to satisfy constraint: {rule}"
    )


def _missing_model(region: Region, record: ExecutionRecord, name: Any) -> str | None:
    """
    Return that there is no model with a name; None if there may be one.

    Clients create models in moto, steps do not. As long as there is no model at all,
    the emulator takes any name for one of the account's.
    """
    created = {*region.models(), *_models_of(region, record)}
    if isinstance(name, Unknown) or name in created or not created:
        return None
    for identifier in re.findall(r"(?<![^-])[a-z0-9]{12}(?![^-])", name):
        other = region.execution_with_id(identifier)
        if other is not None and name in _models_of(region, other):
            return None
    # Public logs have these words of CreateEndpointConfig.
    return f'Could not find model "{region.arn("model", name)}".'


def _models_of(region: Region, record: ExecutionRecord) -> list[str]:
    """Return the names of the models that the steps of an execution have made."""
    made: list[str] = []
    for run in record.engine.history:
        if run.step.type == "Model" and run.status == "Succeeded":
            source, earlier = source_of(record, run)
            made.append(job_name(region, source, earlier, earlier.attempt))
    return made
