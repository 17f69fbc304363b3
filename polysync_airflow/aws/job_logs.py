"""
Reads the last lines of a job's log in CloudWatch Logs. Any user whose code runs in the
job writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from polysync_airflow.execution.texts import clean_line

MAX_LINE_LENGTH: Final = 500
# CloudWatch Logs stores a line some seconds after the job wrote it, and the clocks of
# hosts differ.
_MARGIN: Final = timedelta(minutes=2)


def read_tail(
    call: Callable[..., dict[str, Any]],
    group: str,
    stream_prefix: str,
    *,
    limit: int,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[str]:
    """
    Return the last lines of the log stream that was written to last.

    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_DescribeLogStreams.html
    and
    API_GetLogEvents.html

    :param call: calls an operation of CloudWatch Logs, by its name and with the members
        of its request.
    :param stream_prefix: the beginning of the stream's name; empty for all streams of
        the group.
    :return: the lines, the oldest first: clean, and at most 500 characters each.
    """
    # AWS sorts by time or filters by prefix, not both.
    order: dict[str, Any] = {"orderBy": "LastEventTime", "descending": True}
    if stream_prefix:
        order = {"logStreamNamePrefix": stream_prefix}
    response = call("DescribeLogStreams", logGroupName=group, limit=50, **order)
    streams = [
        stream
        for stream in response.get("logStreams") or []
        if isinstance(stream, Mapping)
    ]
    if not streams:
        return []
    newest = max(streams, key=_last_event_time)

    times: dict[str, int] = {}
    if since:
        times["startTime"] = int((since - _MARGIN).timestamp() * 1000)
    if until:
        times["endTime"] = int((until + _MARGIN).timestamp() * 1000)
    response = call(
        "GetLogEvents",
        logGroupName=group,
        logStreamName=newest.get("logStreamName", ""),
        limit=limit,
        startFromHead=False,
        **times,
    )
    lines = [
        str(event.get("message", ""))
        for event in response.get("events") or []
        if isinstance(event, Mapping)
    ]
    return [clean_line(line.rstrip("\n"), MAX_LINE_LENGTH) for line in lines[-limit:]]


def _last_event_time(stream: Mapping[str, Any]) -> int:
    time = stream.get("lastEventTimestamp")
    if isinstance(time, int):
        return time
    return 0
