"""Owns the import: the account's pipelines as Polysync jobs."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.execution.models import DeclaredParameter, Job, PipelineDescription
from polysync_airflow.execution.parameters import check_pipeline_names, declared_parameters
from polysync_airflow.hooks import PolysyncSageMakerHook

# A pipeline's name, and None if there is no such pipeline. A definition can have 1 MiB: only what a job
# tells of it is kept.
Found = tuple[str, Job | None]


def import_jobs(
    hook: PolysyncSageMakerHook, *, name_prefix: str | None = None, names: Sequence[str] | None = None
) -> list[Job]:
    """
    Describe pipelines as jobs, sorted by name: several at a time, at the connection's pace.

    :param hook: the connection to AWS.
    :param name_prefix: only pipelines whose names begin so.
    :param names: only these; each must exist.
    :raises ParametersError: if both are given, or a name does not exist.
    :raises SageMakerApiError: if AWS refuses.
    """
    if names is None:
        jobs = _all(hook, name_prefix or "")
    elif name_prefix:
        raise ParametersError("pipeline_name_prefix and pipeline_names are both given: give one of them.")
    else:
        jobs = _named(hook, check_pipeline_names(names))
    return sorted(jobs, key=lambda job: job.name)


def _all(hook: PolysyncSageMakerHook, prefix: str) -> list[Job]:
    # AWS takes only what could be a whole name, as "churn-" could not: it gets "churn", and we look closer.
    asked = prefix.rstrip("-")
    check_pipeline_names([asked] if asked else [])
    jobs = []
    with _lane(hook) as lane:
        listed = hook.list_pipelines(asked or None, through=lane.call)
        names = (summary.name for summary in listed if summary.name.startswith(prefix))
        for name, job in _described(hook, lane, names):
            if job is None:
                hook.log.info("Pipeline %s was deleted while the list was read: skipped.", name)
            else:
                jobs.append(job)
    return jobs


def _named(hook: PolysyncSageMakerHook, names: Sequence[str]) -> list[Job]:
    with _lane(hook) as lane:
        found = dict(_described(hook, lane, names))
        missing = [name for name, job in found.items() if job is None]
        if missing:
            existing = [summary.name for summary in hook.list_pipelines(through=lane.call)]
            raise ParametersError(_not_found(missing, existing, hook))
    return [job for job in found.values() if job]


def _not_found(missing: Sequence[str], existing: Sequence[str], hook: PolysyncSageMakerHook) -> str:
    lines = [f"These pipeline_names do not exist in region {hook.region_name}:"]
    folded = {name.casefold(): name for name in existing}
    for name in missing:
        near = difflib.get_close_matches(name.casefold(), folded, n=3)
        found = f"near it: {', '.join(folded[match] for match in near)}" if near else "nothing near it"
        lines.append(f"- {name!r} ({found})")
    return "\n".join(lines)


def _lane(hook: PolysyncSageMakerHook) -> ConcurrentCalls:
    # pydantic builds a model when it is first used, and threads that use it first at the same time can meet
    # it half built.
    for model in (PipelineDescription, Job):
        model.model_rebuild()
    declared_parameters("{}")
    return ConcurrentCalls(
        hook, rate_limiter_for((hook.polysync_conn_id, hook.region_name), time.monotonic())
    )


def _described(hook: PolysyncSageMakerHook, lane: ConcurrentCalls, names: Iterable[str]) -> Iterator[Found]:
    for name, job in lane.map(partial(_describe, hook), names):
        if job and job.parameters_error:
            hook.log.warning(
                "The parameters of pipeline %s could not be read: %s", job.name, job.parameters_error
            )
        yield name, job


def _describe(hook: PolysyncSageMakerHook, name: str) -> Found:
    try:
        pipeline = hook.describe_pipeline(name)
    except SageMakerApiError as error:
        if error.error_code == "ResourceNotFound":
            return name, None
        raise
    return name, _job(pipeline)


def _job(pipeline: PipelineDescription) -> Job:
    parameters: list[DeclaredParameter] = []
    problem = None
    try:
        parameters = declared_parameters(pipeline.definition)
    except ParametersError as error:
        problem = str(error)
    facts = pipeline.model_dump(exclude={"definition"})
    return Job(**facts, parameters=parameters, parameters_error=problem)
