"""
Reads the logs of jobs in CloudWatch Logs. Any user whose code runs in a job writes its
log.

Rules for the new lines of running jobs, which ``RunningJobLogs`` writes in both modes:

1. A job takes a call each time: GetLogEvents, whose token is the position in a log
   stream, so that no line is lost or written twice. FilterLogEvents would search the
   streams of all hosts, but AWS allows an account only five of them a second. The first
   call of a job is DescribeLogStreams, which finds the stream of its first host.
2. A tuning job has a stream for each training job. When that which is read has no new
   lines, the one that was written to last is read.
3. Of more lines than the limit, the newest are written. At most ``MAX_JOBS`` are read
   each time, in turn.
4. A process that begins to read, such as a triggerer after a restart, does not know
   what another one has written: it writes the last ``MAX_NEW_LINES`` lines of each job.
5. A job that has ended is read until AWS has had some seconds to store its last lines,
   or until the end of the wait.
6. After a permanent error, for example because a permission is missing, nothing more is
   read; after another one, nothing for a minute, and then for longer, but at the end of
   the wait. One warning says so, but not of a single slow call: nobody must cure it.
   The wait goes on.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from polysync_airflow import exceptions
from polysync_airflow.aws.responses import time_limit
from polysync_airflow.execution import clock, texts
from polysync_airflow.execution.steps.descriptions import StepDescription, log_source

MAX_LINE_LENGTH: Final = 500
# The most lines that AWS returns at once. It returns at most 1 MB of them.
MAX_LINES: Final = 10_000
# CloudWatch Logs stores a line some seconds after the job wrote it, and the clocks of
# hosts differ.
_MARGIN: Final = timedelta(minutes=2)
# Colours, and what progress bars do to a terminal.
_TERMINAL_CODES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class JobLog:
    """
    The log of a job: of its log streams, that of its first host while it runs, and
    afterwards the one that was written to last. No lines are read of a log that does
    not exist yet.

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
    # When lines were read last, by ``clock.monotonic``; infinite if nothing more is.
    read_at: float = 0.0
    # The request for the lines after those that were read, and that of each stream.
    _next_request: dict[str, Any] = field(default_factory=dict, init=False)
    _requests: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)

    def read_tail(self, limit: int, *, until: datetime | None = None) -> list[str]:
        """
        Return the last lines.

        :param until: leaves out newer lines; None for none, of a job that runs.
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
        # AWS sorts them by name.
        stream = streams[0]
        if until or self._has_several_jobs:
            stream = max(streams, key=_last_event_time)
        name = stream.get("logStreamName", "")
        self._next_request = self._requests.setdefault(name, {"logStreamName": name})
        if self.since:
            start_time = _milliseconds(self.since - _MARGIN)
            self._next_request["startTime"] = start_time
        end: dict[str, int] = {}
        if until:
            end["endTime"] = _milliseconds(until + _MARGIN)
        is_known = "nextToken" in self._next_request
        return self._read(limit, startFromHead=is_known, **end)

    def read_on(self, first: int = MAX_LINES) -> list[str]:
        """
        Return the lines after those that were read, at most ``MAX_LINES``.

        :param first: how many of the last lines to return if none were read yet.
        :raises SageMakerApiError: a call failed.
        """
        if not self._next_request:
            return self.read_tail(first)
        lines = self._read(MAX_LINES, startFromHead=True)
        if not lines and self._has_several_jobs:
            self._next_request = {}
        return lines

    @property
    def _has_several_jobs(self) -> bool:
        """Whether jobs whose names begin with that of this one do the work."""
        return self.stream_prefix.endswith("-")

    def _read(self, limit: int, **members: Any) -> list[str]:
        request = {**self._next_request, "limit": limit, **members}
        response = self._call("GetLogEvents", **request)
        token = response.get("nextForwardToken")
        if isinstance(token, str):
            self._next_request["nextToken"] = token
        lines = [
            _TERMINAL_CODES.sub("", str(event.get("message", "")))
            for event in response.get("events") or []
            if isinstance(event, Mapping)
        ]
        return [
            texts.clean_line(line.rstrip("\n"), MAX_LINE_LENGTH)
            for line in lines[-limit:]
        ]

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        try:
            return self.call(operation, logGroupName=self.group, **request)
        except exceptions.SageMakerApiError as error:
            if exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
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


MAX_JOBS: Final = 10
# What is written of a job each time.
MAX_NEW_LINES: Final = 200
CALL_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 60.0
# How long after the end of a job AWS may store its last lines.
STORED_SECONDS: Final = 15.0
# A process that begins to read leaves out jobs that have ended longer ago.
PAST_SECONDS: Final = 600.0


class RunningJobLogs:
    """
    Writes the new lines of the jobs of one execution, for one wait. Thread-safe.

    :param call: calls CloudWatch Logs; see ``JobLog``.
    :param write: writes a line, by its level, a format and its text.
    """

    def __init__(
        self,
        call: Callable[..., dict[str, Any]],
        write: Callable[[int, str, str], object],
    ) -> None:
        self._call = call
        self._write = write
        # The last read may begin while another one goes on.
        self._lock = threading.Lock()
        self._logs: dict[tuple[str, str], JobLog] = {}
        self._failures = 0
        self._has_warned = False
        # When they are read next, by ``clock.monotonic``.
        self._due = 0.0

    def read(self, steps: Sequence[StepDescription], *, is_last: bool = False) -> None:
        """
        Write the new lines.

        :param steps: AWS's list.
        :param is_last: whether no other list follows.
        """
        with self._lock:
            now = clock.monotonic()
            if is_last and self._due != math.inf:
                self._due = now
            jobs = [(log, step) for step in steps if (log := self._open(step))]
            jobs.sort(key=lambda job: job[0].read_at)
            for log, step in jobs[:MAX_JOBS]:
                if now < self._due or log.read_at == math.inf:
                    return
                self._read_job(log, step.name, now, is_last=is_last)
                is_stored = _seconds_since_end(step) > STORED_SECONDS
                if now >= self._due and (is_last or is_stored):
                    log.read_at = math.inf

    def read_last(self, list_steps: Callable[[], Any]) -> None:
        """
        Write the last lines, at the end of the wait.

        :param list_steps: returns AWS's list.
        """
        with suppress(exceptions.PolysyncError):
            self.read(list_steps(), is_last=True)

    def _open(self, step: StepDescription) -> JobLog | None:
        """Return the log of a step's job; None if there is nothing to read."""
        source = log_source(step)
        # All callers of a Lambda function share its log streams.
        if source is None or not source[1] or step.is_reused:
            return None
        if source not in self._logs:
            if _seconds_since_end(step) > PAST_SECONDS:
                return None
            self._logs[source] = JobLog(self._call, *source, since=step.started_at)
        return self._logs[source]

    def _read_job(self, log: JobLog, step: str, now: float, *, is_last: bool) -> None:
        log.read_at = now
        try:
            with time_limit(CALL_SECONDS):
                lines = log.read_on(MAX_NEW_LINES)
        except exceptions.PolysyncError as error:
            self._failures += 1
            self._due = now + PAUSE_SECONDS * self._failures
            if error.permanent:
                self._due = math.inf
            is_single = error.transient and self._failures == 1 and not is_last
            self._write_failure(str(error), is_single=is_single)
            return
        self._has_warned = False
        self._failures = 0
        if not lines:
            return
        head = f"Step {step}: new lines of its log"
        if len(lines) > MAX_NEW_LINES:
            head += f", the last {MAX_NEW_LINES} of {len(lines):,}"
        shown = [f"| {line}" for line in lines[-MAX_NEW_LINES:]]
        self._write(logging.INFO, "%s", "\n".join((head, *shown)))

    def _write_failure(self, error: str, *, is_single: bool) -> None:
        if is_single:
            problem, _, _ = error.partition(exceptions.BEFORE_CURE)
            text = (
                "A call for the logs of jobs has failed. It is repeated after"
                f" {PAUSE_SECONDS:.0f} s, from the same line on: {problem}"
            )
            self._write(logging.INFO, "%s", text)
        elif not self._has_warned:
            self._has_warned = True
            text = f"The log lacks lines of jobs: {error}"
            self._write(logging.WARNING, "%s", text)


def _seconds_since_end(step: StepDescription) -> float:
    if step.ended_at is None:
        return 0.0
    return clock.time() - step.ended_at.timestamp()


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _last_event_time(stream: Mapping[str, Any]) -> int:
    time = stream.get("lastEventTimestamp")
    if isinstance(time, int):
        return time
    return 0
