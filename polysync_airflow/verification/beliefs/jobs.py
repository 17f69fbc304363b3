"""
A processing job of the smallest instance: its metadata, its log, and what it used. It costs money.

https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeProcessingJob.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.results import JOB_KINDS, JobDescription
from polysync_airflow.execution.steps.descriptions import (
    PROCESSING_LOGS,
    StepDescription,
    job_name_of,
    log_source,
)
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account, status_of
from polysync_airflow.verification.calls import Response
from polysync_airflow.verification.models import Seen, belief_maker

_KIND: Final = "ProcessingJob"
# A job waits some minutes for its instance.
_END_SECONDS: Final = definitions.JOB_SECONDS + 900.0
_POLL_SECONDS: Final = 10.0
_LOG_SECONDS: Final = 60.0
_LOG_LINES: Final = 20


@dataclass(frozen=True)
class Job:
    """
    An execution with a job, which has ended.

    :param lines: the last lines of the log; empty if there were none within a minute.
    """

    arn: str
    answer: Response
    step: StepDescription
    description: JobDescription
    lines: Sequence[str]


def job(account: Account) -> Job:
    """Run a pipeline with a job."""
    # The runner has asked for the option.
    image = account.options.job_image or ""
    name = account.create("job", definitions.with_job(image, account.role_arn))
    arn = account.start(name)
    answer = account.wait_for_end(arn, _END_SECONDS, _POLL_SECONDS)
    steps = account.steps(arn)
    job_name = job_name_of(steps[0]) if steps else None
    if not steps or job_name is None:
        raise PolysyncError(f"The step has no job. FailureReason: {answer.get('FailureReason')}")
    description = account.hook.describe_job(JOB_KINDS[_KIND], job_name)
    return Job(arn, answer, steps[0], description, _lines(account, steps[0]))


def _lines(account: Account, step: StepDescription) -> Sequence[str]:
    until = clock.monotonic() + _LOG_SECONDS
    while True:
        lines = account.hook.read_step_log(step, _LOG_LINES)
        if lines or clock.monotonic() > until:
            return lines
        account.sleep(5)


def _status(account: Account) -> Seen:
    found = account.once(job)
    return Seen(status_of(found.answer), found.step.failure_reason or "")


def _metadata(account: Account) -> Seen:
    step = account.once(job).step
    return Seen(f"{step.kind} with an ARN" if job_name_of(step) else str(step.kind), step.job_arn or "")


def _log(account: Account) -> Seen:
    found = account.once(job)
    source = log_source(found.step)
    written = definitions.JOB_LINE in found.lines
    detail = f"{source[0] if source else 'no group'}; the line of the job is {'' if written else 'not '}there"
    return Seen("lines" if found.lines else "no lines", detail)


def _seconds(account: Account) -> Seen:
    used = account.once(job).description.instance_seconds
    seconds = ", ".join(f"{value:.0f} s" for value in used.values())
    return Seen(", ".join(used) or "none", seconds)


_belief: Final = belief_maker("job", "--with-job")

BELIEFS: Final = (
    _belief(
        "status",
        "An execution with a processing job succeeds.",
        "Succeeded",
        _status,
        "polysync_airflow/states.py",
    ),
    _belief(
        "metadata",
        "The metadata of a Processing step have the ARN of its job, which ends with its name.",
        f"{_KIND} with an ARN",
        _metadata,
        "polysync_airflow/execution/steps/descriptions.py",
        "polysync_airflow/execution/steps/descriptions.py",
    ),
    _belief(
        "log",
        f"Its log is in {PROCESSING_LOGS}, in streams whose names begin with that of the job and a slash.",
        "lines",
        _log,
        "polysync_airflow/execution/steps/descriptions.py",
        "polysync_airflow/aws/job_logs.py",
    ),
    _belief(
        "seconds",
        "DescribeProcessingJob has the begin and the end of the job, and the type of its instance.",
        definitions.JOB_INSTANCE,
        _seconds,
        "polysync_airflow/execution/results.py",
        "docs/reference/xcoms.md",
    ),
)
