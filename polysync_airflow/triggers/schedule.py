"""
The schedule of a poller: when an execution is polled next, and whether one listing is cheaper than many
descriptions.

Rules:

1. The first polls are spread over the poll interval by the pipeline's name, so that a triggerer that starts
   with thousands of triggers does not poll all of them at once. No poll comes within the first seconds.
2. An execution whose pipeline is polled already is polled first in that pipeline's next poll.
3. One ListPipelineExecutions call returns a hundred executions of a pipeline. A listing is used whenever it
   takes fewer calls than DescribePipelineExecution for each execution that is due before the next poll.
4. An execution that a listing shows as ended, or does not contain, is described next.
5. A wait whose last poll does not come in time, because AWS responds slowly, ends without it.

Everything here is pure: the time is an argument.
"""

from __future__ import annotations

import heapq
import itertools
import math
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS, LAST_POLL_SECONDS, Waiter
from polysync_airflow.triggers.subscription import Pipeline, Subscription

# The host's clock may differ from AWS's, where only the host has recorded when an execution started.
CLOCK_SKEW_SECONDS: Final = 300.0
# Before all times at which an execution is polled together with others.
NEXT: Final = 0.0


@dataclass(frozen=True)
class Job:
    """
    A poll of one execution, or a listing that polls several executions of one pipeline.

    :param pipeline: the pipeline to list; None to describe the execution.
    """

    subscriptions: Sequence[Subscription]
    pipeline: Pipeline | None = None


class Schedule:
    """The subscriptions of a poller, by the times of their next polls."""

    def __init__(self) -> None:
        self.subscriptions: dict[int, Subscription] = {}
        self._pipelines: dict[str, Pipeline] = {}
        self._numbers = itertools.count()
        # An entry is out of date if its subscription has another ``due``. Entries are pairs of numbers: the
        # garbage collector does not track these, as it does tuples that hold other objects.
        self._heap: list[tuple[float, int]] = []
        # While calls run: when the deadlines were checked last, in seconds since the epoch.
        self._checked_at: float | None = None

    def waits(self) -> dict[str, int]:
        """Return the number of subscriptions by pipeline. Other threads may call it, too."""
        # A copy, which is made at once: the event loop may change the original meanwhile.
        return {arn: len(pipeline.subscriptions) for arn, pipeline in list(self._pipelines.items())}

    def add(self, subscription: Subscription, now: float) -> None:
        """Schedule the first poll of a subscription."""
        arn = pipeline_arn_of(subscription.waiter.execution_arn)
        pipeline = self._pipelines.get(arn) or Pipeline(arn)
        due = first_poll(subscription.waiter, now, pipeline.next_poll)
        subscription.number, subscription.pipeline = next(self._numbers), pipeline
        subscription.earliest_poll = now + FIRST_POLL_DELAY_SECONDS
        self.subscriptions[subscription.number] = subscription
        self._pipelines[arn] = pipeline
        pipeline.subscriptions.add(subscription)
        self.poll_at(subscription, due, now)

    def remove(self, subscription: Subscription) -> None:
        """End a subscription, if it has not ended."""
        if subscription.ended:
            return
        subscription.ended, pipeline = True, subscription.pipeline
        del self.subscriptions[subscription.number]
        pipeline.subscriptions.discard(subscription)
        if not pipeline.subscriptions:
            del self._pipelines[pipeline.arn]

    def poll_at(self, subscription: Subscription, due: float, now: float) -> None:
        """Schedule the next poll of a subscription, alone or together with others of its pipeline."""
        self._put(subscription, due)
        pipeline, planned = subscription.pipeline, subscription.pipeline.next_poll
        pipeline.next_poll = due if planned is None or planned <= now else min(due, planned)

    def describe_next(self, subscription: Subscription) -> None:
        """Schedule the description of a subscription's execution before all other polls."""
        self._put(subscription, NEXT)

    def _put(self, subscription: Subscription, due: float) -> None:
        if not subscription.ended:
            subscription.due = due
            heapq.heappush(self._heap, (due, subscription.number))

    def _first(self) -> Subscription | None:
        while self._heap:
            due, number = self._heap[0]
            subscription = self.subscriptions.get(number)
            if subscription and subscription.due == due:
                return subscription
            heapq.heappop(self._heap)
        return None

    @property
    def next_due(self) -> float | None:
        """When the next poll is due, in seconds since the epoch; None if none is scheduled."""
        first = self._first()
        return first.due if first else None

    def next_job(self, now: float, *, can_list: bool) -> Job:
        """
        Return the next poll. Nothing changes until ``begin``.

        :raises IndexError: no poll is scheduled.
        """
        first = self._first()
        if first is None:
            raise IndexError("no poll is scheduled")
        pipeline = first.pipeline
        if first.due == NEXT or not can_list or not pipeline.can_list:
            return Job([first])
        until = now + first.waiter.poll_interval
        together = [first] + [
            other
            for other in pipeline.subscriptions
            if other is not first
            and other.due is not None
            and other.due <= until
            and other.earliest_poll <= now
        ]
        # Two tasks may wait for the same execution.
        executions = {subscription.waiter.execution_arn for subscription in together}
        if pipeline.pages < len(executions):
            return Job(together, pipeline)
        return Job([first])

    def begin(self, job: Job) -> None:
        """Record that a poll runs: its subscriptions are not due until they are scheduled again."""
        for subscription in job.subscriptions:
            subscription.due = None

    def late(self, now: float, *, calls_run: bool) -> tuple[list[Subscription], float | None]:
        """
        Return the subscriptions whose last poll does not come in time.

        :param calls_run: whether calls run. Without them, each poll begins when it is due.
        :return: the subscriptions, and the seconds until the next check; None if none is needed.
        """
        if not calls_run:
            self._checked_at = None
            return [], None
        if self._checked_at is None:
            self._checked_at = now
        late: list[Subscription] = []
        # A process that was frozen has checked long ago: its waits have time for their last poll.
        if now >= self._checked_at + LAST_POLL_SECONDS:
            late = [each for each in self.subscriptions.values() if each.waiter.deadline <= self._checked_at]
            self._checked_at = now
        return late, self._checked_at + LAST_POLL_SECONDS - now


def pipeline_arn_of(execution_arn: str) -> str:
    """Return the ARN of an execution's pipeline, which AWS accepts in place of its name."""
    return execution_arn.rpartition("/execution/")[0]


def first_poll(waiter: Waiter, now: float, next_poll: float | None) -> float:
    """
    Return when an execution is polled first, in seconds since the epoch.

    :param next_poll: when its pipeline is polled next; None if it is not polled yet.
    """
    earliest, interval = now + FIRST_POLL_DELAY_SECONDS, waiter.poll_interval
    if next_poll is None:
        share = zlib.crc32(pipeline_arn_of(waiter.execution_arn).encode()) / 2**32
        due = earliest + share * max(interval - FIRST_POLL_DELAY_SECONDS, FIRST_POLL_DELAY_SECONDS)
    else:
        too_early = max(0, math.ceil((earliest - next_poll) / interval))
        due = min(next_poll + too_early * interval, earliest + interval)
    return max(earliest, min(due, waiter.deadline))


def list_created_after(waiters: Collection[Waiter]) -> datetime:
    """Return the creation time from which executions must be listed to find all that are awaited."""
    return min(_started_at(waiter) for waiter in waiters) - timedelta(seconds=1)


def _started_at(waiter: Waiter) -> datetime:
    return waiter.started_at or datetime.fromtimestamp(waiter.since - CLOCK_SKEW_SECONDS, UTC)
