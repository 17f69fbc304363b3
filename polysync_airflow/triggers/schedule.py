"""
Owns the schedule of looks: when an execution is looked at next, and whether one listing is cheaper.

Rules:

1. First looks are spread over the interval by the pipeline's name, so that a triggerer that starts with
   thousands of waits does not ask for all of them at once, and none comes within the first seconds.
2. Who joins a pipeline that is watched already is looked at in its next round.
3. One call lists a hundred executions of a pipeline: they are listed whenever that takes fewer calls than a
   look at each one that would be due before the next round.
4. Where earlier executions of the pipeline tell when this one will end, looks come closer together then;
   never further apart than ``poll_interval``.

Everything here is pure: the clock is an argument.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS, Waiter

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html
EXECUTIONS_PER_PAGE: Final = 100
# A closer look costs calls of others, for a second that nobody misses.
SHORTEST_INTERVAL_SECONDS: Final = 1.0
# How much closer together looks come around the expected end.
CLOSER: Final = 4
DURATIONS_KEPT: Final = 20
DURATIONS_NEEDED: Final = 3
# How uncertain even an exact forecast is.
LEAST_SPREAD: Final = 0.05
# Our clock may differ from AWS's where only ours has told when an execution began.
SKEW_SECONDS: Final = 300.0


def pipeline_arn_of(execution_arn: str) -> str:
    """
    Return the ARN of an execution's pipeline, which AWS takes wherever it takes a name.

    :param execution_arn: the execution.
    """
    return execution_arn.rpartition("/execution/")[0]


@dataclass
class Forecast:
    """How long executions of one pipeline took, as far as it was seen."""

    _seconds: tuple[float, ...] = ()
    # The middle of what was seen, and how far the end may be from it.
    _expected: tuple[float, float] | None = None

    def learn(self, seconds: float) -> None:
        """
        Add an execution that has ended by itself.

        :param seconds: how long it took.
        """
        self._seconds = (*self._seconds, seconds)[-DURATIONS_KEPT:]
        known = sorted(self._seconds)
        if len(known) >= DURATIONS_NEEDED:
            middle = known[len(known) // 2]
            self._expected = middle, max((known[-1] - known[0]) / 2, LEAST_SPREAD * middle)

    def interval(self, age: float, poll_interval: float) -> float:
        """
        Return how many seconds to wait until the next look.

        :param age: seconds since the execution began.
        :param poll_interval: the longest that its task allows.
        """
        if self._expected is None:
            return poll_interval
        middle, spread = self._expected
        opens, closes = middle - spread, middle + spread
        # A wide window is not searched more closely than a narrow one: that would take too many looks.
        closer = max(SHORTEST_INTERVAL_SECONDS, poll_interval / CLOSER, spread / CLOSER)
        if age > closes:
            return poll_interval
        if age < opens:
            return min(poll_interval, max(opens - age, closer))
        return min(poll_interval, closer)


@dataclass(eq=False)
class Pipeline:
    """
    What is known of a pipeline whose executions are awaited.

    :param arn: the pipeline.
    :param members: who waits.
    :param pages: how many calls a listing took, as far as it went.
    :param can_list: it can be listed.
    """

    arn: str
    members: set[Any] = field(default_factory=set)
    forecast: Forecast = field(default_factory=Forecast)
    pages: int = 1
    can_list: bool = True
    next_poll: float | None = None

    def expect(self, due: float, now: float) -> None:
        """
        Take note of when it is looked at.

        :param due: when one of its executions is (seconds since the epoch).
        :param now: seconds since the epoch.
        """
        if self.next_poll is None or self.next_poll <= now or due < self.next_poll:
            self.next_poll = due


def first_poll(watch: Waiter, now: float, next_poll: float | None) -> float:
    """
    Return when an execution is looked at first (seconds since the epoch).

    :param watch: its wait.
    :param now: seconds since the epoch.
    :param next_poll: when its pipeline is looked at next; None if it is not watched yet.
    """
    earliest, interval = now + FIRST_POLL_DELAY_SECONDS, watch.poll_interval
    if next_poll is None:
        share = zlib.crc32(pipeline_arn_of(watch.execution_arn).encode()) / 2**32
        due = earliest + share * max(interval - FIRST_POLL_DELAY_SECONDS, FIRST_POLL_DELAY_SECONDS)
    elif next_poll >= earliest:
        due = min(next_poll, earliest + interval)
    else:
        due = next_poll + interval * -(-(earliest - next_poll) // interval)
    return max(earliest, min(due, watch.deadline))


def listing_is_cheaper(pages: int, due: int) -> bool:
    """
    Tell whether to list a pipeline's executions rather than to look at each.

    :param pages: how many calls the last listing took.
    :param due: how many looks it would save.
    """
    return pages < due


def list_created_after(watches: Collection[Waiter]) -> datetime:
    """
    Return from when on executions have to be listed to find all that are awaited.

    :param watches: the waits.
    """
    return min(_begun(watch) for watch in watches) - timedelta(seconds=1)


def _begun(watch: Waiter) -> datetime:
    if watch.last_description and watch.last_description.created_at:
        return watch.last_description.created_at
    return datetime.fromtimestamp(watch.since - SKEW_SECONDS, UTC)
