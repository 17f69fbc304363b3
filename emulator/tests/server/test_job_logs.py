"""Tests of the logs of jobs in CloudWatch Logs, through boto3."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of

Steps = Callable[[str], dict[str, dict[str, Any]]]
PROCESSING = "/aws/sagemaker/ProcessingJobs"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:notify"


@pytest.fixture
def logs(client_of: ClientOf) -> Any:
    """A CloudWatch Logs client in us-east-1."""
    return client_of("logs")


def streams_of(logs: Any, group: str, prefix: str = "") -> list[str]:
    """Return the names of the streams of a log group."""
    response = logs.describe_log_streams(
        logGroupName=group, **({"logStreamNamePrefix": prefix} if prefix else {})
    )
    return [stream["logStreamName"] for stream in response["logStreams"]]


def lines_of(logs: Any, group: str, stream: str, **more: Any) -> list[str]:
    """Return the messages of a stream."""
    response = logs.get_log_events(logGroupName=group, logStreamName=stream, **more)
    return [event["message"] for event in response["events"]]


def job_of(
    steps: dict[str, dict[str, Any]], member: str = "ProcessingJob", arn: str = "Arn"
) -> str:
    """Return the name of the job of the step S."""
    return str(steps["S"]["Metadata"][member][arn]).rpartition("/")[2]


@pytest.mark.parametrize(
    ("kind", "group", "member", "stream"),
    [
        ("Processing", PROCESSING, "ProcessingJob", r"{job}/algo-1-\d{{10}}"),
        ("QualityCheck", PROCESSING, "QualityCheck", r"{job}/algo-1-\d{{10}}"),
        ("ClarifyCheck", PROCESSING, "ClarifyCheck", r"{job}/algo-1-\d{{10}}"),
        (
            "Training",
            "/aws/sagemaker/TrainingJobs",
            "TrainingJob",
            r"{job}/algo-1-\d{{10}}",
        ),
        (
            "Transform",
            "/aws/sagemaker/TransformJobs",
            "TransformJob",
            r"{job}/i-[a-z0-9]{{17}}-\d{{10}}",
        ),
        (
            "Tuning",
            "/aws/sagemaker/TrainingJobs",
            "TuningJob",
            r"{job}-001-[a-z0-9]{{8}}/algo-1-\d{{10}}",
        ),
        (
            "AutoML",
            "/aws/sagemaker/TrainingJobs",
            "AutoMLJob",
            r"{job}-001-[a-z0-9]{{8}}/algo-1-\d{{10}}",
        ),
    ],
)
def test_each_job_has_a_log(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    logs: Any,
    kind: str,
    group: str,
    member: str,
    stream: str,
) -> None:
    """
    The log of a job is in the group of its type, in a stream that starts with the name
    of the job.
    """
    create(definition(step("S", kind)))
    arn = start()
    server.control.advance(24 * 3600)
    job = job_of(
        steps_of(arn), member, "CheckJobArn" if kind.endswith("Check") else "Arn"
    )
    (name,) = streams_of(logs, group, job)
    assert re.fullmatch(stream.format(job=job), name)
    lines = lines_of(logs, group, name, startFromHead=True)
    assert lines[0].startswith("Starting the container of ")
    assert (len(lines), lines[-1]) == (5, "Done")


def test_events_have_emulated_times(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    logs: Any,
) -> None:
    """
    The times of the events are those of the job; the epoch in the stream name is the
    start of the container.
    """
    create(definition(step("S")))
    started_at = server.clock.now()
    start()
    server.control.advance(1000)
    (name,) = streams_of(logs, PROCESSING)
    events = logs.get_log_events(
        logGroupName=PROCESSING, logStreamName=name, startFromHead=True
    )["events"]
    assert [event["timestamp"] / 1000 - started_at for event in events] == [
        32,
        33,
        37,
        42,
        242,
    ]
    assert name.endswith(f"-{int(started_at + 32)}")


def test_log_grows_while_the_job_runs(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    logs: Any,
) -> None:
    """
    A job has no log before its container starts; later, each event is written once.
    """
    create(definition(step("S")))
    start()
    server.control.advance(30)
    assert (
        error_of(logs.describe_log_streams, logGroupName=PROCESSING)[0]
        == "ResourceNotFoundException"
    )
    counts = []
    for seconds in (4, 6, 100, 0, 110, 0):
        server.control.advance(seconds)
        (name,) = streams_of(logs, PROCESSING)
        counts.append(len(lines_of(logs, PROCESSING, name)))
    assert counts == [2, 3, 4, 4, 5, 5]


@pytest.mark.parametrize(
    ("fail", "last"),
    [
        (
            {"reason": "No data", "log_lines": ["first", "", "\x1b[31mlast"]},
            ["first", "", "\x1b[31mlast"],
        ),
        ({"reason": "No data", "log_lines": []}, ["Working on the records"]),
        ({"reason": "No data"}, ["    work(records)", "RuntimeError: No data"]),
    ],
)
def test_log_of_a_failed_job(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    logs: Any,
    fail: dict[str, Any],
    last: list[str],
) -> None:
    """
    The log of a failed job ends with the lines of the scenario, else with a traceback
    and the reason.
    """
    create(definition(step("S")))
    server.control.put_scenario({"steps": {"S": {"fail": fail}}})
    arn = start()
    server.control.advance(1000)
    (name,) = streams_of(logs, PROCESSING, f"{job_of(steps_of(arn))}/")
    assert (
        lines_of(logs, PROCESSING, name, limit=len(last), startFromHead=False) == last
    )
    response = logs.filter_log_events(
        logGroupName=PROCESSING, filterPattern='"Reading the input data"'
    )
    assert [event["logStreamName"] for event in response["events"]] == [name]


def test_each_attempt_has_a_log(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
    logs: Any,
) -> None:
    """
    The attempts of a retry policy and of a retried execution have streams of their own.
    """
    policy = {"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"], "MaxAttempts": 1}
    create(definition(step("S", RetryPolicies=[policy])))
    failure = {
        "times": 2,
        "exception_type": "SageMaker.JOB_INTERNAL_ERROR",
        "log_lines": ["broken"],
    }
    server.control.put_scenario({"steps": {"S": {"fail": failure}}})
    arn = start()
    server.control.advance(1000)
    sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(1000)
    names = sorted(
        streams_of(logs, PROCESSING), key=lambda name: name.rpartition("-")[2]
    )
    assert [lines_of(logs, PROCESSING, name)[-1] for name in names] == [
        "broken",
        "broken",
        "Done",
    ]
    assert len({name.partition("/")[0] for name in names}) == 3


def test_stopped_job(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
    logs: Any,
) -> None:
    """
    A stopped job says so; a job that is stopped before its container starts has no log.
    """
    create(definition(step("S"), step("T", "Training")))
    arn = start()
    server.control.advance(36)
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(1000)
    (name,) = streams_of(logs, PROCESSING)
    assert lines_of(logs, PROCESSING, name)[-1] == "Stopping"
    groups = [
        group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]
    ]
    assert groups == [PROCESSING]


def test_log_of_a_lambda_function(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    logs: Any,
) -> None:
    """A Lambda step logs in the group of its function; a failure is at the end."""
    lambda_step = step("S", "Lambda", FunctionArn={"Get": "Parameters.Function"})
    parameter = {"Name": "Function", "Type": "String", "DefaultValue": FUNCTION}
    create(definition(lambda_step, step("None", "Lambda"), parameters=(parameter,)))
    server.control.put_scenario(
        {"steps": {"S": {"fail": {"log_lines": ["[ERROR] no"]}}}}
    )
    start()
    server.control.advance(60)
    server.control.delete_scenario()
    start()
    server.control.advance(60)
    names = streams_of(logs, "/aws/lambda/notify")
    assert all(
        re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][a-z0-9]{32}", name)
        for name in names
    )
    read = sorted(
        (lines_of(logs, "/aws/lambda/notify", name) for name in names), key=len
    )
    assert [lines[0].partition(" ")[0] for lines in read] == ["START", "START"]
    assert read[0][1:] == ["[ERROR] no"]
    assert (read[1][1], read[1][2].partition(":")[0]) == ("Done", "END RequestId")


def test_training_jobs_of_a_tuning_job(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    logs: Any,
) -> None:
    """A tuning job has as many training jobs with logs as its arguments allow."""
    config = {
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": {"Get": "Parameters.Max"},
            "MaxParallelTrainingJobs": 1,
        },
        "Strategy": "Random",
    }
    tuning = step("S", "Tuning", Arguments={"HyperParameterTuningJobConfig": config})
    create(
        definition(
            tuning, parameters=({"Name": "Max", "Type": "Integer", "DefaultValue": 3},)
        )
    )
    start()
    server.control.advance(3600)
    assert len(streams_of(logs, "/aws/sagemaker/TrainingJobs")) == 3


def test_logs_stay_after_the_pipeline_is_deleted(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
    logs: Any,
) -> None:
    """
    The logs of a deleted pipeline stay, also if nobody has read them before; a reset
    removes them.
    """
    create(definition(step("S")))
    start()
    server.control.advance(1000)
    sagemaker.delete_pipeline(PipelineName="Demo")
    assert len(streams_of(logs, PROCESSING)) == 1
    server.control.reset()
    assert logs.describe_log_groups()["logGroups"] == []


def test_logs_are_in_the_region_of_the_job(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    client_of: ClientOf,
) -> None:
    """Another region has no logs of the job."""
    create(definition(step("S")))
    start()
    server.control.advance(1000)
    assert client_of("logs", "eu-west-1").describe_log_groups()["logGroups"] == []


def test_cached_step_has_no_log(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    logs: Any,
) -> None:
    """A step that reuses results starts no job."""
    create(definition(step("S", CacheConfig={"Enabled": True, "ExpireAfter": "PT1H"})))
    for _ in range(2):
        start()
        server.control.advance(300)
    assert len(streams_of(logs, PROCESSING)) == 1


DENIED = {
    "code": "AccessDeniedException",
    "message": "User is not authorized to perform: logs:*",
}


@pytest.mark.parametrize(
    "fault", [{"operation": "DescribeLogStreams"}, {"service": "logs"}]
)
def test_log_operations_can_be_denied(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
    logs: Any,
    fault: dict[str, str],
) -> None:
    """
    A fault denies one operation of CloudWatch Logs, or all of them, and no other
    service.
    """
    create(definition(step("S")))
    start()
    server.control.advance(1000)
    (name,) = streams_of(logs, PROCESSING)
    server.control.add_fault("error", **fault, **DENIED)
    denied = error_of(logs.describe_log_streams, logGroupName=PROCESSING)
    assert denied == ("AccessDeniedException", DENIED["message"])
    request = {"logGroupName": PROCESSING, "logStreamName": name}
    if "service" in fault:
        assert error_of(logs.get_log_events, **request)[0] == "AccessDeniedException"
    else:
        assert logs.get_log_events(**request)["events"]
    assert sagemaker.list_pipelines()["PipelineSummaries"]


def test_log_requests_are_in_the_call_log(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    logs: Any,
) -> None:
    """
    The call log shows the group and the stream of requests to CloudWatch Logs, and what
    was denied.
    """
    create(definition(step("S")))
    start()
    server.control.advance(1000)
    (name,) = streams_of(logs, PROCESSING, "pipelines-")
    server.control.add_fault("error", service="logs", count=1, **DENIED)
    request = {"logGroupName": PROCESSING, "logStreamName": name, "limit": 2}
    error_of(logs.get_log_events, **request)
    (described,) = server.control.calls("DescribeLogStreams")
    assert (described["service"], described["status"]) == ("logs", 200)
    assert described["request"] == {
        "logGroupName": PROCESSING,
        "logStreamNamePrefix": "pipelines-",
    }
    (read,) = server.control.calls("GetLogEvents")
    assert (read["error_code"], read["fault"]) == ("AccessDeniedException", "error")
    assert read["request"] == request
