"""
The logs that the jobs of steps write to CloudWatch Logs.

Log groups and streams have the names in
https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html and, for Lambda
functions,
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-view.html. No job
runs, so the content is invented: some lines while the job runs, and, if it fails, the
``log_lines`` of the scenario or a traceback with the failure reason at the end. Each
attempt of a step has a stream of its own, and a tuning job one for each of its training
jobs. EMR steps write their logs to S3, so they have none here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sagemaker_emulator.engine.expressions import text
from sagemaker_emulator.engine.step_runs import Attempt, StepRun
from sagemaker_emulator.sagemaker.calls import LogStream
from sagemaker_emulator.sagemaker.jobs.names import (
    arguments_of,
    in_uuid_form,
    job_name,
    training_job_names,
    value_of,
)
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region

_GROUPS = {
    "Processing": "/aws/sagemaker/ProcessingJobs",
    "QualityCheck": "/aws/sagemaker/ProcessingJobs",
    "ClarifyCheck": "/aws/sagemaker/ProcessingJobs",
    "Training": "/aws/sagemaker/TrainingJobs",
    "Tuning": "/aws/sagemaker/TrainingJobs",
    "AutoML": "/aws/sagemaker/TrainingJobs",
    "Transform": "/aws/sagemaker/TransformJobs",
}
# The scripts in tracebacks, for the types of steps that do not have the default one.
_SCRIPTS = {
    "Training": "/opt/ml/code/train.py",
    "Tuning": "/opt/ml/code/train.py",
    "AutoML": "/opt/ml/code/train.py",
    "Transform": "/opt/ml/model/code/inference.py",
    "Lambda": "/var/task/index.py",
}
_DEFAULT_SCRIPT = "/opt/ml/processing/input/code/main.py"
# The seconds from the start of the container to the lines that every job writes.
_PROGRESS = (
    (1.0, "Reading the input data"),
    (5.0, "Read 1024 records"),
    (10.0, "Working on the records"),
)


def log_streams(
    region: Region, record: ExecutionRecord, now: float
) -> Iterator[LogStream]:
    """
    Yield the log streams of an execution whose events are not complete, with all events
    up to now.

    :param region: the region of the execution.
    :param record: the execution, which must have been advanced to the present.
    :param now: the time, as Unix time.
    """
    for run in record.engine.history:
        for attempt in run.attempts:
            key = (run.step.name, attempt.number)
            if key in record.logged or attempt.executing_at > now:
                continue
            yield from _streams(region, record, run, attempt, now)
            if attempt.ended_at is not None:
                record.logged.add(key)


def _streams(
    region: Region, record: ExecutionRecord, run: StepRun, attempt: Attempt, now: float
) -> Iterator[LogStream]:
    kind = run.step.type
    started_at = attempt.executing_at
    if attempt.ended_at is not None and attempt.ended_at < started_at:
        # The job was stopped before its container started.
        return
    if kind == "Lambda":
        function = _function_name(record, run)
        if function:
            yield _lambda_stream(region, record, run, attempt, function)
        return
    if kind not in _GROUPS:
        return
    names = [job_name(region, record, run, attempt.number)]
    if kind in ("Tuning", "AutoML"):
        names = training_job_names(region, names[0], arguments_of(record, run))
    for name in names:
        host = "algo-1"
        if kind == "Transform":
            host = f"i-{region.identifier(17, name)}"
        stream = f"{name}/{host}-{int(started_at)}"
        events = _job_events(run, attempt, name, now)
        yield LogStream(_GROUPS[kind], stream, tuple(events))


def _job_events(
    run: StepRun, attempt: Attempt, name: str, now: float
) -> list[tuple[float, str]]:
    """Return the events of a job up to now, oldest first."""
    started_at = attempt.executing_at
    ended_at = attempt.ended_at
    events = [(started_at, f"Starting the container of {name}")]
    for seconds, line in _PROGRESS:
        at = started_at + seconds
        if at <= now and (ended_at is None or at < ended_at):
            events.append((at, line))
    if ended_at is not None:
        events += [(ended_at, line) for line in _last_lines(run, attempt)]
    return events


def _last_lines(run: StepRun, attempt: Attempt) -> list[str]:
    if attempt.status == "Stopped":
        return ["Stopping"]
    if attempt.status != "Failed":
        return ["Done"]
    if attempt.log_lines is not None:
        return list(attempt.log_lines)
    script = _SCRIPTS.get(run.step.type, _DEFAULT_SCRIPT)
    return [
        "Traceback (most recent call last):",
        f'  File "{script}", line 42, in <module>',
        "    main()",
        f'  File "{script}", line 31, in main',
        "    work(records)",
        f"RuntimeError: {attempt.failure_reason or 'the job failed'}",
    ]


def _function_name(record: ExecutionRecord, run: StepRun) -> str | None:
    """
    Return the name of the function of a Lambda step; None if its ARN is not like
    ``arn:aws:lambda:us-east-1:123456789012:function:name:version``.
    """
    parts = text(value_of(record, run, run.step.body.get("FunctionArn"))).split(":")
    if len(parts) > 6 and parts[5] == "function":
        return parts[6]
    return None


def _lambda_stream(
    region: Region,
    record: ExecutionRecord,
    run: StepRun,
    attempt: Attempt,
    function: str,
) -> LogStream:
    digits = region.identifier(32, record.arn, run.step.name, attempt.number, "stream")
    request_id = in_uuid_form(digits)
    date = datetime.fromtimestamp(attempt.started_at, UTC).strftime("%Y/%m/%d")
    events = [(attempt.started_at, f"START RequestId: {request_id} Version: $LATEST")]
    if attempt.ended_at is not None:
        lines = _last_lines(run, attempt)
        if attempt.status == "Succeeded":
            lines.append(f"END RequestId: {request_id}")
        events += [(attempt.ended_at, line) for line in lines]
    return LogStream(
        f"/aws/lambda/{function}", f"{date}/[$LATEST]{digits}", tuple(events)
    )
