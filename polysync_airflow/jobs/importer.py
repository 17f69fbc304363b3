"""Imports the pipelines of an account and region as jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from polysync_airflow import exceptions
from polysync_airflow.aws.concurrent_calls import WORKERS, ConcurrentCalls
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.responses import invalid_response_error
from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.execution import clock, pipelines, texts
from polysync_airflow.execution.models import (
    ExecutionDescription,
    ManagedBy,
    name_or_arn,
    pipeline_name_of,
)
from polysync_airflow.execution.parameters import check_pipeline_names
from polysync_airflow.execution.pipelines import (
    DeclaredParameter,
    DeclaredStep,
    Job,
    PipelineDescription,
)
from polysync_airflow.execution.steps.descriptions import STEP_TYPES, StepDescription
from polysync_airflow.hooks import PolysyncSageMakerHook, executions
from polysync_airflow.jobs.catalogue import is_job

OnDescribed = Callable[[str], object] | None
# How many pipelines are listed to find the name that a misspelled one means: ten calls.
MAX_COMPARED: Final = 1000
MAX_NEAR: Final = 5
# How many pipelines that were left out the XCom names.
MAX_LISTED: Final = 100

Reason = Literal["denied", "invalid"]


class NotImported(NamedTuple):
    """
    A pipeline that an import has left out.

    :param name: its name or ARN; of an entry of the list without a valid name, what it
        has in place of one.
    :param reason: ``denied`` if the identity may not describe it, ``invalid`` if AWS
        refuses its name, or what AWS says of it cannot be used.
    :param error: the error, with the cure.
    """

    name: str
    reason: Reason
    error: SageMakerApiError

    def as_json(self) -> dict[str, str]:
        """Return it as plain data."""
        message = texts.clean_line(str(self.error))
        return {"name": self.name, "reason": self.reason, "message": message}


OnNotImported = Callable[[NotImported], object]


class _Described(NamedTuple):
    """
    What became of a pipeline in an import.

    :param job: None if the pipeline does not exist, or could not be described.
    :param error: why it could not be described.
    """

    name: str
    job: Job | None = None
    warnings: Sequence[str] = ()
    error: SageMakerApiError | None = None


def import_jobs(
    hook: PolysyncSageMakerHook,
    *,
    name_prefix: str | None = None,
    names: Sequence[str] | None = None,
    managed_by: ManagedBy = "CUSTOMER",
    on_described: OnDescribed = None,
    on_not_imported: OnNotImported | None = None,
) -> list[Job]:
    """
    Describe pipelines as jobs, several at the same time, under the connection's rate
    limiter. Those that tasks make are left out, unless ``name_prefix`` or ``names``
    asks for them.

    A pipeline that may not be described, or of which AWS says what cannot be used, is
    left out with a warning. The import fails if that is so for all of them, or for one
    that was asked for by its name. It fails at once if AWS cannot be reached, throttles
    for long, or refuses the list or the credentials: that is so for all pipelines.

    :param hook: the hook, best with the config ``aws.sessions.RATE_LIMITED_CONFIG``.
    :param name_prefix: only pipelines whose names begin with it.
    :param names: only these pipelines, by name or ARN; each must exist.
    :param managed_by: ``CUSTOMER`` for the pipelines of the account, ``AWS`` for those
        that AWS manages.
    :param on_described: called in this thread with the name or ARN of each pipeline
        that has been described.
    :param on_not_imported: called in this thread with each pipeline that is left out.
    :return: the jobs, sorted by name.
    :raises ParametersError: if ``names`` are given together with another choice, or if
        one of them does not exist.
    :raises SageMakerApiError: if AWS refuses a call that concerns all pipelines, or all
        pipelines, or one of ``names``.
    """
    if name_prefix is not None and not isinstance(name_prefix, str):
        raise texts.invalid_argument(
            "pipeline_name_prefix", name_prefix, "give the beginning of a pipeline name"
        )
    if names is not None and (name_prefix or managed_by == "AWS"):
        argument = "pipeline_name_prefix" if name_prefix else "managed_by"
        raise ParametersError(
            f"{argument} and pipeline_names are both given: give one of them."
        )
    pipelines: Iterable[str] = ()
    if names is not None:
        pipelines = check_pipeline_names(names)
    found = _Found(hook, on_not_imported)
    with concurrent_calls(hook) as calls:
        if names is None:
            prefix = name_prefix or ""
            listed = pipelines_with(
                hook, prefix, managed_by, calls, found.add_invalid_entry
            )
            pipelines = found.without_those_of_tasks(listed, prefix)
        for described in calls.map(partial(_describe, hook), pipelines):
            if on_described:
                on_described(described.name)
            found.add(described)
    if found.missing and names is not None:
        raise ParametersError(
            f"These pipeline_names do not exist in region {hook.region_name}: "
            + ", ".join(texts.first_problems(found.missing))
        )
    for name in found.missing:
        hook.log.info("Pipeline %s was deleted during the import: skipped.", name)
    if found.left_out and (names is not None or not found.jobs):
        raise found.error
    return sorted(found.jobs.values(), key=lambda job: job.name)


class _Found:
    """What an import has found so far."""

    def __init__(
        self, hook: PolysyncSageMakerHook, on_not_imported: OnNotImported | None
    ) -> None:
        # AWS may list a pipeline twice if others are created or deleted meanwhile.
        self.jobs: dict[str, Job] = {}
        self.missing: list[str] = []
        self.left_out: list[NotImported] = []
        self._log = hook.log
        self._on_not_imported = on_not_imported

    def without_those_of_tasks(
        self, names: Iterable[str], prefix: str
    ) -> Iterator[str]:
        """Yield pipelines but those that tasks make; then say how many these are."""
        count = 0
        for name in names:
            if is_job(name, prefix):
                yield name
            else:
                count += 1
        if count:
            self._log.warning(
                "%s pipelines that Airflow tasks make are no jobs: left out. The prefix"
                " airflow- imports them.",
                f"{count:,}",
            )

    def add(self, described: _Described) -> None:
        """Add what became of a pipeline."""
        name = described.name
        for warning in described.warnings:
            self._log.warning("Pipeline %s: %s", name, warning)
        if described.job:
            self.jobs[name] = described.job
        elif described.error:
            self._leave_out(name, _reason(described.error), described.error)
        else:
            self.missing.append(name)

    def add_invalid_entry(self, entry: Any, problem: str) -> None:
        """Leave out an entry of the list that is not valid."""
        error = invalid_response_error("ListPipelines", problem)
        self._leave_out(_name_in(entry), "invalid", error)

    def _leave_out(self, name: str, reason: Reason, error: SageMakerApiError) -> None:
        pipeline = NotImported(name, reason, error)
        self.left_out.append(pipeline)
        self._log.warning("Pipeline %s is not imported (%s): %s", name, reason, error)
        if self._on_not_imported:
            self._on_not_imported(pipeline)

    @property
    def error(self) -> SageMakerApiError:
        """The error of an import that fails because of what it would leave out."""
        total = len(self.left_out) + len(self.jobs)
        lines = [
            f"- {each.name} ({each.reason}): {each.error}" for each in self.left_out
        ]
        listed = "\n".join(texts.first_problems(lines))
        return self.left_out[0].error.with_message(
            f"{len(self.left_out):,} of {total:,} pipelines cannot be"
            f" imported:\n{listed}"
        )


def _name_in(entry: Any) -> str:
    """Return what an entry of the list that is not valid has in place of a name."""
    name = None
    if isinstance(entry, dict):
        name = entry.get("PipelineName")
    return texts.clean_line(str(name or "without a name"), 64)


def _reason(error: SageMakerApiError) -> Reason:
    if exceptions.has_code(error, exceptions.ACCESS_DENIED):
        return "denied"
    return "invalid"


def _concerns_one(error: SageMakerApiError) -> bool:
    """Return whether an error may concern one pipeline, and not another one."""
    if error.operation != "DescribePipeline":
        # The sign-in may be denied, too.
        return False
    return exceptions.has_code(
        error,
        exceptions.ACCESS_DENIED,
        exceptions.VALIDATION,
        exceptions.RESPONSE_TOO_LARGE,
        exceptions.INVALID_RESPONSE,
    )


def names_of(left_out: Sequence[NotImported]) -> frozenset[str]:
    """Return the names of pipelines that an import has left out."""
    return frozenset(pipeline_name_of(each.name) for each in left_out)


def count_not_imported(left_out: Sequence[NotImported]) -> str:
    """Return how many pipelines an import has left out, such as ``2 (2 denied)``."""
    counts = Counter(each.reason for each in left_out)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return f"{len(left_out):,} ({reasons})"


def pipelines_with(
    hook: PolysyncSageMakerHook,
    prefix: str,
    managed_by: ManagedBy,
    calls: ConcurrentCalls,
    on_invalid: executions.OnInvalid | None = None,
) -> Iterator[str]:
    """
    Return the pipelines whose names begin with a prefix: their names, or the ARNs of
    those that AWS manages.

    :param on_invalid: called with each entry of the list that is not valid, and its
        problem. Default: a warning.
    :raises ParametersError: no name begins with the prefix, whatever exists.
    """
    # AWS accepts only a prefix that could be a whole name, which "churn-" could not. So
    # it gets "churn", and the names that it returns are filtered here.
    aws_prefix = prefix.rstrip("-")
    if aws_prefix:
        check_pipeline_names([aws_prefix])
    listed = hook.list_pipelines(
        aws_prefix or None,
        managed_by=managed_by,
        through=calls.call,
        on_invalid=on_invalid,
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


def _describe(hook: PolysyncSageMakerHook, name: str) -> _Described:
    try:
        pipeline = hook.describe_pipeline(name)
    except SageMakerApiError as error:
        if exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
            return _Described(name)
        if _concerns_one(error):
            return _Described(name, error=error)
        raise
    declared = pipelines.declared_steps(pipeline.definition)
    steps, steps_error = pipelines.job_steps(declared)
    # The job is without the definition, which can have 1 MiB.
    job = _job(pipeline, hook.client_region).model_copy(update={"steps": steps})
    return _Described(name, job, list(_warnings(job, declared, steps_error)))


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
