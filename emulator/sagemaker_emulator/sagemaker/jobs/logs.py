"""
The logs that the jobs of steps write to CloudWatch Logs.

Log groups and streams have the names in
https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html and, for Lambda
functions,
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-view.html. The
content is invented,
because no job runs: some lines while the job runs, and, if it fails, the ``log_lines``
of the scenario or a traceback with the failure reason at the end. Each attempt of a
step has a stream of its own, and a tuning job one for each of its training jobs. EMR
steps write their logs to S3, so they have none here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sagemaker_emulator.engine.expressions import text
from sagemaker_emulator.engine.step_runs import Attempt, StepRun
from sagemaker_emulator.sagemaker.calls import LogStream
from sagemaker_emulator.sagemaker.jobs.names import (
    arguments_of,
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
# The scripts in tracebacks, where the type has another one than the default.
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
    :param now: the time, in seconds since the epoch.
    """
    for run in record.engine.history:
        for attempt in run.attempts:
            key = (record.arn, run.step.name, attempt.number)
            if key in region.logged or attempt.executing_at > now:
                continue
            yield from _streams(region, record, run, attempt, now)
            if attempt.ended_at is not None:
                region.logged.add(key)


def _streams(
    region: Region, record: ExecutionRecord, run: StepRun, attempt: Attempt, now: float
) -> Iterator[LogStream]:
    kind, start = run.step.type, attempt.executing_at
    if attempt.ended_at is not None and attempt.ended_at < start:
        # The job was stopped before its container started.
        return
    if kind == "Lambda" and (function := _function_name(record, run)):
        yield _lambda_stream(region, record, run, attempt, function)
    if kind not in _GROUPS:
        return
    name = job_name(region, record, run, attempt.number)
    started = (
        training_job_names(region, name, arguments_of(record, run))
        if kind in ("Tuning", "AutoML")
        else [name]
    )
    for job in started:
        host = f"i-{region.identifier(17, job)}" if kind == "Transform" else "algo-1"
        events = [(start, f"Starting the container of {job}")]
        events += [
            (start + seconds, line)
            for seconds, line in _PROGRESS
            if start + seconds <= now
        ]
        if attempt.ended_at is not None:
            ended_at = attempt.ended_at
            events = [
                event for event in events if event[0] < ended_at or event[0] == start
            ]
            events += [(ended_at, line) for line in _last_lines(run, attempt)]
        yield LogStream(_GROUPS[kind], f"{job}/{host}-{int(start)}", tuple(events))


def _last_lines(run: StepRun, attempt: Attempt) -> list[str]:
    if attempt.status == "Failed":
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
    return ["Stopping" if attempt.status == "Stopped" else "Done"]


def _function_name(record: ExecutionRecord, run: StepRun) -> str | None:
    """
    Return the name in an ARN like
    ``arn:aws:lambda:us-east-1:123456789012:function:name:version``.
    """
    parts = text(value_of(record, run, run.step.body.get("FunctionArn"))).split(":")
    return parts[6] if len(parts) > 6 and parts[5] == "function" else None


def _lambda_stream(
    region: Region,
    record: ExecutionRecord,
    run: StepRun,
    attempt: Attempt,
    function: str,
) -> LogStream:
    digits = region.identifier(32, record.arn, run.step.name, attempt.number, "stream")
    request_id = "-".join(
        digits[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    )
    date = datetime.fromtimestamp(attempt.started_at, UTC).strftime("%Y/%m/%d")
    events = [(attempt.started_at, f"START RequestId: {request_id} Version: $LATEST")]
    if attempt.ended_at is not None:
        lines = _last_lines(run, attempt)
        if attempt.status == "Succeeded":
            lines = [*lines, f"END RequestId: {request_id}"]
        events += [(attempt.ended_at, line) for line in lines]
    return LogStream(
        f"/aws/lambda/{function}", f"{date}/[$LATEST]{digits}", tuple(events)
    )
