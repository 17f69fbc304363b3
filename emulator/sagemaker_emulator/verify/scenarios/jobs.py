"""
A processing job of the smallest instance: its metadata, its log, what it used, and
whether its result is reused. It costs money.

https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeProcessingJob.html
"""

from __future__ import annotations

from typing import Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, End
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observation,
    Observations,
    Refusal,
    one_of,
)
from sagemaker_emulator.verify.scenarios.outcomes import reused_from

LOG_GROUP: Final = "/aws/sagemaker/ProcessingJobs"
_KIND: Final = "ProcessingJob"
# A job waits some minutes for its instance.
_END_SECONDS: Final = definitions.JOB_SECONDS + 900.0
_LOG_SECONDS: Final = 60.0


def finished(account: Account) -> tuple[str, End]:
    """Run a pipeline with a job, and return the name of the job and the end."""
    definition = definitions.with_job(account.options["--with-job"], account.role_arn)
    arn = account.start(account.create("job", definition))
    end = account.wait_for_end(arn, seconds=_END_SECONDS)
    job_arn = end.step("Job").get("Metadata", {}).get(_KIND, {}).get("Arn")
    if not job_arn:
        reason = end.step("Job").get("FailureReason", end.answer.get("FailureReason"))
        raise NotCheckedError(f"the step has no job: {reason}")
    return job_arn.rpartition("/")[2], end


def job(account: Account) -> Observations:
    """Look at a job that has ended."""
    name, end = account.once(finished)
    step = end.step("Job")
    yield {"status": Observation(end.status, step.get("FailureReason", ""))}
    yield {
        "metadata": Observation(f"{_KIND} with an ARN", step["Metadata"][_KIND]["Arn"])
    }
    account.require_status(end.status, "Succeeded")
    described = account.call("DescribeProcessingJob", ProcessingJobName=name)
    duration = described["ProcessingEndTime"] - described["ProcessingStartTime"]
    instance = described["ProcessingResources"]["ClusterConfig"]["InstanceType"]
    yield {"seconds": Observation(instance, f"{duration.total_seconds():.0f} s")}
    lines = _lines(account, name)
    detail = f"{LOG_GROUP}; the line of the job is not there"
    if any(definitions.JOB_LINE in line for line in lines):
        detail = f"{LOG_GROUP}; the line of the job is there"
    yield {"log": one_of(lines, "lines", "no lines", detail)}


def cached(account: Account) -> Observations:
    """Start the pipeline of the job once more: AWS should take the result it has."""
    _, end = account.once(finished)
    account.require_status(end.status, "Succeeded")
    arn = account.start(account.name_of("job"))
    again = account.wait_for_end(arn, seconds=_END_SECONDS)
    step = again.step("Job")
    source = reused_from(step, "CacheHitResult")
    detail = f"{source}; AttemptCount {step.get('AttemptCount')}"
    is_first = source == end.arn
    yield {
        "cache-hit": one_of(is_first, "the ARN of the first execution", "other", detail)
    }


def _lines(account: Account, name: str) -> list[str]:
    """Return lines of the log; empty if there are none within a minute."""
    until = account.now() + _LOG_SECONDS
    while True:
        response = account.attempt(
            account.call,
            "DescribeLogStreams",
            service="logs",
            logGroupName=LOG_GROUP,
            logStreamNamePrefix=f"{name}/",
        )
        streams = []
        # Before the first line, there may be no group.
        if not isinstance(response, Refusal):
            streams = response["logStreams"]
        for stream in streams:
            log = account.call(
                "GetLogEvents",
                service="logs",
                logGroupName=LOG_GROUP,
                logStreamName=stream["logStreamName"],
                limit=20,
            )
            if log["events"]:
                return [event["message"] for event in log["events"]]
        if account.now() > until:
            return []
        account.sleep(5)
