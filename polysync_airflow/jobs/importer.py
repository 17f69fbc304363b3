"""Imports the pipelines of an account and region as jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final

from polysync_airflow import exceptions
from polysync_airflow.aws.concurrent_calls import WORKERS, ConcurrentCalls
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.execution import clock, pipelines, texts
from polysync_airflow.execution.models import (
    ExecutionDescription,
    ManagedBy,
    name_or_arn,
)
from polysync_airflow.execution.parameters import check_pipeline_names
from polysync_airflow.execution.pipelines import (
    DeclaredParameter,
    DeclaredStep,
    Job,
    PipelineDescription,
)
from polysync_airflow.execution.steps.descriptions import STEP_TYPES, StepDescription
from polysync_airflow.hooks import PolysyncSageMakerHook

OnDescribed = Callable[[str], object] | None
# How many pipelines are listed to find the name that a misspelled one means: ten calls.
MAX_COMPARED: Final = 1000
MAX_NEAR: Final = 5


def import_jobs(
    hook: PolysyncSageMakerHook,
    *,
    name_prefix: str | None = None,
    names: Sequence[str] | None = None,
    managed_by: ManagedBy = "CUSTOMER",
    on_described: OnDescribed = None,
) -> list[Job]:
    """
    Describe pipelines as jobs, several at the same time, under the connection's rate
    limiter.

    :param hook: the hook, best with the config ``aws.sessions.RATE_LIMITED_CONFIG``.
    :param name_prefix: only pipelines whose names begin with it.
    :param names: only these pipelines, by name or ARN; each must exist.
    :param managed_by: ``CUSTOMER`` for the pipelines of the account, ``AWS`` for those
        that AWS manages.
    :param on_described: called in this thread with the name or ARN of each pipeline
        that has been described.
    :return: the jobs, sorted by name.
    :raises ParametersError: if ``names`` are given together with another choice, or if
        one of them does not exist.
    :raises SageMakerApiError: if AWS refuses a call.
    """
    if name_prefix is not None and not isinstance(name_prefix, str):
        raise ParametersError(
            f"pipeline_name_prefix = {name_prefix!r:.100} is not valid: give the"
            " beginning of a pipeline name."
        )
    if names is not None and (name_prefix or managed_by == "AWS"):
        argument = "pipeline_name_prefix" if name_prefix else "managed_by"
        raise ParametersError(
            f"{argument} and pipeline_names are both given: give one of them."
        )
    pipelines: Iterable[str] = ()
    if names is not None:
        pipelines = check_pipeline_names(names)
    with concurrent_calls(hook) as calls:
        if names is None:
            pipelines = pipelines_with(hook, name_prefix or "", managed_by, calls)
        jobs: dict[str, Job | None] = {}
        for name, job, warnings in calls.map(partial(_describe, hook), pipelines):
            for warning in warnings:
                hook.log.warning("Pipeline %s: %s", name, warning)
            if on_described:
                on_described(name)
            jobs[name] = job
    missing = [name for name, job in jobs.items() if job is None]
    if missing and names is not None:
        raise ParametersError(
            f"These pipeline_names do not exist in region {hook.region_name}: "
            + ", ".join(texts.first_problems(missing))
        )
    for name in missing:
        hook.log.info("Pipeline %s was deleted during the import: skipped.", name)
    return sorted((job for job in jobs.values() if job), key=lambda job: job.name)


def pipelines_with(
    hook: PolysyncSageMakerHook,
    prefix: str,
    managed_by: ManagedBy,
    calls: ConcurrentCalls,
) -> Iterator[str]:
    """
    Return the pipelines whose names begin with a prefix: their names, or the ARNs of
    those that AWS manages.

    :raises ParametersError: no name begins with the prefix, whatever exists.
    """
    # AWS accepts only a prefix that could be a whole name, which "churn-" could not. So
    # it gets "churn", and the names that it returns are filtered here.
    aws_prefix = prefix.rstrip("-")
    if aws_prefix:
        check_pipeline_names([aws_prefix])
    listed = hook.list_pipelines(
        aws_prefix or None, managed_by=managed_by, through=calls.call
    )
    return (
        name_or_arn(pipeline.name, pipeline.arn)
        for pipeline in listed
        if pipeline.name.startswith(prefix)
    )


def near_pipelines(
    hook: PolysyncSageMakerHook, text: str, managed_by: ManagedBy
) -> tuple[list[str], list[str]]:
    """
    Return the pipelines that a misspelled name or ARN, or the beginning of one, may
    mean, and all pipelines.

    :raises SageMakerApiError: AWS refuses to list pipelines.
    """
    listed = islice(hook.list_pipelines(managed_by=managed_by), MAX_COMPARED)
    is_arn = text.startswith("arn:")
    names = [pipeline.arn if is_arn else pipeline.name for pipeline in listed]
    similar = texts.nearest_name(text, (name[: len(text)] for name in names))
    if not similar:
        return [], names
    return [name for name in names if name.startswith(similar)], names


def no_pipeline_error(
    hook: PolysyncSageMakerHook,
    option: str,
    text: str,
    managed_by: ManagedBy = "CUSTOMER",
) -> ParametersError:
    """
    Return the error for a name, or the beginning of one, that no pipeline has. The
    error names similar pipelines.

    :param option: the option of the command that has the text.
    """
    near, names = near_pipelines(hook, text, managed_by)
    if near:
        cure = f"Did you mean {', '.join(near[:MAX_NEAR])}?"
    else:
        cure = f"Pipelines there: {', '.join(names[:MAX_NEAR]) or 'none'}."
    return ParametersError(
        f"{option} {texts.shorten(text)}: there is no such pipeline in region"
        f" {hook.client_region}. {cure}"
    )


def describe_import(jobs: Sequence[Job]) -> list[str]:
    """
    Return lines that say what an import has found, and which jobs cannot be started as
    they are.
    """
    lines = []
    for job in jobs:
        required = [
            parameter.name for parameter in job.parameters if parameter.default is None
        ]
        if job.parameters_error:
            lines.append(
                f"{job.name} cannot be started by its defaults: {job.parameters_error}"
            )
        elif required:
            lines.append(f"{job.name} needs a value for: {', '.join(required)}")
    return [f"Imported {len(jobs):,} jobs.", *texts.first_problems(lines)]


def concurrent_calls(hook: PolysyncSageMakerHook) -> ConcurrentCalls:
    """Return the context in which a hook makes many calls at the same time."""
    # pydantic builds a model on first use. Threads that use it for the first time at
    # the same time can see it half built.
    for model in (PipelineDescription, Job, ExecutionDescription, StepDescription):
        model.model_rebuild()
    pipelines.declared_parameters("{}")
    pipelines.job_steps(())
    limiter = rate_limiter_for(
        (hook.polysync_conn_id, hook.region_name), clock.monotonic()
    )
    # More threads than connections would connect anew for each call. One connection is
    # for this thread, which lists the pipelines. Reading the number makes the hook's
    # client here, before the threads share it.
    workers = max(1, min(WORKERS, hook.max_pool_connections - 1))
    return ConcurrentCalls(
        limiter, hook.log.warning, workers=workers, outage_seconds=hook.outage_seconds
    )


def _describe(
    hook: PolysyncSageMakerHook, name: str
) -> tuple[str, Job | None, Sequence[str]]:
    try:
        pipeline = hook.describe_pipeline(name)
    except SageMakerApiError as error:
        if exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
            return name, None, ()
        raise
    declared = pipelines.declared_steps(pipeline.definition)
    steps, steps_error = pipelines.job_steps(declared)
    # The job is without the definition, which can have 1 MiB.
    job = _job(pipeline, hook.client_region).model_copy(update={"steps": steps})
    return name, job, list(_warnings(job, declared, steps_error))


def _warnings(
    job: Job, declared: Sequence[DeclaredStep], steps_error: str | None
) -> Iterator[str]:
    if job.parameters_error:
        yield f"its parameters cannot be read: {job.parameters_error}"
    if steps_error:
        yield f"a catalogue cannot have its {steps_error}"
    steps = pipelines.all_steps(declared)
    unknown = [
        f"{step.name} ({step.type or 'no type'})"
        for step in steps
        if step.type not in STEP_TYPES.values()
    ]
    if unknown:
        listed = ", ".join(texts.first_problems(unknown))
        yield (
            "it has steps of a type that AWS does not have, or that is newer than this"
            f" version: {listed}"
        )


def _job(pipeline: PipelineDescription, region: str) -> Job:
    parameters: list[DeclaredParameter] = []
    parameters_error = None
    try:
        parameters = pipelines.declared_parameters(pipeline.definition)
    except ParametersError as error:
        parameters_error = str(error)
    facts = pipeline.model_dump(exclude={"definition"})
    return Job(
        **facts,
        region=region,
        definition_digest=pipelines.definition_digest(pipeline.definition),
        parameters=parameters,
        parameters_error=parameters_error,
    )
