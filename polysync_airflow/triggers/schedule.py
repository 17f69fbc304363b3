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
5. A pipeline is not listed any more if AWS refuses its listing, or if the listing does
   not end. Without the permission, no pipeline is listed until the connection changes.
   Any other error of a listing counts as an error of its executions' polls.
6. A wait whose last poll does not come in time, because AWS responds slowly, ends
   without it.

Everything here is pure: the time is an argument. All times are Unix times.
"""

from __future__ import annotations

import heapq
import itertools
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Self, TypeVar

from polysync_airflow import exceptions, states
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.waiter import (
    LAST_POLL_SECONDS,
    AnyWaiter,
    ExecutionWaiter,
)

# The host's clock may differ from AWS's, where only the host has recorded when an
# execution started.
CLOCK_SKEW_SECONDS: Final = 300.0
# A time before all those at which executions are polled together.
NEXT: Final = 0.0

AnyWait = TypeVar("AnyWait", bound="ScheduledWait[Any]")


# A triggerer may hold thousands of them, and the garbage collector goes through all of
# their objects while every thread of the process stands still. So each has few.
@dataclass(eq=False, slots=True)
class ScheduledWait(Generic[AnyWaiter]):
    """
    A wait, and when it is polled.

    :param number: its place in the order of all waits.
    :param earliest_poll: when it may be polled first.
    :param due: when it is polled next; None while a poll runs.
    :param ended: whether it has ended, so that it is not polled any more.
    """

    waiter: AnyWaiter
    group: Group[Self] = field(init=False)
    number: int = field(default=0, init=False)
    earliest_poll: float = field(default=0.0, init=False)
    due: float | None = field(default=None, init=False)
    ended: bool = field(default=False, init=False)


@dataclass(eq=False, slots=True)
class Group(Generic[AnyWait]):
    """
    Waits that may be polled together: for executions of one pipeline, or for the same
    resource.

    :param calls: how many calls a poll of all takes: the number of pages of the last
        listing; 0 if it serves each of them at no cost.
    :param can_list: whether they can be polled together.
    :param next_poll: when one of them is polled next.
    """

    name: str
    calls: int
    waits: dict[int, AnyWait] = field(default_factory=dict)
    can_list: bool = True
    next_poll: float | None = None


@dataclass(frozen=True)
class Job(Generic[AnyWait]):
    """
    A poll of one wait, or one that serves several waits of a group.

    :param group: the group; None to poll the wait alone.
    """

    waits: Sequence[AnyWait]
    group: Group[AnyWait] | None = None


@dataclass(frozen=True)
class Listing:
    """
    The result of a listing.

    :param executions: the requested executions that AWS has listed, by ARN.
    :param pages: the number of calls that the listing took.
    :param error: the error that ended the listing early.
    """

    executions: Mapping[str, ExecutionDescription]
    pages: int
    error: exceptions.PolysyncError | None = None


@dataclass(frozen=True)
class AfterListing(Generic[AnyWait]):
    """
    What comes after a listing.

    :param responses: the responses for the waits that the listing has answered.
    :param warning: what the log of the triggerer says; None for nothing.
    :param is_denied: no pipeline can be listed.
    """

    responses: Sequence[tuple[AnyWait, ExecutionDescription | exceptions.PolysyncError]]
    warning: str | None = None
    is_denied: bool = False


class Schedule(Generic[AnyWait]):
    """
    The waits of a poller, by the times of their next polls.

    :param calls: how many calls a poll of a whole group takes at first.
    """

    def __init__(self, calls: int) -> None:
        self.waits: dict[int, AnyWait] = {}
        self._calls = calls
        self._groups: dict[str, Group[AnyWait]] = {}
        self._numbers = itertools.count()
        # An entry is out of date if its wait has another ``due``. Entries are pairs of
        # numbers: the garbage collector does not track these, as it does tuples that
        # hold other objects.
        self._heap: list[tuple[float, int]] = []
        # When the deadlines were checked last; None while no call runs.
        self._checked_at: float | None = None

    def add(self, wait: AnyWait, now: float) -> None:
        """Schedule the first poll of a wait."""
        waiter = wait.waiter
        group = self._groups.get(waiter.group)
        if group is None:
            group = Group(waiter.group, self._calls)
        due = first_poll(waiter, now, group.next_poll)
        wait.group = group
        wait.number = next(self._numbers)
        wait.earliest_poll = now + waiter.first_delay
        self.waits[wait.number] = wait
        self._groups[group.name] = group
        group.waits[wait.number] = wait
        self.poll_at(wait, due, now)

    def remove(self, wait: AnyWait) -> None:
        """End a wait, if it has not ended."""
        if wait.ended:
            return
        wait.ended = True
        del self.waits[wait.number]
        group = wait.group
        del group.waits[wait.number]
        if not group.waits:
            del self._groups[group.name]

    def poll_at(self, wait: AnyWait, due: float, now: float) -> None:
        """
        Schedule the next poll of a wait, alone or together with others of its group.
        """
        self._put(wait, due)
        group = wait.group
        if group.next_poll is None or group.next_poll <= now:
            group.next_poll = due
        else:
            group.next_poll = min(due, group.next_poll)

    def describe_next(self, wait: AnyWait) -> None:
        """Schedule the description of a wait's execution before all other polls."""
        self._put(wait, NEXT)

    def _put(self, wait: AnyWait, due: float) -> None:
        if not wait.ended:
            wait.due = due
            heapq.heappush(self._heap, (due, wait.number))

    def _first(self) -> AnyWait | None:
        while self._heap:
            due, number = self._heap[0]
            wait = self.waits.get(number)
            if wait and wait.due == due:
                return wait
            heapq.heappop(self._heap)
        return None

    @property
    def next_due(self) -> float | None:
        """When the next poll is due; None without a scheduled poll."""
        first = self._first()
        if first is None:
            return None
        return first.due

    def next_job(self, now: float, *, can_list: bool) -> Job[AnyWait]:
        """
        Return the next poll. Nothing changes until ``begin``.

        :param can_list: whether executions can be listed at all.
        :raises IndexError: no poll is scheduled.
        """
        first = self._first()
        if first is None:
            raise IndexError("no poll is scheduled")
        group: Group[AnyWait] = first.group
        if first.due == NEXT or not can_list or not group.can_list:
            return Job([first])
        until = now + first.waiter.poll_interval
        together = [first]
        for other in group.waits.values():
            is_due = other.due is not None and other.due <= until
            if is_due and other.earliest_poll <= now and other is not first:
                together.append(other)
        # Two tasks may wait for the same execution.
        names = {wait.waiter.name for wait in together}
        if group.calls >= len(names):
            return Job([first])
        return Job(together, group)

    def begin(self, job: Job[AnyWait]) -> None:
        """
        Record that a poll runs: its waits are not due until they are scheduled again.
        """
        for wait in job.waits:
            wait.due = None

    def after_listing(
        self, group: Group[AnyWait], waits: Sequence[AnyWait], listing: Listing
    ) -> AfterListing[AnyWait]:
        """
        Return what comes after a listing, and schedule the descriptions that it needs.

        :param waits: the waits of the group for which the listing was made.
        """
        responses: list[
            tuple[AnyWait, ExecutionDescription | exceptions.PolysyncError]
        ] = []
        missing = []
        for wait in waits:
            row = listing.executions.get(wait.waiter.name)
            if row is None:
                missing.append(wait)
            elif states.has_ended(row.status):
                # A listing has neither the reason nor the time of the end.
                self.describe_next(wait)
            else:
                responses.append((wait, row))

        error = listing.error
        is_endless = exceptions.has_code(
            error, exceptions.PAGINATION, exceptions.RESPONSE_TOO_LARGE
        )
        is_refused = isinstance(error, exceptions.SageMakerApiError) and error.permanent
        if error and not is_endless and not is_refused:
            # The error counts as the poll of each execution that was not listed yet.
            responses += [(wait, error) for wait in missing]
            return AfterListing(responses)

        # The executions may be described nevertheless.
        for wait in missing:
            self.describe_next(wait)
        if error is None:
            group.calls = listing.pages
            if missing:
                # The listing has ended before it had all the executions.
                group.calls += 1
            return AfterListing(responses)
        if exceptions.has_code(error, exceptions.ACCESS_DENIED):
            text = "Each execution is described on its own, which takes more calls:"
            return AfterListing(responses, f"{text} {error}", is_denied=True)
        group.can_list = False
        if is_endless:
            text = f"Each execution of {group.name} is described on its own: {error}"
            return AfterListing(responses, text)
        return AfterListing(responses)

    def shift(self, seconds: float) -> None:
        """
        Move all polls, because the time has jumped.

        :param seconds: negative if it was set back.
        """
        self._heap = []
        for wait in self.waits.values():
            wait.earliest_poll += seconds
            if wait.due is None:
                continue
            if wait.due != NEXT:
                wait.due += seconds
            self._heap.append((wait.due, wait.number))
        heapq.heapify(self._heap)
        for group in self._groups.values():
            if group.next_poll is not None:
                group.next_poll += seconds
        self._checked_at = None

    def end_checks(self) -> None:
        """
        Record that no calls run: each last poll begins when it is due, so none is late.
        """
        self._checked_at = None

    def late(self, now: float) -> tuple[list[AnyWait], float]:
        """
        Return the waits whose last poll does not come in time, while calls run.

        :return: the waits, and the seconds until the next check.
        """
        if self._checked_at is None:
            self._checked_at = now
        late: list[AnyWait] = []
        # A process that was frozen has checked long ago: its waits have time for their
        # last poll.
        if now >= self._checked_at + LAST_POLL_SECONDS:
            for wait in self.waits.values():
                if wait.waiter.deadline <= self._checked_at:
                    late.append(wait)
            self._checked_at = now
        return late, self._checked_at + LAST_POLL_SECONDS - now


def first_poll(waiter: AnyWaiter, now: float, next_poll: float | None) -> float:
    """
    Return when a wait is polled first.

    :param next_poll: when its group is polled next; None if it is not polled yet.
    """
    delay = waiter.first_delay
    interval = waiter.poll_interval
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


def list_created_after(waiters: Collection[ExecutionWaiter]) -> datetime:
    """
    Return the creation time from which executions must be listed to find all that are
    awaited.
    """
    return min(_started_at(waiter) for waiter in waiters) - timedelta(seconds=1)


def _started_at(waiter: ExecutionWaiter) -> datetime:
    if waiter.started_at:
        return waiter.started_at
    return datetime.fromtimestamp(waiter.since - CLOCK_SKEW_SECONDS, UTC)
