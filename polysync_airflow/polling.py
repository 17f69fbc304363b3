"""
Owns the looking of a whole process: one poller per connection and region, however many tasks wait.

A poller has one client, one schedule in a thread of its own, and a few threads that call AWS. Waits
subscribe with what they know (a ``Watch``), and are told of decisions that have something to say: a change
of status, the end. It begins with the first subscription and ends with the last. Subscribers may live in
different event loops.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from polysync_airflow.channel import WORKERS, Channel
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError, hint_for, is_throttling
from polysync_airflow.models import ExecutionDescription
from polysync_airflow.rounds import Pipeline, first_look, list_from, listing_pays, pipeline_of
from polysync_airflow.states import FIRST_LOOK_SECONDS, Finish, PolysyncState, Watch, has_ended, state_of
from polysync_airflow.subscription import Subscription

log = logging.getLogger(__name__)

Key = tuple[str, str | None]
# A look that AWS throttled comes again after so long at first; the pace of all has slowed down already.
THROTTLED_PAUSE_SECONDS: Final = 1.0


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
        self.channel = Channel(*key)
        self._changed = threading.Condition()
        self._pipelines: dict[str, Pipeline] = {}
        self._heap: list[tuple[float, int, Subscription]] = []
        self._order = itertools.count()
        # Those whose end a listing has shown, or that were missing in it.
        self._urgent: deque[Subscription] = deque()
        self._under_way = 0
        self._subscriptions: set[Subscription] = set()
        self._closed = False
        name = f"polysync-poller-{key[0]}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def add(self, subscription: Subscription) -> None:
        """Begin to look for a subscription."""
        with self._changed:
            now, watch = time.time(), subscription.watch
            arn = pipeline_of(watch.execution_arn)
            pipeline = self._pipelines.setdefault(arn, Pipeline(arn))
            subscription.pipeline = pipeline
            subscription.not_before = now + FIRST_LOOK_SECONDS
            due = first_look(watch, now, pipeline.next_round)
            pipeline.members.add(subscription)
            self._subscriptions.add(subscription)
            self._push(subscription, due)
            self._changed.notify()

    def remove(self, subscription: Subscription) -> bool:
        """End it; tell whether it was the last."""
        with self._changed:
            self._drop(subscription)
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                self._closed = True
                self._changed.notify_all()
            return self._closed

    # ---- the schedule

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(WORKERS, thread_name_prefix="polysync-look") as pool:
                while job := self._next_job():
                    pool.submit(self._do, job)
        except BaseException as error:
            # Whatever it was, nobody may wait for a schedule that has ended.
            log.exception("The poller has failed")
            with self._changed:
                for subscription in self._subscriptions:
                    subscription.tell(error)

    def _next_job(self) -> Job | None:
        with self._changed:
            while not self._closed:
                now = time.time()
                wait = self._seconds_to_wait(now)
                if wait is not None and wait <= 0:
                    self._under_way += 1
                    self.channel.pace.take(time.monotonic())
                    return self._take(now)
                pause(self._changed, wait, idle=not self._under_way)
            return None

    def _seconds_to_wait(self, now: float) -> float | None:
        """Return how long nothing is to be done; None if that depends on others."""
        while self._heap and self._heap[0][2].entry != self._heap[0][1]:
            heapq.heappop(self._heap)
        if self._under_way >= WORKERS or not (self._urgent or self._heap):
            return None
        ready = now if self._urgent else self._heap[0][0]
        return max(ready - now, self.channel.pace.delay(time.monotonic()))

    def _take(self, now: float) -> Job:
        if self._urgent:
            return Job([self._urgent.popleft()])
        first = heapq.heappop(self._heap)[2]
        pipeline = first.pipeline
        together = [first]
        if self.channel.may_list and pipeline.may_list:
            until = now + first.watch.poll_interval
            together = [
                other
                for other in pipeline.members
                if other is first
                or (other.entry is not None and other.not_before <= now and other.due <= until)
            ]
        executions = {subscription.watch.execution_arn for subscription in together}
        if not listing_pays(pipeline.pages, len(executions)):
            together = [first]
        for subscription in together:
            subscription.entry = None
        return Job(together, pipeline if len(together) > 1 else None)

    def _push(self, subscription: Subscription, due: float) -> None:
        """Have it looked at; an entry of before in the heap no longer counts."""
        subscription.due, subscription.entry = due, next(self._order)
        heapq.heappush(self._heap, (due, subscription.entry, subscription))
        subscription.pipeline.expect(due, time.time())

    def _drop(self, subscription: Subscription) -> None:
        subscription.entry, subscription.over = None, True
        pipeline = subscription.pipeline
        pipeline.members.discard(subscription)
        # What was learnt of it is kept while anybody waits at all.

    # ---- what the threads do

    def _do(self, job: Job) -> None:
        try:
            if job.pipeline:
                self._list(job.pipeline, job.subscriptions)
            else:
                self._look(job.subscriptions[0])
        except BaseException as error:
            log.exception("A look has failed")
            for subscription in job.subscriptions:
                subscription.tell(error)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def _look(self, subscription: Subscription) -> None:
        answer = self.channel.observe(subscription.watch.execution_arn)
        with self._changed:
            self._settle(subscription, answer)

    def _list(self, pipeline: Pipeline, subscriptions: Sequence[Subscription]) -> None:
        missing: dict[str, list[Subscription]] = {}
        for subscription in subscriptions:
            missing.setdefault(subscription.watch.execution_arn, []).append(subscription)
        most, pages, token = len(missing), 0, None
        since = list_from([subscription.watch for subscription in subscriptions])
        try:
            while missing and pages < most and (token or not pages):
                if pages:
                    self._wait_for_turn()
                rows, token = self.channel.list_executions(pipeline.arn, since, token)
                pages += 1
                with self._changed:
                    for row in rows:
                        for subscription in missing.pop(row.execution_arn, ()):
                            self._settle_listed(subscription, row.describe())
        except PolysyncError as error:
            self._listing_failed(pipeline, [each for group in missing.values() for each in group], error)
            return
        with self._changed:
            pipeline.pages = pages + bool(missing)
            self._urgent.extend(each for group in missing.values() for each in group if not each.over)

    def _wait_for_turn(self) -> None:
        while seconds := self.channel.pace.claim(time.monotonic()):
            time.sleep(seconds)

    def _listing_failed(
        self, pipeline: Pipeline, subscriptions: Sequence[Subscription], error: PolysyncError
    ) -> None:
        refused = error.error_code if isinstance(error, SageMakerApiError) and error.lasting else None
        with self._changed:
            for subscription in subscriptions:
                if refused is None:
                    self._settle(subscription, error)
                elif not subscription.over:
                    self._push(subscription, time.time())
            if refused is None:
                return
            pipeline.may_list = False
            if hint_for(refused) is hint_for("AccessDeniedException") and self.channel.may_list:
                self.channel.may_list = False
                log.warning("Every execution is looked at alone, which takes more calls. %s", error)

    def _settle_listed(self, subscription: Subscription, seen: ExecutionDescription) -> None:
        if has_ended(seen.status):
            # Its reason and its end are not in the listing.
            self._urgent.append(subscription)
        else:
            self._settle(subscription, seen)

    def _settle(self, subscription: Subscription, answer: ExecutionDescription | PolysyncError) -> None:
        if subscription.over:
            return
        now = time.time()
        step = subscription.watch.decide(answer, now)
        if isinstance(step, Finish):
            _learn(subscription.pipeline, step)
            self._drop(subscription)
            subscription.tell(step)
            return
        subscription.watch = watch = step.watch
        seconds = step.seconds
        if isinstance(answer, ExecutionDescription):
            begun = answer.created_at.timestamp() if answer.created_at and not watch.attempt else watch.since
            seconds = min(seconds, subscription.pipeline.forecast.interval(now - begun, watch.poll_interval))
        elif is_throttling(answer):
            seconds = min(seconds, THROTTLED_PAUSE_SECONDS * 2 ** min(watch.failures - 1, 10))
        self._push(subscription, now + seconds)
        if step.notes:
            subscription.tell(step)


def _learn(pipeline: Pipeline, end: Finish) -> None:
    event = end.event
    by_itself = state_of(event.status) is PolysyncState.SUCCESS and not event.attempt
    if by_itself and event.started_at and event.ended_at:
        pipeline.forecast.learn((event.ended_at - event.started_at).total_seconds())


def pause(changed: threading.Condition, seconds: float | None, *, idle: bool) -> None:
    """
    Let time pass until something changes.

    :param changed: is notified of changes.
    :param seconds: at most so long; None for no limit.
    :param idle: no call is under way. Where time is emulated, it stands still while one is.
    """
    changed.wait(seconds)


_LOCK: Final = threading.Lock()
_POLLERS: Final[dict[Key, Poller]] = {}


@contextmanager
def watching(connection_id: str, region_name: str | None, watch: Watch) -> Iterator[Subscription]:
    """
    Subscribe a wait of the running event loop, until the context ends.

    :param connection_id: Airflow connection.
    :param region_name: AWS region; None for the connection's.
    :param watch: what is known of the execution.
    """
    key = (connection_id, region_name)
    loop = asyncio.get_running_loop()
    with _LOCK:
        poller = _POLLERS.get(key)
        if poller is None:
            poller = _POLLERS[key] = Poller(key)
        subscription = Subscription(watch, poller.channel, loop)
        poller.add(subscription)
    try:
        yield subscription
    finally:
        with _LOCK:
            if poller.remove(subscription) and _POLLERS.get(key) is poller:
                del _POLLERS[key]
