"""Owns the import: the account's pipelines as Polysync jobs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.models import DeclaredParameter, Job, PipelineDescription
from polysync_airflow.parameters import check_pipeline_names, declared_parameters


def import_jobs(
    hook: PolysyncSageMakerHook, *, name_prefix: str | None = None, names: Sequence[str] | None = None
) -> list[Job]:
    """
    Describe pipelines as jobs, sorted by name.

    :param hook: the connection to AWS.
    :param name_prefix: only pipelines whose names begin so.
    :param names: only these; each must exist.
    :raises ParametersError: if both are given, or a name does not exist.
    :raises SageMakerApiError: if AWS refuses.
    """
    if names is None:
        found: Iterable[PipelineDescription] = _existing(hook, _listed(hook, name_prefix or ""))
    elif name_prefix:
        raise ParametersError("pipeline_name_prefix and pipeline_names are both given: give one of them.")
    else:
        found = _named(hook, check_pipeline_names(names))
    return sorted((_job(hook, pipeline) for pipeline in found), key=lambda job: job.name)


def _listed(hook: PolysyncSageMakerHook, prefix: str) -> Iterator[str]:
    # AWS takes only what could be a whole name, as "churn-" could not: it gets "churn", and we look closer.
    asked = prefix.rstrip("-")
    check_pipeline_names([asked] if asked else [])
    for summary in hook.list_pipelines(asked or None):
        if summary.name.startswith(prefix):
            yield summary.name


def _existing(hook: PolysyncSageMakerHook, names: Iterable[str]) -> Iterator[PipelineDescription]:
    for name in names:
        pipeline = _described(hook, name)
        if pipeline is None:
            hook.log.info("Pipeline %s was deleted while the list was read: skipped.", name)
        else:
            yield pipeline


def _named(hook: PolysyncSageMakerHook, names: Sequence[str]) -> list[PipelineDescription]:
    found = {name: _described(hook, name) for name in names}
    missing = [name for name, pipeline in found.items() if pipeline is None]
    if missing:
        raise ParametersError(_not_found(missing, [summary.name for summary in hook.list_pipelines()], hook))
    return [pipeline for pipeline in found.values() if pipeline]


def _not_found(missing: Sequence[str], existing: Sequence[str], hook: PolysyncSageMakerHook) -> str:
    lines = [f"These pipeline_names do not exist in region {hook.region_name}:"]
    folded = {name.casefold(): name for name in existing}
    for name in missing:
        near = difflib.get_close_matches(name.casefold(), folded, n=3)
        found = f"near it: {', '.join(folded[match] for match in near)}" if near else "nothing near it"
        lines.append(f"- {name!r} ({found})")
    return "\n".join(lines)


def _described(hook: PolysyncSageMakerHook, name: str) -> PipelineDescription | None:
    try:
        return hook.describe_pipeline(name)
    except SageMakerApiError as error:
        if error.error_code == "ResourceNotFound":
            return None
        raise


def _job(hook: PolysyncSageMakerHook, pipeline: PipelineDescription) -> Job:
    parameters: list[DeclaredParameter] = []
    problem = None
    try:
        parameters = declared_parameters(pipeline.definition)
    except ParametersError as error:
        problem = str(error)
        hook.log.warning("The parameters of pipeline %s could not be read: %s", pipeline.name, problem)
    facts = pipeline.model_dump(exclude={"definition"})
    return Job(**facts, parameters=parameters, parameters_error=problem)
