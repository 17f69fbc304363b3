"""
The schedule of a poller: when an execution is polled next, and whether one listing is cheaper than many
descriptions.

Rules:

1. The first polls are spread over the poll interval by the pipeline's name, so that a triggerer that starts
   with thousands of triggers does not poll all of them at once. No poll comes within the first seconds.
2. An execution whose pipeline is polled already is polled first in that pipeline's next poll.
3. One ListPipelineExecutions call returns a hundred executions of a pipeline. A listing is used whenever it
   takes fewer calls than DescribePipelineExecution for each execution that is due before the next poll.
4. When earlier executions of the pipeline show when this one will end, polls come closer together around that
   time. They are never further apart than ``poll_interval``.

Everything here is pure: the time is an argument.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS, Waiter

# A shorter interval would take calls from others, to save a second that nobody notices.
MIN_INTERVAL_SECONDS: Final = 1.0
# How many times closer together polls come around the expected end.
DENSITY: Final = 4
DURATIONS_KEPT: Final = 20
DURATIONS_NEEDED: Final = 3
# The smallest spread of a forecast, as a part of the expected duration.
MIN_SPREAD: Final = 0.05
# The host's clock may differ from AWS's, where only the host has recorded when an execution started.
CLOCK_SKEW_SECONDS: Final = 300.0


def pipeline_arn_of(execution_arn: str) -> str:
    """
    Return the ARN of an execution's pipeline, which AWS accepts in place of its name.

    :param execution_arn: the execution.
    """
    return execution_arn.rpartition("/execution/")[0]


@dataclass(slots=True)
class Forecast:
    """The durations of a pipeline's executions, and the poll interval that follows from them."""

    _durations: tuple[float, ...] = ()
    # The median duration, and how far the end may be from it.
    _expected: tuple[float, float] | None = None

    def add(self, seconds: float) -> None:
        """
        Add the duration of an execution that has succeeded.

        :param seconds: its duration.
        """
        self._durations = (*self._durations, seconds)[-DURATIONS_KEPT:]
        ordered = sorted(self._durations)
        if len(ordered) >= DURATIONS_NEEDED:
            median = ordered[len(ordered) // 2]
            self._expected = median, max((ordered[-1] - ordered[0]) / 2, MIN_SPREAD * median)

    def interval(self, age: float, poll_interval: float) -> float:
        """
        Return the seconds until the next poll.

        :param age: seconds since the execution started.
        :param poll_interval: the longest interval that its task allows, in seconds.
        """
        if self._expected is None:
            return poll_interval
        median, spread = self._expected
        earliest, latest = median - spread, median + spread
        # A long span is polled no more often in total than a short one.
        dense = max(MIN_INTERVAL_SECONDS, poll_interval / DENSITY, spread / DENSITY)
        if age > latest:
            return poll_interval
        if age < earliest:
            return min(poll_interval, max(earliest - age, dense))
        return min(poll_interval, dense)


@dataclass(eq=False, slots=True)
class Pipeline:
    """
    What a poller knows of a pipeline whose executions it polls.

    :param arn: the pipeline.
    :param subscriptions: the subscriptions to its executions.
    :param forecast: from its executions that have succeeded; None before the first.
    :param pages: the number of calls that the last listing took.
    :param can_list: whether its executions can be listed.
    :param next_poll: when one of its executions is polled next, in seconds since the epoch.
    """

    arn: str
    subscriptions: set[Any] = field(default_factory=set)
    forecast: Forecast | None = None
    pages: int = 1
    can_list: bool = True
    next_poll: float | None = None

    def schedule(self, due: float, now: float) -> None:
        """
        Record that one of its executions will be polled.

        :param due: when, in seconds since the epoch.
        :param now: seconds since the epoch.
        """
        if self.next_poll is None or self.next_poll <= now or due < self.next_poll:
            self.next_poll = due

    def add_duration(self, seconds: float) -> None:
        """
        Record the duration of an execution that has succeeded.

        :param seconds: its duration.
        """
        self.forecast = self.forecast or Forecast()
        self.forecast.add(seconds)

    def interval(self, age: float, poll_interval: float) -> float:
        """
        Return the seconds until the next poll of one of its executions.

        :param age: seconds since the execution started.
        :param poll_interval: the longest interval that its task allows, in seconds.
        """
        return self.forecast.interval(age, poll_interval) if self.forecast else poll_interval


def first_poll(waiter: Waiter, now: float, next_poll: float | None) -> float:
    """
    Return when an execution is polled first, in seconds since the epoch.

    :param waiter: its wait.
    :param now: seconds since the epoch.
    :param next_poll: when its pipeline is polled next; None if it is not polled yet.
    """
    earliest, interval = now + FIRST_POLL_DELAY_SECONDS, waiter.poll_interval
    if next_poll is None:
        share = zlib.crc32(pipeline_arn_of(waiter.execution_arn).encode()) / 2**32
        due = earliest + share * max(interval - FIRST_POLL_DELAY_SECONDS, FIRST_POLL_DELAY_SECONDS)
    elif next_poll >= earliest:
        due = min(next_poll, earliest + interval)
    else:
        due = next_poll + interval * -(-(earliest - next_poll) // interval)
    return max(earliest, min(due, waiter.deadline))


def listing_is_cheaper(pages: int, due: int) -> bool:
    """
    Return whether to list a pipeline's executions rather than to describe each one.

    :param pages: the number of calls that the last listing took.
    :param due: the number of descriptions that a listing replaces.
    """
    return pages < due


def list_created_after(waiters: Collection[Waiter]) -> datetime:
    """
    Return the creation time from which executions must be listed to find all that are awaited.

    :param waiters: the waits.
    """
    return min(_started_at(waiter) for waiter in waiters) - timedelta(seconds=1)


def _started_at(waiter: Waiter) -> datetime:
    return waiter.started_at or datetime.fromtimestamp(waiter.since - CLOCK_SKEW_SECONDS, UTC)
