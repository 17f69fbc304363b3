"""
Owns the looking of a whole process: one poller per connection and region, however many tasks wait.

A poller has one client, one schedule in a thread of its own, and a few threads that call AWS. Waits
subscribe with what they know (a ``Waiter``), and are told of decisions that have something to say: a change
of status, the end. It begins with the first subscription and ends with the last. Subscribers may live in
different event loops.

What a poller knows belongs to the thread of its schedule alone. Everybody else puts messages into its inbox:
an event loop that had to wait for a lock would hold up every trigger of the process.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty
from typing import Final

from polysync_airflow.exceptions import PolysyncError, SageMakerApiError, hint_for, is_throttling
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS, Finish, Wait, Waiter
from polysync_airflow.states import PolysyncState, has_ended, state_of
from polysync_airflow.tenure import tenure
from polysync_airflow.triggers.due_queue import DueQueue
from polysync_airflow.triggers.message_queue import MessageQueue
from polysync_airflow.triggers.schedule import (
    Pipeline,
    first_poll,
    list_created_after,
    listing_is_cheaper,
    pipeline_arn_of,
)
from polysync_airflow.triggers.shared_client import WORKERS, Listing, SharedClient
from polysync_airflow.triggers.subscription import Subscription

log = logging.getLogger(__name__)

Key = tuple[str, str | None]
Message = Callable[[], None]
# A look that AWS throttled comes again after so long at first; the pace of all has slowed down already.
THROTTLED_PAUSE_SECONDS: Final = 1.0
# What waits hold is counted as old for so many together: about 20 objects that come with a wait, and 10 with
# the first answer.
TENURED_TOGETHER: Final = 100


@dataclass(frozen=True)
class Job:
    """
    Calls that answer one subscription, or by a listing several of one pipeline.

    :param subscriptions: whom they answer.
    :param pipeline: the pipeline to list; None to look at the execution.
    """

    subscriptions: Sequence[Subscription]
    pipeline: Pipeline | None = None


class Poller:
    """
    Looks at executions through one connection and region.

    :param key: connection and region.
    """

    def __init__(self, key: Key) -> None:
        self.channel = SharedClient(*key)
        self.users: set[Subscription] = set()
        self._inbox: MessageQueue[Message | None] = MessageQueue()
        self._pipelines: dict[str, Pipeline] = {}
        self._agenda: DueQueue[Subscription] = DueQueue()
        # Those whose end a listing has shown, or that were missing in it.
        self._urgent: deque[Subscription] = deque()
        self._under_way = 0
        self._subscriptions: set[Subscription] = set()
        self._seen = 0
        self._tenured = 0
        threading.Thread(target=self._run, name=f"polysync-poller-{key[0]}", daemon=True).start()

    def add(self, subscription: Subscription) -> None:
        """Begin to look for a subscription."""
        self._inbox.put(partial(self._add, subscription))

    def remove(self, subscription: Subscription) -> None:
        """End it."""
        subscription.over = True
        self._inbox.put(partial(self._drop, subscription))

    def close(self) -> None:
        """End the poller, when nobody waits any more."""
        self._inbox.put(None)

    # ---- the schedule

    def _run(self) -> None:
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="polysync-look") as pool:
            while self._go_on(pool):
                pass

    def _go_on(self, pool: ThreadPoolExecutor) -> bool:
        try:
            message = receive(self._inbox, self._begin_jobs(pool), idle=not self._under_way)
            if message is None:
                return False
            message()
        except BaseException as error:
            # Whatever it was, nobody may wait in vain: neither who waits now, nor who comes next.
            log.exception("The poller has failed")
            self._fail(list(self._subscriptions), error)
        return True

    def _begin_jobs(self, pool: ThreadPoolExecutor) -> float | None:
        """Begin what is due; return how long nothing else will be, None if that depends on others."""
        while self._under_way < WORKERS:
            now = time.time()
            ready = now if self._urgent else self._agenda.next_due
            if ready is None:
                return None
            wait = max(ready - now, self.channel.pace.delay(time.monotonic()))
            if wait > 0:
                return wait
            self.channel.pace.take(time.monotonic())
            pool.submit(self._do, self._take(now))
            self._under_way += 1
        return None

    def _take(self, now: float) -> Job:
        if self._urgent:
            return Job([self._urgent.popleft()])
        first = self._agenda.pop()
        pipeline = first.pipeline
        together = [first]
        if self.channel.can_list and pipeline.can_list:
            until = now + first.watch.poll_interval
            together += [
                other
                for other in pipeline.members
                if other is not first
                and other in self._agenda
                and other.earliest_poll <= now
                and other.due <= until
            ]
        executions = {subscription.watch.execution_arn for subscription in together}
        if not listing_is_cheaper(pipeline.pages, len(executions)):
            together = [first]
        for subscription in together:
            self._agenda.drop(subscription)
        return Job(together, pipeline if len(together) > 1 else None)

    def _add(self, subscription: Subscription) -> None:
        if subscription.over:
            return
        now, watch = time.time(), subscription.watch
        arn = pipeline_arn_of(watch.execution_arn)
        pipeline = subscription.pipeline = self._pipelines.setdefault(arn, Pipeline(arn))
        pipeline.members.add(subscription)
        self._subscriptions.add(subscription)
        subscription.earliest_poll = now + FIRST_POLL_DELAY_SECONDS
        self._push(subscription, first_poll(watch, now, pipeline.next_poll))
        self._keep()

    def _keep(self) -> None:
        """Have what waits hold count as old, as far as it is more than ever before."""
        kept = len(self._subscriptions) + self._seen
        if kept >= self._tenured + TENURED_TOGETHER:
            self._tenured = kept
            tenure()

    def _push(self, subscription: Subscription, due: float) -> None:
        subscription.due = due
        self._agenda.put(subscription, due)
        subscription.pipeline.expect(due, time.time())

    def _drop(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            # What was learnt of its pipeline is kept while anybody waits at all.
            self._subscriptions.discard(subscription)
            self._seen -= subscription.watch.last_description is not None
            subscription.pipeline.members.discard(subscription)
            self._agenda.drop(subscription)
            subscription.over = True

    def _fail(self, subscriptions: Sequence[Subscription], error: BaseException) -> None:
        for subscription in subscriptions:
            self._drop(subscription)
            self._tell(subscription, error)

    def _tell(self, subscription: Subscription, step: Wait | Finish | BaseException) -> None:
        if not subscription.tell(step):
            self._drop(subscription)
            _leave(self, subscription)

    # ---- what the threads do, and what becomes of it

    def _do(self, job: Job) -> None:
        """Call AWS in a thread of the pool; the answer goes to the schedule's."""
        told: Message
        try:
            if job.pipeline:
                watches = {each.watch.execution_arn: each.watch for each in job.subscriptions}
                since = list_created_after(watches.values())
                listing = self.channel.list_executions(job.pipeline.arn, since, watches.keys())
                told = partial(self._settle_listing, job.pipeline, job.subscriptions, listing)
            else:
                (subscription,) = job.subscriptions
                answer = self.channel.describe(subscription.watch.execution_arn)
                told = partial(self._settle, subscription, answer)
        except BaseException as error:
            log.exception("A look has failed")
            told = partial(self._fail, job.subscriptions, error)
        self._inbox.put(partial(self._done, told))

    def _done(self, told: Message) -> None:
        self._under_way -= 1
        told()

    def _settle_listing(
        self, pipeline: Pipeline, subscriptions: Sequence[Subscription], listing: Listing
    ) -> None:
        found: Mapping[str, ExecutionDescription] = listing.found
        missing = [each for each in subscriptions if each.watch.execution_arn not in found]
        for subscription in subscriptions:
            seen = found.get(subscription.watch.execution_arn)
            if seen and has_ended(seen.status):
                # Its reason and its end are not in the listing.
                self._urgent.append(subscription)
            elif seen:
                self._settle(subscription, seen)
        if listing.error:
            self._settle_failed_listing(pipeline, missing, listing.error)
        else:
            pipeline.pages = listing.pages + bool(missing)
            self._urgent.extend(each for each in missing if not each.over)

    def _settle_failed_listing(
        self, pipeline: Pipeline, subscriptions: Sequence[Subscription], error: PolysyncError
    ) -> None:
        refused = error.error_code if isinstance(error, SageMakerApiError) and error.permanent else None
        for subscription in subscriptions:
            if refused is None:
                self._settle(subscription, error)
            elif not subscription.over:
                self._push(subscription, time.time())
        if refused is None:
            return
        pipeline.can_list = False
        if hint_for(refused) is hint_for("AccessDeniedException") and self.channel.can_list:
            self.channel.can_list = False
            log.warning("Every execution is looked at alone, which takes more calls. %s", error)

    def _settle(self, subscription: Subscription, answer: ExecutionDescription | PolysyncError) -> None:
        if subscription.over:
            return
        now = time.time()
        step = subscription.watch.decide(answer, now)
        if isinstance(step, Finish):
            _learn(subscription.pipeline, step)
            self._drop(subscription)
            self._tell(subscription, step)
            return
        self._seen += subscription.watch.last_description is None and step.watch.last_description is not None
        subscription.watch = watch = step.watch
        seconds = step.seconds
        if isinstance(answer, ExecutionDescription):
            begun = answer.created_at.timestamp() if answer.created_at and not watch.attempt else watch.since
            seconds = min(seconds, subscription.pipeline.forecast.interval(now - begun, watch.poll_interval))
        elif is_throttling(answer):
            seconds = min(seconds, THROTTLED_PAUSE_SECONDS * 2 ** min(watch.failures - 1, 10))
        self._push(subscription, now + seconds)
        if step.notes:
            self._tell(subscription, step)
        self._keep()


def _learn(pipeline: Pipeline, end: Finish) -> None:
    event = end.event
    by_itself = state_of(event.status) is PolysyncState.SUCCESS and not event.attempt
    if by_itself and event.started_at and event.ended_at:
        pipeline.forecast.learn((event.ended_at - event.started_at).total_seconds())


def _nothing() -> None:
    """What happens when time has passed."""


def receive(inbox: MessageQueue[Message | None], seconds: float | None, *, idle: bool) -> Message | None:
    """
    Wait for a message.

    :param inbox: where it comes.
    :param seconds: at most so long; None for no limit.
    :param idle: no call is under way. Where time is emulated, it stands still while one is.
    :return: the message; None to end.
    """
    try:
        return inbox.get(seconds)
    except Empty:
        return _nothing


# Reentrant: the garbage collector may end a subscription while another one begins.
_LOCK: Final = threading.RLock()
_POLLERS: Final[dict[Key, Poller]] = {}


@contextmanager
def subscribe(connection_id: str, region_name: str | None, watch: Waiter) -> Iterator[Subscription]:
    """
    Subscribe a wait of the running event loop, until the context ends.

    :param connection_id: Airflow connection.
    :param region_name: AWS region; None for the connection's.
    :param watch: what is known of the execution.
    """
    key = (connection_id, region_name)
    loop = asyncio.get_running_loop()
    with _LOCK:
        if key not in _POLLERS:
            _POLLERS[key] = Poller(key)
        poller = _POLLERS[key]
        subscription = Subscription(watch, poller.channel, loop)
        poller.users.add(subscription)
    poller.add(subscription)
    try:
        yield subscription
    finally:
        poller.remove(subscription)
        _leave(poller, subscription)


def _leave(poller: Poller, subscription: Subscription) -> None:
    with _LOCK:
        poller.users.discard(subscription)
        if not poller.users and _POLLERS.get(poller.channel.key) is poller:
            del _POLLERS[poller.channel.key]
            poller.close()
