"""
Reads a job's log in CloudWatch Logs. Any user whose code runs in the job writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from polysync_airflow.exceptions import RESOURCE_NOT_FOUND, SageMakerApiError, has_code
from polysync_airflow.execution.steps.descriptions import StepDescription, log_source
from polysync_airflow.execution.texts import clean_line

MAX_LINE_LENGTH: Final = 500
# The most lines that AWS returns at once. It returns at most 1 MB of them.
MAX_LINES: Final = 10_000
# CloudWatch Logs stores a line some seconds after the job wrote it, and the clocks of
# hosts differ.
_MARGIN: Final = timedelta(minutes=2)


@dataclass
class JobLog:
    """
    The log of a job: of its log streams, the one that was written to last when lines
    are read first. No lines are read of a log that does not exist yet.

    Lines come with the oldest first: clean, and at most 500 characters each.

    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_DescribeLogStreams.html
    and
    API_GetLogEvents.html

    :param call: calls an operation of CloudWatch Logs, by its name and with the members
        of its request.
    :param stream_prefix: the beginning of the stream's name; empty for all streams of
        the group.
    :param since: leaves out older lines; None for none.
    """

    call: Callable[..., dict[str, Any]]
    group: str
    stream_prefix: str
    since: datetime | None = None
    # The request for the lines after those that were read.
    _next_request: dict[str, Any] = field(default_factory=dict, init=False)

    def read_tail(self, limit: int, *, until: datetime | None = None) -> list[str]:
        """
        Return the last lines.

        :param until: leaves out newer lines; None for none.
        :raises SageMakerApiError: a call failed.
        """
        # AWS sorts by time or filters by prefix, not both.
        order: dict[str, Any] = {"orderBy": "LastEventTime", "descending": True}
        if self.stream_prefix:
            order = {"logStreamNamePrefix": self.stream_prefix}
        response = self._call("DescribeLogStreams", limit=50, **order)
        streams = [
            stream
            for stream in response.get("logStreams") or []
            if isinstance(stream, Mapping)
        ]
        if not streams:
            return []
        newest = max(streams, key=_last_event_time)
        self._next_request = {"logStreamName": newest.get("logStreamName", "")}
        if self.since:
            start_time = _milliseconds(self.since - _MARGIN)
            self._next_request["startTime"] = start_time
        end: dict[str, int] = {}
        if until:
            end["endTime"] = _milliseconds(until + _MARGIN)
        return self._read(limit, startFromHead=False, **end)

    def read_on(self) -> list[str]:
        """
        Return the lines after those that were read, at most ``MAX_LINES``.

        :raises SageMakerApiError: a call failed.
        """
        if not self._next_request:
            return self.read_tail(MAX_LINES)
        return self._read(MAX_LINES, startFromHead=True)

    def _read(self, limit: int, **members: Any) -> list[str]:
        request = {**self._next_request, "limit": limit, **members}
        response = self._call("GetLogEvents", **request)
        token = response.get("nextForwardToken")
        if isinstance(token, str):
            self._next_request["nextToken"] = token
        lines = [
            str(event.get("message", ""))
            for event in response.get("events") or []
            if isinstance(event, Mapping)
        ]
        return [
            clean_line(line.rstrip("\n"), MAX_LINE_LENGTH) for line in lines[-limit:]
        ]

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        try:
            return self.call(operation, logGroupName=self.group, **request)
        except SageMakerApiError as error:
            if has_code(error, RESOURCE_NOT_FOUND):
                return {}
            raise


def log_of_step(
    step: StepDescription, call: Callable[..., dict[str, Any]]
) -> JobLog | None:
    """
    Return the log of a step's job; None if the kind of the step writes none, or if it
    has no job yet.

    :param call: calls CloudWatch Logs; see ``JobLog``.
    """
    source = log_source(step)
    if source is None:
        return None
    return JobLog(call, *source, since=step.started_at)


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _last_event_time(stream: Mapping[str, Any]) -> int:
    time = stream.get("lastEventTimestamp")
    if isinstance(time, int):
        return time
    return 0
