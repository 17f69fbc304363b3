"""
The schedule of a poller: when a wait is polled next, and with which others.

Rules:

1. The first polls are spread over the poll interval by the group of the wait (the
   pipeline of an execution), so that a triggerer that starts with thousands of triggers
   does not poll all of them at once. No poll comes within the first seconds, unless the
   wait says that it may.
2. A wait whose group is polled already is polled first in that group's next poll.
3. Waits of a group that are due before the next poll are polled together if that takes
   fewer calls than to poll each alone. One ListPipelineExecutions call returns a
   hundred executions of a pipeline; each search in a pipeline, and each wait for a
   resource, takes part in the poll of another one at no cost.
4. An execution that a listing shows as ended, or does not contain, is described next.
5. A pipeline whose listing AWS refuses, or does not end, is not listed any more.
   Without the permission, no pipeline is, until the connection changes. Any other error
   of a listing is one of its executions' polls.
6. A wait whose last poll does not come in time, because AWS responds slowly, ends
   without it.

Everything here is pure: the time is an argument.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from polysync_airflow import exceptions
from polysync_airflow.execution import waiter as waiting
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.states import has_ended

# The host's clock may differ from AWS's, where only the host has recorded when an
# execution started.
CLOCK_SKEW_SECONDS: Final = 300.0
# Before all times at which an execution is polled together with others.
NEXT: Final = 0.0


@dataclass(frozen=True, slots=True)
class StepChanges:
    """
    Steps of the execution have changed.

    :param steps: AWS's list of its steps; the error if it cannot be listed.
    :param log_lines: lines for the task's log.
    """

    steps: Sequence[StepDescription] | BaseException
    log_lines: Sequence[waiting.LogLine]


Step = waiting.Wait[Any] | waiting.Finish[Any] | StepChanges


@dataclass(eq=False, slots=True)
class Group:
    """
    Waits that may be polled together: for executions of one pipeline, or for the same
    resource.

    :param calls: how many calls a poll of all takes: the number of pages of the last
        listing; 0 if it serves each of them at no cost.
    :param can_list: whether they can be polled together.
    :param next_poll: when one of them is polled next, in seconds since the epoch.
    """

    name: str
    calls: int
    subscriptions: set[Subscription] = field(default_factory=set)
    can_list: bool = True
    next_poll: float | None = None


# A triggerer may hold thousands of subscriptions, and the garbage collector goes
# through all of their objects while every thread of the process stands still. So there
# are few: slots, a future that is awaited as it is, and no ``asyncio.Queue``, which has
# seven objects.
@dataclass(eq=False, slots=True)
class Subscription:
    """
    One wait. Its event loop only may use it.

    :param progress: when the steps are listed; None for never.
    :param number: its place in the order of all subscriptions.
    :param due: when it is polled next, in seconds since the epoch; None while a poll
        runs.
    """

    waiter: waiting.Waiter[Any, Any]
    progress: Progress | None = None
    group: Group = field(init=False)
    number: int = 0
    earliest_poll: float = 0.0
    due: float | None = None
    ended: bool = False
    _steps: tuple[Step | BaseException, ...] = ()
    _future: asyncio.Future[Step] | None = None

    def next_step(self) -> asyncio.Future[Step]:
        """Return a future of the next step that has log lines, or the end."""
        self._future = future = asyncio.get_running_loop().create_future()
        self._deliver()
        return future

    def send(self, step: Step | BaseException) -> None:
        """Send a step, or an error of the poller, to the trigger."""
        self._steps = (*self._steps, step)
        self._deliver()

    def _deliver(self) -> None:
        future = self._future
        if not self._steps or future is None or future.done():
            return
        (step, *later), self._future = self._steps, None
        self._steps = tuple(later)
        if isinstance(step, BaseException):
            future.set_exception(step)
        else:
            future.set_result(step)


@dataclass(frozen=True)
class Job:
    """
    A poll of one wait, or one that serves several waits of a group.

    :param group: the group; None to poll the wait alone.
    """

    subscriptions: Sequence[Subscription]
    group: Group | None = None


@dataclass(frozen=True)
class Listing:
    """
    The result of a listing.

    :param executions: those of the requested executions that were listed, by ARN.
    :param pages: the number of calls that it took.
    :param error: the error that ended it early.
    """

    executions: Mapping[str, ExecutionDescription]
    pages: int
    error: exceptions.PolysyncError | None = None


@dataclass(frozen=True)
class AfterListing:
    """
    What comes after a listing.

    :param responses: those of the waits that go on, or end, with it.
    :param warning: what the log of the triggerer says; None for nothing.
    :param is_denied: no pipeline can be listed.
    """

    responses: Sequence[
        tuple[Subscription, ExecutionDescription | exceptions.PolysyncError]
    ]
    warning: str | None = None
    is_denied: bool = False


class Schedule:
    """
    The subscriptions of a poller, by the times of their next polls.

    :param calls: how many calls a poll of a whole group takes at first.
    """

    def __init__(self, calls: int = 1) -> None:
        self.subscriptions: dict[int, Subscription] = {}
        self._calls = calls
        self._groups: dict[str, Group] = {}
        self._numbers = itertools.count()
        # An entry is out of date if its subscription has another ``due``. Entries are
        # pairs of numbers: the garbage collector does not track these, as it does
        # tuples that hold other objects.
        self._heap: list[tuple[float, int]] = []
        # While calls run: when the deadlines were checked last, in seconds since the
        # epoch.
        self._checked_at: float | None = None

    def add(self, subscription: Subscription, now: float) -> None:
        """Schedule the first poll of a subscription."""
        name = subscription.waiter.group
        group = self._groups.get(name) or Group(name, self._calls)
        due = first_poll(subscription.waiter, now, group.next_poll)
        subscription.number, subscription.group = next(self._numbers), group
        subscription.earliest_poll = now + subscription.waiter.first_delay
        self.subscriptions[subscription.number] = subscription
        self._groups[name] = group
        group.subscriptions.add(subscription)
        self.poll_at(subscription, due, now)

    def remove(self, subscription: Subscription) -> None:
        """End a subscription, if it has not ended."""
        if subscription.ended:
            return
        subscription.ended, group = True, subscription.group
        del self.subscriptions[subscription.number]
        group.subscriptions.discard(subscription)
        if not group.subscriptions:
            del self._groups[group.name]

    def poll_at(self, subscription: Subscription, due: float, now: float) -> None:
        """
        Schedule the next poll of a subscription, alone or together with others of its
        group.
        """
        self._put(subscription, due)
        group, planned = subscription.group, subscription.group.next_poll
        group.next_poll = (
            due if planned is None or planned <= now else min(due, planned)
        )

    def describe_next(self, subscription: Subscription) -> None:
        """
        Schedule the description of a subscription's execution before all other polls.
        """
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
        """
        When the next poll is due, in seconds since the epoch; None if none is
        scheduled.
        """
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
        group = first.group
        if first.due == NEXT or not can_list or not group.can_list:
            return Job([first])
        until = now + first.waiter.poll_interval
        together = [first] + [
            other
            for other in group.subscriptions
            if other is not first
            and other.due is not None
            and other.due <= until
            and other.earliest_poll <= now
        ]
        # Two tasks may wait for the same execution.
        names = {subscription.waiter.name for subscription in together}
        return Job(together, group) if group.calls < len(names) else Job([first])

    def begin(self, job: Job) -> None:
        """
        Record that a poll runs: its subscriptions are not due until they are scheduled
        again.
        """
        for subscription in job.subscriptions:
            subscription.due = None

    def after_listing(self, job: Job, listing: Listing) -> AfterListing:
        """
        Return what comes after a listing, and schedule the descriptions that it needs.
        """
        group: Any = job.group
        responses, missing = [], []
        for subscription in job.subscriptions:
            row = listing.executions.get(subscription.waiter.name)
            if row is None:
                missing.append(subscription)
            elif has_ended(row.status):
                # A listing has neither the reason nor the time of the end.
                self.describe_next(subscription)
            else:
                responses.append((subscription, row))
        error = listing.error
        if error is None:
            group.calls = listing.pages + bool(missing)
        warning = None
        is_endless = exceptions.has_code(
            error, exceptions.PAGINATION, exceptions.RESPONSE_TOO_LARGE
        )
        is_refused = isinstance(error, exceptions.SageMakerApiError) and error.permanent
        if error and not is_endless and not is_refused:
            return AfterListing([*responses, *((each, error) for each in missing)])
        for subscription in missing:
            self.describe_next(subscription)
        # The executions may be described nevertheless.
        is_denied = exceptions.has_code(error, exceptions.ACCESS_DENIED)
        if is_denied:
            warning = (
                "Each execution is described on its own, which takes more calls:"
                f" {error}"
            )
        elif error:
            group.can_list = False
        if is_endless:
            warning = f"Each execution of {group.name} is described on its own: {error}"
        return AfterListing(responses, warning, is_denied)

    def late(
        self, now: float, *, calls_run: bool
    ) -> tuple[list[Subscription], float | None]:
        """
        Return the subscriptions whose last poll does not come in time.

        :param calls_run: whether calls run. Without them, each poll begins when it is
            due.
        :return: the subscriptions, and the seconds until the next check; None if none
            is needed.
        """
        if not calls_run:
            self._checked_at = None
            return [], None
        if self._checked_at is None:
            self._checked_at = now
        late: list[Subscription] = []
        # A process that was frozen has checked long ago: its waits have time for their
        # last poll.
        if now >= self._checked_at + waiting.LAST_POLL_SECONDS:
            late = [
                each
                for each in self.subscriptions.values()
                if each.waiter.deadline <= self._checked_at
            ]
            self._checked_at = now
        return late, self._checked_at + waiting.LAST_POLL_SECONDS - now


def first_poll(
    waiter: waiting.Waiter[Any, Any], now: float, next_poll: float | None
) -> float:
    """
    Return when a wait is polled first, in seconds since the epoch.

    :param next_poll: when its group is polled next; None if it is not polled yet.
    """
    delay, interval = waiter.first_delay, waiter.poll_interval
    earliest = now + delay
    if not delay:
        return now
    if next_poll is None:
        share = zlib.crc32(waiter.group.encode()) / 2**32
        due = earliest + share * max(interval - delay, delay)
    else:
        too_early = max(0, math.ceil((earliest - next_poll) / interval))
        due = min(next_poll + too_early * interval, earliest + interval)
    return max(earliest, min(due, waiter.last_poll_at))


def list_created_after(waiters: Collection[waiting.ExecutionWaiter]) -> datetime:
    """
    Return the creation time from which executions must be listed to find all that are
    awaited.
    """
    return min(_started_at(waiter) for waiter in waiters) - timedelta(seconds=1)


def _started_at(waiter: waiting.ExecutionWaiter) -> datetime:
    return waiter.started_at or datetime.fromtimestamp(
        waiter.since - CLOCK_SKEW_SECONDS, UTC
    )
