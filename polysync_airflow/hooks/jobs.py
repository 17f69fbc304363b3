"""
The methods of the hook for the jobs of steps, and the reader of all jobs of an
execution, which a report at the end and a wait share.

The jobs are described one after the other, under the connection's rate limiter. All
permissions that this needs are optional: no error of AWS's is raised, and a note says
what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from math import inf
from typing import Any, Final, TypeVar

from botocore.validate import ParamValidator

from polysync_airflow.aws import responses
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import ACCESS_DENIED, PolysyncError, has_code
from polysync_airflow.execution import clock, results
from polysync_airflow.execution.job_pipelines import Parameter, is_expression
from polysync_airflow.execution.results import (
    JobDescription,
    JobKind,
    JobOfStep,
    TrainingJobSummary,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.texts import clean_line, shorten
from polysync_airflow.hooks.executions import HookCalls, parse, valid
from polysync_airflow.hooks.request_rules import broken_rules

Value = TypeVar("Value")
# The kind and the name of a job.
Job = tuple[JobKind, str]

# How long reading the jobs of all steps, and what else is read with them, may take.
TIMEOUT_SECONDS: Final = 120.0
# How long one call is retried, so that it does not take the time of the others.
CALL_TIMEOUT_SECONDS: Final = 20.0
# How many problems the notes list.
MAX_PROBLEMS: Final = 5
# AWS's quota for a tuning job, unless it was increased.
# https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-limits.html
MAX_TRAINING_JOBS: Final = 750


class _Validator(ParamValidator):
    """
    Leaves expressions out, and compares with maxima and patterns, too, as botocore does
    not.

    :param excesses: a line for each value that is too great, too long, or no match.
    """

    def __init__(self) -> None:
        self.excesses: list[str] = []

    def _validate(self, params: Any, shape: Any, errors: Any, name: str) -> None:
        if is_expression(params):
            return
        super()._validate(params, shape, errors, name)  # type: ignore[misc]
        size = params
        if isinstance(params, str | list | tuple | Mapping):
            size = len(params)
        place = f"{name.removeprefix('.')} = {shorten(params)}"
        most = shape.metadata.get("max", inf)
        if isinstance(size, int | float) and size > most:
            self.excesses.append(f"{place}: the maximum is {most}")
        pattern = shape.metadata.get("pattern")
        if pattern and isinstance(params, str) and not _matches(pattern, params):
            self.excesses.append(f"{place}: it does not match {pattern}")


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        # Some patterns of AWS are not those of Python: they have \p{L}, for example.
        return True


def _with_values(request: Any) -> Any:
    """Return a request with the values of its parameters in their places."""
    if isinstance(request, Parameter):
        return request.value
    if isinstance(request, Mapping):
        return {name: _with_values(member) for name, member in request.items()}
    if isinstance(request, list | tuple):
        return [_with_values(entry) for entry in request]
    return request


class JobMethods(HookCalls):
    """Describe jobs."""

    def describe_job(self, kind: JobKind, name: str) -> JobDescription:
        """
        Describe what a step of an execution has run or made, such as a training job.

        :param kind: which operation describes it, and what is read from the response.
        :param name: the name of the job; of a model package its ARN.
        :raises SageMakerApiError: the call failed.
        """
        operation = kind.operation
        response = self.call(operation, **{kind.member: name})
        # Not the name, which a version of a model package does not have.
        arn_member = f"{kind.member.removesuffix('Name')}Arn"
        if not isinstance(response.get(arn_member), str):
            raise responses.invalid_response_error(operation, f"it has no {arn_member}")
        return parse(kind.description, operation, response)

    def request_shape(self, operation: str) -> Any:
        """Return botocore's shape of the request of an operation."""
        service_model = self._signed_in_client.meta.service_model
        return service_model.operation_model(operation).input_shape

    def request_problems(self, operation: str, request: Any) -> list[str]:
        """
        Return what is wrong with a request: a line for each member that is missing, or
        not known, or of another type, or out of its bounds by botocore's model, and for
        each rule in ``request_rules.toml``.
        """
        request = _with_values(request)
        shape = self.request_shape(operation)
        validator = _Validator()
        lines = validator.validate(request, shape).generate_report().splitlines()
        lines += validator.excesses
        lines += [
            f"{path} = {shorten(value)}: {rule}"
            for path, value, rule, _ in broken_rules(shape, request)
        ]
        return [clean_line(line) for line in lines]

    def list_training_jobs(self, tuning_job: str) -> list[TrainingJobSummary]:
        """
        List the training jobs of a tuning job, at most ``MAX_TRAINING_JOBS``.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListTrainingJobsForHyperParameterTuningJob.html

        :param tuning_job: the name of the tuning job.
        :raises SageMakerApiError: a call failed, or the list does not end.
        """
        entries = self._entries_of_list(
            results.LIST_TRAINING_JOBS,
            "TrainingJobSummaries",
            responses.MAX_ENTRIES,
            None,
            HyperParameterTuningJobName=tuning_job,
        )
        first_entries = islice(entries, MAX_TRAINING_JOBS)
        return list(valid(TrainingJobSummary, first_entries))


class JobReader:
    """
    Describes the jobs of one execution.

    :param hook: the hook for the execution's region.
    :param warn: called with a message about a call that fails.
    """

    def __init__(self, hook: JobMethods, warn: Callable[[str], object]) -> None:
        self.problems: list[str] = []
        self.hook = hook
        self._warn = warn
        # The actions that the identity may not do, and how many calls came too late.
        self._denied: list[str] = []
        self._late = 0
        self._deadline = 0.0
        key = hook.polysync_conn_id, hook.region_name
        self._limiter = rate_limiter_for(key, clock.monotonic())

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """Let the calls in a block take ``TIMEOUT_SECONDS`` together."""
        self._deadline = clock.time() + TIMEOUT_SECONDS
        with responses.time_limit(TIMEOUT_SECONDS):
            yield

    def read(self, steps: Sequence[StepDescription]) -> list[JobOfStep]:
        """
        Return the steps, each with its job; None in its place if the step has none, or
        if it could not be described.
        """
        # Steps may have a job in common.
        jobs: dict[Job | None, JobDescription | None] = {None: None}
        for step in steps:
            key = results.job_of(step)
            if key and key not in jobs:
                jobs[key] = self.read_job(step, key)
        return [(step, jobs[results.job_of(step)]) for step in steps]

    def read_job(self, step: StepDescription, key: Job) -> JobDescription | None:
        """Describe a job of a step with what it consists of; None if that fails."""
        job = self.describe(step, *key)
        if isinstance(job, results.TuningJob):
            return self.with_training_jobs(step, key[1], job)
        return job

    def with_training_jobs(
        self, step: StepDescription, name: str, job: results.TuningJob
    ) -> results.TuningJob:
        """Return the tuning job of a step with the training jobs that AWS lists now."""
        summaries = self.call(
            partial(self.hook.list_training_jobs, name),
            f"The training jobs of step {step.name} could not be listed",
            action=results.LIST_TRAINING_JOBS,
        )
        if summaries is None:
            return job
        return job.model_copy(update={"summaries": summaries})

    def describe(
        self, step: StepDescription, kind: JobKind, name: str
    ) -> JobDescription | None:
        """Describe a job of a step; None if that fails, which the notes then say."""
        return self.call(
            partial(self.hook.describe_job, kind, name),
            f"The job {name} of step {step.name} could not be described",
            action=kind.operation,
        )

    def call(
        self, call: Callable[[], Value], problem: str, *, action: str | None = None
    ) -> Value | None:
        """
        Make a call, unless its action is denied or the time is up.

        :param problem: what the notes say if it fails.
        :param action: the action of SageMaker that all such calls need; None if whether
            it is allowed depends on the resource.
        :return: the result; None if there is none, which the notes then say.
        """
        if action in self._denied:
            return None
        now = clock.time()
        if now >= self._deadline:
            self._late += 1
            return None
        until = min(self._deadline, now + CALL_TIMEOUT_SECONDS)
        try:
            return call_with_retry(
                partial(self._limiter.call, call), until=until, warn=self._warn
            )
        except PolysyncError as error:
            self._warn(f"{problem}: {error}")
            if action and has_code(error, ACCESS_DENIED):
                self._denied.append(action)
            else:
                self.problems.append(f"{problem}: {error}")
        return None

    def notes(self) -> tuple[str, ...]:
        """Return what is missing and why, as sentences."""
        notes = self.problems[:MAX_PROBLEMS]
        if len(self.problems) > MAX_PROBLEMS:
            notes.append(
                f"{len(self.problems) - MAX_PROBLEMS:,} more problems like these are"
                " in the log."
            )
        if self._denied:
            actions = ", ".join(f"sagemaker:{operation}" for operation in self._denied)
            notes.append(
                "What jobs say of themselves, such as their billable time, is not"
                f" known: allow {actions} in the IAM policy of the identity."
            )
        if self._late:
            notes.append(
                f"{self._late:,} calls about jobs were not made within"
                f" {TIMEOUT_SECONDS:.0f} s."
            )
        return tuple(notes)
