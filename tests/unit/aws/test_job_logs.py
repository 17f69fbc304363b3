"""
The last lines of a job's log: which stream, which lines, and what becomes of their
texts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.aws.job_logs import (
    MAX_JOBS,
    MAX_LINE_LENGTH,
    MAX_LINES,
    MAX_NEW_LINES,
    JobLog,
    RunningJobLogs,
)
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.hooks import PolysyncSageMakerHook
from sagemaker_emulator import EmulatorServer
from tests.conftest import use_connection
from tests.world import deny

GROUP = "/aws/sagemaker/TrainingJobs"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STEP = StepDescription.model_validate(
    {
        "StepName": "Train",
        "Metadata": {
            "TrainingJob": {
                "Arn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"
            }
        },
    }
)


class Logs:
    """
    CloudWatch Logs with these responses; ``requests`` has the request of each
    operation.
    """

    def __init__(self, streams: Any, events: Any = None) -> None:
        self.respond(streams, events)
        # Is told of what a read is about.
        self.before: Callable[[str], object] = str
        self.requests: dict[str, dict[str, Any]] = {}

    def respond(self, streams: Any, events: Any = None) -> None:
        """Let the next requests have these responses."""
        self._responses = {
            "DescribeLogStreams": {"logStreams": streams},
            "GetLogEvents": {"events": events, "nextForwardToken": "f/1"},
        }

    def __call__(self, operation: str, **request: Any) -> dict[str, Any]:
        """Respond to a request."""
        if operation == "GetLogEvents":
            self.before(str(self.requests["DescribeLogStreams"]))
        self.requests[operation] = request
        return self._responses[operation]


def test_stream_that_was_written_to_last_is_read() -> None:
    """A job on several hosts, or with several attempts, has several streams."""
    streams = [
        {"logStreamName": "job/algo-1", "lastEventTimestamp": 5},
        {"logStreamName": "job/algo-2", "lastEventTimestamp": 9},
        {"logStreamName": "job/algo-3"},
    ]
    logs = Logs(
        streams, [{"message": "one\n"}, {"message": "two"}, {"message": "three"}]
    )

    log = JobLog(logs, GROUP, "job/", since=NOON)
    assert log.read_tail(2, until=NOON) == ["two", "three"]
    assert logs.requests["DescribeLogStreams"]["logStreamNamePrefix"] == "job/"
    request = logs.requests["GetLogEvents"]
    assert request["logStreamName"] == "job/algo-2"
    assert request["limit"] == 2
    assert request["startFromHead"] is False
    noon = int(NOON.timestamp() * 1000)
    assert request["startTime"] < noon < request["endTime"]


def test_lines_that_follow_are_read_from_where_the_last_read_ended() -> None:
    """In the same stream, also if the log did not exist at first."""
    logs = Logs([])
    log = JobLog(logs, GROUP, "job/", since=NOON)

    assert log.read_tail(2, until=NOON) == log.read_on() == []
    logs.respond([{"logStreamName": "job/a"}], [{"message": "one"}])
    assert log.read_on() == ["one"]
    assert "nextToken" not in logs.requests["GetLogEvents"]
    logs.respond([{"logStreamName": "job/b"}], [{"message": "two"}])
    assert log.read_on() == ["two"]
    request = logs.requests["GetLogEvents"]
    assert request.pop("startTime") < NOON.timestamp() * 1000
    assert request == {
        "logGroupName": GROUP,
        "logStreamName": "job/a",
        "limit": MAX_LINES,
        "nextToken": "f/1",
        "startFromHead": True,
    }


def test_streams_without_a_prefix_are_sorted_by_time() -> None:
    """A Lambda function does not name its streams by the caller."""
    logs = Logs([{"logStreamName": "2026/01/01/[$LATEST]a"}], [])

    assert JobLog(logs, "/aws/lambda/notify", "").read_tail(20) == []
    request = logs.requests["DescribeLogStreams"]
    assert request["orderBy"] == "LastEventTime"
    assert request["descending"] is True
    assert "logStreamNamePrefix" not in request


def test_lines_are_clean_and_short() -> None:
    """Whoever's code runs in the job writes them."""
    logs = Logs(
        [{"logStreamName": "job/a"}],
        [
            {"message": "\x1b[31mred\x1b[0m\ntwo\x1b"},
            {"message": "x" * 9000},
            "damaged",
        ],
    )

    first, second = JobLog(logs, GROUP, "job/").read_tail(20)

    assert first == "red two\N{REPLACEMENT CHARACTER}"
    assert len(second) == MAX_LINE_LENGTH


@pytest.mark.parametrize("streams", [None, [], ["damaged"]])
def test_job_without_a_log_has_no_lines(streams: Any) -> None:
    """It failed before it wrote anything."""
    assert JobLog(Logs(streams), GROUP, "job/").read_tail(20) == []


def job_steps(count: int, ended_at: datetime | None = None) -> list[StepDescription]:
    """Return steps with a training job each."""
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"
    return [
        StepDescription.model_validate(
            {
                "StepName": f"Train{number}",
                "Metadata": {"TrainingJob": {"Arn": f"{arn}{number}"}},
                "EndTime": ended_at,
            }
        )
        for number in range(count)
    ]


class Follower:
    """What writes the new lines, with the logs and what was written."""

    def __init__(self, messages: list[str], streams: Any = None) -> None:
        streams = streams or [{"logStreamName": "job/algo-1"}]
        self.logs = Logs(streams, [{"message": text} for text in messages])
        self.written: list[str] = []
        self.job_logs = RunningJobLogs(
            self.logs, lambda *line: self.written.append(line[2])
        )


def test_the_newest_of_too_many_lines_are_written() -> None:
    """Also by a process that begins to read. They are clean, and say whose they are."""
    follower = Follower(["\x1b[2K\x1b[1;31m::endgroup::"])
    follower.job_logs.read(job_steps(1))
    assert follower.logs.requests["GetLogEvents"]["limit"] == MAX_NEW_LINES
    head = "Step Train0: new lines of its log"
    assert follower.written == [f"{head}\n| : :endgroup::"]

    messages = [{"message": str(number)} for number in range(MAX_NEW_LINES + 5)]
    follower.logs.respond([], messages)
    follower.job_logs.read(job_steps(1))
    first, *lines = follower.written[-1].splitlines()
    assert first == f"{head}, the last 200 of 205"
    assert lines == [f"| {number}" for number in range(5, MAX_NEW_LINES + 5)]


def test_the_first_host_of_a_job_is_read_and_each_training_job_of_a_tuning_job() -> (
    None
):
    """Of a tuning job, the one that wrote last, from where it was left."""
    streams = [
        {"logStreamName": "job/algo-1", "lastEventTimestamp": 1},
        {"logStreamName": "job/algo-2", "lastEventTimestamp": 2},
    ]
    follower = Follower(["one"], streams)
    follower.job_logs.read(job_steps(1))
    assert follower.logs.requests["GetLogEvents"]["logStreamName"] == "job/algo-1"

    names = []
    log = JobLog(Logs(streams, [{"message": "one"}]), GROUP, "job-")
    for events in ([{"message": "one"}], [], [{"message": "two"}]):
        log.call.respond(streams, events)  # type: ignore[attr-defined]
        log.read_on()
        request = log.call.requests["GetLogEvents"]  # type: ignore[attr-defined]
        names.append((request["logStreamName"], request.get("nextToken")))
        streams = [{"logStreamName": "job/algo-3", "lastEventTimestamp": 3}]
    log.call.respond(streams, [])  # type: ignore[attr-defined]
    log.read_on()
    log.read_on()
    # A token of GetLogEvents for what follows must be sent with this.
    assert log.call.requests["GetLogEvents"]["startFromHead"]  # type: ignore[attr-defined]
    assert names == [("job/algo-2", None), ("job/algo-2", "f/1"), ("job/algo-3", None)]


def test_many_jobs_are_read_in_turn_and_those_that_have_ended_to_their_end() -> None:
    """A Lambda function, and what has ended long ago, are not read."""
    read: list[str] = []
    follower = Follower(["one"])
    follower.logs.before = read.append
    steps = job_steps(MAX_JOBS + 2)
    for _ in range(2):
        follower.job_logs.read(steps)
    assert len({*read}) == MAX_JOBS + 2

    read.clear()
    now = datetime.now(UTC)
    for minutes, times in ((0, 2), (1, 1), (60, 0)):
        follower = Follower(["one"])
        follower.logs.before = read.append
        read.clear()
        for _ in range(2):
            follower.job_logs.read(job_steps(1, now - timedelta(minutes=minutes)))
        assert len(read) == times


@pytest.mark.parametrize(("permanent", "written"), [(False, 2), (True, 1)])
def test_end_of_the_wait_ends_the_pause_after_an_error(
    permanent: bool, written: int
) -> None:
    """Otherwise the last lines would be missing. A permanent error is not repeated."""
    follower = Follower(["one"])

    def fail(_: str) -> None:
        raise SageMakerApiError(
            "slow", error_code="slow", operation="GetLogEvents", permanent=permanent
        )

    follower.logs.before = fail
    follower.job_logs.read(job_steps(1))
    follower.logs.before = str
    follower.job_logs.read(job_steps(1))
    assert len(follower.written) == 1

    follower.job_logs.read_last(lambda: job_steps(1))

    assert len(follower.written) == written


def test_missing_group_is_no_error(emulator: EmulatorServer) -> None:
    """AWS makes the group with the first log in it."""
    assert PolysyncSageMakerHook().read_step_log(STEP, 20) == []


def test_last_lines_are_those_before_the_end_of_the_step(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log stream may go on with lines of others."""
    hook = PolysyncSageMakerHook()
    logs = Logs([{"logStreamName": "job/a"}], [{"message": "one"}])
    monkeypatch.setattr(hook, "call_logs", logs)

    assert hook.read_step_log(STEP.model_copy(update={"ended_at": NOON}), 5) == ["one"]

    assert logs.requests["GetLogEvents"]["endTime"] >= 1000 * NOON.timestamp()


def test_denied_permission_is_named(emulator: EmulatorServer) -> None:
    """The error says which permission on which log group is missing."""
    deny(emulator, "*", service="logs")

    with pytest.raises(SageMakerApiError) as caught:
        PolysyncSageMakerHook().read_step_log(STEP, 20)

    assert caught.value.operation == "DescribeLogStreams"
    allow = "Allow logs:DescribeLogStreams on arn:aws:logs:us-east-1:<account>:log-group:/aws/sagemaker/TrainingJobs:*"
    assert allow in str(caught.value)


def test_endpoint_of_sagemaker_is_not_that_of_the_logs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A VPC endpoint serves one service. A server on this machine stands for both."""
    endpoint = "https://vpce-0a1b.api.sagemaker.us-east-1.vpce.amazonaws.com"
    for url, expected in (
        (endpoint, "https://logs.us-east-1.amazonaws.com"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
    ):
        use_connection(monkeypatch, endpoint_url=url)
        assert PolysyncSageMakerHook().client_for("logs").meta.endpoint_url == expected


def test_logs_that_do_not_respond_delay_the_task_by_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two short attempts, without retries on top: the task has failed anyway."""
    use_connection(monkeypatch, endpoint_url="http://127.0.0.1:9")
    start = time.monotonic()

    with pytest.raises(SageMakerApiError, match="EndpointConnectionError"):
        PolysyncSageMakerHook().read_step_log(STEP, 20)

    config = PolysyncSageMakerHook().client_for("logs").meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 10)
    assert config.retries["total_max_attempts"] == 2
    assert time.monotonic() - start < 20
