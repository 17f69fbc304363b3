"""
Reads what the jobs of an execution have made and used, when it has ended.

Each job is described once, one after the other, under the connection's rate limiter. Neither an error of
AWS's nor a damaged file fails the task: a note says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.response_limits import time_limit
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import ACCESS_DENIED, PolysyncError, has_code, is_throttling
from polysync_airflow.execution import clock
from polysync_airflow.execution.pipelines.definition import PropertyFile
from polysync_airflow.execution.results import property_files
from polysync_airflow.execution.results.datasets import Datasets, datasets_of
from polysync_airflow.execution.results.jobs import (
    TRAINING,
    JobDescription,
    JobKind,
    ProcessingJob,
    TuningJob,
    job_of,
    sum_by_instance_type,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.rows import model_package_arns
from polysync_airflow.states import PolysyncState, state_of_step

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

# How long the end of a task may take longer because of all this.
TIMEOUT_SECONDS: Final = 120.0
# How long one call is retried, so that it does not take the time of the others.
CALL_TIMEOUT_SECONDS: Final = 20.0
# How many problems the notes list.
MAX_PROBLEMS: Final = 5

Outputs = Mapping[str, Mapping[str, Any]]


@dataclass
class Results:
    """
    What the jobs of an execution have made and used.

    :param outputs: the XCom ``outputs``.
    :param billed: the seconds for which AWS bills, by the type of instance; None if no job was described.
    :param datasets: what the jobs have read and written.
    :param model_package_arns: the ARNs of the model packages that the execution has registered.
    :param notes: what is missing and why, as sentences.
    """

    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    billed: dict[str, float] | None = None
    datasets: Datasets = field(default_factory=Datasets)
    model_package_arns: Sequence[str] = ()
    notes: tuple[str, ...] = ()


class ResultReader:
    """
    Describes the jobs of one execution, and reads the property files that they wrote.

    :param hook: the hook for the execution's region.
    :param warn: called with a message about a call that fails.
    :param describe_jobs: whether to describe jobs of which no property file is read.
    :param wanted: True for all property files, or the names of some.
    """

    def __init__(
        self,
        hook: PolysyncSageMakerHook,
        execution_arn: str,
        warn: Callable[[str], object],
        *,
        describe_jobs: bool,
        wanted: property_files.PropertyFiles,
    ) -> None:
        self._hook = hook
        self._arn = execution_arn
        self._warn = warn
        self._describe_jobs = describe_jobs
        self._wanted = wanted
        self._limiter = rate_limiter_for((hook.polysync_conn_id, hook.region_name), clock.monotonic())
        self._deadline = clock.time() + TIMEOUT_SECONDS
        # None for a job whose description has failed.
        self._jobs: dict[tuple[JobKind, str], JobDescription | None] = {}
        self._denied: list[str] = []
        self._problems: list[str] = []
        self._late = 0

    def read(self, steps: Sequence[StepDescription], outputs: Outputs) -> Results:
        """
        Return what the steps have made.

        :param outputs: what AWS's list of the steps says, by the name of the step.
        """
        results = Results({name: dict(made) for name, made in outputs.items()})
        described: list[tuple[StepDescription, JobDescription]] = []
        with time_limit(TIMEOUT_SECONDS):
            files = self._declared_files() if self._wanted else {}
            for step in steps:
                wanted = files.get(property_files.declared_name(step.name), ())
                wanted = wanted if _has_succeeded(step) else ()
                jobs = self._describe(step) if self._describe_jobs or wanted else []
                if not jobs:
                    continue
                made = results.outputs.setdefault(step.name, {})
                for job in jobs:
                    results.outputs[step.name] = made = {**job.outputs, **made}
                self._add_files(step.name, wanted, jobs[0], made)
                described += [(step, job) for job in jobs]
        if any(self._jobs.values()):
            results.billed = sum_by_instance_type(job for step, job in described if not step.is_reused)
        reused = {step.name for step in steps if step.is_reused}
        results.model_package_arns = model_package_arns(
            {name: made for name, made in results.outputs.items() if name not in reused}
        )
        results.datasets = datasets_of(
            # An earlier execution has read and written for a step that is reused; this one uses the result.
            (uri for step, job in described for uri in _used_uris(step, job)),
            # What a failed job should have written may be incomplete, or not there at all.
            (
                uri
                for step, job in described
                if _has_succeeded(step) and not step.is_reused
                for uri in job.written_uris
            ),
            results.model_package_arns,
            model_package_arns({name: made for name, made in results.outputs.items() if name in reused}),
        )
        results.notes = self._notes()
        return results

    def _describe(self, step: StepDescription) -> list[JobDescription]:
        named = job_of(step)
        job = self._described(step, *named) if named else None
        if isinstance(job, TuningJob) and job.best_training_job:
            return [job, *filter(None, [self._described(step, TRAINING, job.best_training_job)])]
        return [job] if job else []

    def _described(self, step: StepDescription, kind: JobKind, name: str) -> JobDescription | None:
        key = (kind, name)
        if key not in self._jobs:
            what = f"The job {name} of step {step.name} could not be described"
            describe = partial(self._hook.describe_job, kind, name)
            self._jobs[key] = self._call(kind.operation, describe, what)
        return self._jobs[key]

    def _declared_files(self) -> dict[str, list[PropertyFile]]:
        describe = partial(self._hook.describe_pipeline_definition_for_execution, self._arn)
        what = "The definition, which names the property files, could not be read"
        declared = self._call("DescribePipelineDefinitionForExecution", describe, what)
        if declared is None:
            return {}
        files = property_files.files_to_read(declared, self._wanted)
        missing = property_files.missing_names(files, self._wanted)
        if missing:
            self._problems.append(f"The definition declares no property file {', '.join(missing)}.")
        return files

    def _add_files(
        self, step: str, files: Sequence[PropertyFile], job: JobDescription, made: dict[str, Any]
    ) -> None:
        uris = job.output_uris if isinstance(job, ProcessingJob) else None
        for file in files:
            what = f"Property file {file.name} of step {step}"
            uri = property_files.uri_of(file, uris or {})
            if file.name in made:
                self._problems.append(f"{what} is left out: the step has another output of this name.")
            elif uri is None:
                self._problems.append(f"{what} is left out: the job has no output {file.output} in S3.")
            else:
                read = partial(self._hook.read_object, uri, property_files.MAX_BYTES + 1)
                content = self._call(f"GetObject of {uri}", read, f"{what} could not be read")
                try:
                    if content is not None:
                        made[file.name] = property_files.parse(content)
                except ValueError as error:
                    self._problems.append(f"{what} ({uri}) is left out: {error}.")

    def _call(self, action: str, call: Callable[[], Any], what: str) -> Any:
        """
        Make a call, unless its action is denied or the time is up.

        :param what: what could not be done if it fails.
        :return: the result; None if there is none, for which there is then a note.
        """
        if action in self._denied:
            return None
        now = clock.time()
        if now >= self._deadline:
            self._late += 1
            return None
        until = min(self._deadline, now + CALL_TIMEOUT_SECONDS)
        try:
            return call_with_retry(partial(self._limited, call), until=until, warn=self._warn)
        except PolysyncError as error:
            self._warn(f"{what}: {error}")
            if has_code(error, ACCESS_DENIED) and action.startswith("Describe"):
                self._denied.append(action)
            else:
                self._problems.append(f"{what}: {error}")
        return None

    def _limited(self, call: Callable[[], Any]) -> Any:
        self._limiter.acquire()
        try:
            return call()
        except PolysyncError as error:
            if is_throttling(error):
                self._limiter.throttled(clock.monotonic())
            raise

    def _notes(self) -> tuple[str, ...]:
        notes = self._problems[:MAX_PROBLEMS]
        if len(self._problems) > MAX_PROBLEMS:
            notes.append(f"{len(self._problems) - MAX_PROBLEMS:,} more problems like these are in the log.")
        if self._denied:
            actions = ", ".join(f"sagemaker:{operation}" for operation in self._denied)
            notes.append(
                f"The XCom outputs lacks what jobs say of themselves: allow {actions} in the IAM policy of "
                "the identity, or set describe_jobs=False."
            )
        if self._late:
            notes.append(f"{self._late:,} calls about jobs were not made within {TIMEOUT_SECONDS:.0f} s.")
        return tuple(notes)


def _has_succeeded(step: StepDescription) -> bool:
    return state_of_step(step.status) is PolysyncState.SUCCESS


def _used_uris(step: StepDescription, job: JobDescription) -> Sequence[str | None]:
    return job.written_uris if step.is_reused else job.read_uris or ()
