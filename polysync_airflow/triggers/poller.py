"""
Polls executions for all triggers of a process: one poller for each connection and region.

A poller begins with its first subscription and ends with its last. Its schedule runs in a thread of its own,
and its calls to AWS in a few more. Subscribers, which may be in different event loops, receive the steps that
have something for the task: a change of status, the end. A deleted connection ends all subscriptions.

Only the schedule's thread reads and changes what a poller knows. All others put messages into its queue. So
no event loop waits for a lock, which would delay every trigger of the process.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import Empty
from typing import Any, Final

from polysync_airflow.exceptions import (
    ACCESS_DENIED,
    CredentialsError,
    PolysyncError,
    SageMakerApiError,
    has_code,
    is_throttling,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.rows import StepDescription
from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS, Finish
from polysync_airflow.states import PolysyncState, has_ended, state_of
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
from polysync_airflow.triggers.step_lists import PAUSE_SECONDS, StepLists
from polysync_airflow.triggers.subscription import Step, Subscription

log = logging.getLogger(__name__)

Key = tuple[str, str | None]
Message = Callable[[], None]
# The first backoff after a throttled poll. It can be short, since the rate limiter has slowed down all calls
# already.
THROTTLING_BACKOFF_SECONDS: Final = 1.0
# How many pipelines a poller knows before it forgets those that it does not poll. A deployment may create a
# pipeline for each run, and a poller may live for months.
MAX_PIPELINES: Final = 1000


@dataclass(frozen=True)
class Job:
    """
    A poll of one execution, or a listing that polls several executions of one pipeline.

    :param subscriptions: the subscriptions that it polls for.
    :param pipeline: the pipeline to list; None to describe the execution.
    """

    subscriptions: Sequence[Subscription]
    pipeline: Pipeline | None = None


class Poller:
    """
    Polls executions with one connection in one region.

    :param key: connection and region.
    :param release: called when a subscription does not use the poller any more.
    """

    def __init__(self, key: Key, release: Callable[[Poller, Subscription], None]) -> None:
        self.client = SharedClient(*key)
        self._release = release
        # Used by the registry only: tells when the poller can end.
        self.users: set[Subscription] = set()
        self._messages: MessageQueue[Message | None] = MessageQueue()
        self._pipelines: dict[str, Pipeline] = {}
        self._due: DueQueue[Subscription] = DueQueue()
        # Executions to describe next: a listing has shown their end, or did not contain them.
        self._urgent: deque[Subscription] = deque()
        self._step_lists = StepLists()
        self._running_jobs = 0
        self._reads_connection = False
        self._subscriptions: set[Subscription] = set()
        threading.Thread(target=self._run, name=f"polysync-poller-{key[0]}", daemon=True).start()

    def subscribe(self, subscription: Subscription) -> None:
        """
        Begin to poll for a subscription.

        :param subscription: the subscription.
        """
        self._messages.put(partial(self._isolated, subscription, self._add, subscription))

    def unsubscribe(self, subscription: Subscription) -> None:
        """
        End a subscription. The poller ends with its last one.

        :param subscription: the subscription.
        """
        subscription.ended = True
        self._messages.put(partial(self._remove, subscription))
        self._release(self, subscription)

    def close(self) -> None:
        """End the poller."""
        self._messages.put(None)

    # ---- the schedule

    def _run(self) -> None:
        # One more thread than there are polls at a time: however slow AWS is, the connection is read in time.
        with ThreadPoolExecutor(WORKERS + 1, thread_name_prefix="polysync-poll") as pool:
            while self._handle_next_message(pool):
                pass

    def _handle_next_message(self, pool: ThreadPoolExecutor) -> bool:
        try:
            next_due = (self._submit_jobs(pool), self._submit_read(pool), self._submit_step_list(pool))
            waits = [wait for wait in next_due if wait is not None]
            idle = not self._running_jobs and not self._reads_connection
            message = receive(self._messages, min(waits, default=None), idle=idle)
            if message is None:
                return False
            message()
        except BaseException as error:
            # Whatever the error is: the current subscribers must not wait for ever, and later ones need the
            # thread.
            log.exception("The poller failed; the tasks that wait fail with its error")
            self._fail(list(self._subscriptions), error)
        return True

    def _submit_jobs(self, pool: ThreadPoolExecutor) -> float | None:
        """Submit the jobs that are due; return the seconds until the next one, None to wait for a message."""
        while self._running_jobs < WORKERS:
            now = clock.time()
            due = now if self._urgent else self._due.next_due
            if due is None:
                return None
            wait = max(due - now, self.client.limiter.delay(clock.monotonic()))
            if wait > 0:
                return wait
            self.client.limiter.take(clock.monotonic())
            pool.submit(self._do, self._next_job(now))
            self._running_jobs += 1
        return None

    def _submit_step_list(self, pool: ThreadPoolExecutor) -> float | None:
        """Submit the next list of steps if it is due; return the seconds as ``_submit_jobs`` does."""
        now = clock.time()
        wait = self._step_lists.seconds_until_next(now)
        if wait is None or self._running_jobs >= WORKERS:
            return None
        wait = max(wait, self.client.limiter.delay(clock.monotonic()))
        if wait > 0:
            return wait
        self.client.limiter.take(clock.monotonic())
        pool.submit(self._list_steps, self._step_lists.take(now))
        self._running_jobs += 1
        return PAUSE_SECONDS

    def _submit_read(self, pool: ThreadPoolExecutor) -> float | None:
        """Submit the read of the connection if it is due; return the seconds as ``_submit_jobs`` does."""
        if self._reads_connection or not self._subscriptions:
            return None
        wait = self.client.seconds_until_read
        if wait > 0:
            return wait
        self._reads_connection = True
        pool.submit(self._read_connection)
        return None

    def _next_job(self, now: float) -> Job:
        if self._urgent:
            return Job([self._urgent.popleft()])
        first = self._due.pop()
        pipeline = first.pipeline
        together = [first]
        if self.client.can_list and pipeline.can_list:
            until = now + first.waiter.poll_interval
            together += [
                other
                for other in pipeline.subscriptions
                if other is not first
                and other in self._due
                and other.earliest_poll <= now
                and other.due <= until
            ]
        executions = {subscription.waiter.execution_arn for subscription in together}
        if not listing_is_cheaper(pipeline.pages, len(executions)):
            together = [first]
        for subscription in together:
            self._due.discard(subscription)
        return Job(together, pipeline if len(together) > 1 else None)

    def _add(self, subscription: Subscription) -> None:
        if subscription.ended:
            return
        now, waiter = clock.time(), subscription.waiter
        arn = pipeline_arn_of(waiter.execution_arn)
        if arn not in self._pipelines and len(self._pipelines) >= MAX_PIPELINES:
            self._pipelines = {arn: each for arn, each in self._pipelines.items() if each.subscriptions}
        pipeline = subscription.pipeline = self._pipelines.setdefault(arn, Pipeline(arn))
        pipeline.subscriptions.add(subscription)
        self._subscriptions.add(subscription)
        subscription.earliest_poll = now + FIRST_POLL_DELAY_SECONDS
        if subscription.progress:
            subscription.progress.postpone(now)
        self._schedule(subscription, first_poll(waiter, now, pipeline.next_poll))

    def _schedule(self, subscription: Subscription, due: float) -> None:
        subscription.due = due
        self._due.put(subscription, due)
        subscription.pipeline.schedule(due, clock.time())

    def _remove(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            # Its pipeline, with the forecast, is kept for the next execution.
            self._subscriptions.discard(subscription)
            subscription.pipeline.subscriptions.discard(subscription)
            self._due.discard(subscription)
            subscription.ended = True

    def _isolated(self, subscription: Subscription, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function for one subscription. An error fails this subscription only."""
        try:
            function(*arguments)
        except Exception as error:
            log.exception("Execution %s: its wait failed", subscription.waiter.execution_arn)
            self._fail([subscription], error)

    def _fail(self, subscriptions: Sequence[Subscription], error: BaseException) -> None:
        for subscription in subscriptions:
            self._remove(subscription)
            self._send(subscription, error)

    def _send(self, subscription: Subscription, step: Step | BaseException) -> None:
        if not subscription.send(step):
            self._remove(subscription)
            self._release(self, subscription)

    # ---- the calls to AWS, and their results

    def _do(self, job: Job) -> None:
        """Call AWS, in a thread of the pool, and send the result to the schedule's thread."""
        message: Message
        try:
            if job.pipeline:
                waiters = {each.waiter.execution_arn: each.waiter for each in job.subscriptions}
                since = list_created_after(waiters.values())
                listing = self.client.list_executions(job.pipeline.arn, since, waiters.keys())
                message = partial(self._handle_listing, job.pipeline, job.subscriptions, listing)
            else:
                (subscription,) = job.subscriptions
                response = self.client.describe(subscription.waiter.execution_arn)
                message = partial(self._isolated, subscription, self._handle_response, subscription, response)
        except BaseException as error:
            log.exception("A poll failed with an unexpected error; the tasks that wait for it fail")
            message = partial(self._fail, job.subscriptions, error)
        self._messages.put(partial(self._finish_job, message))

    def _list_steps(self, subscription: Subscription) -> None:
        """List steps, in a thread of the pool."""
        result: Sequence[StepDescription] | PolysyncError = ()
        try:
            result = self.client.list_steps(subscription.waiter.execution_arn)
        except BaseException:
            log.exception("The steps of an execution could not be listed")
        message = partial(self._isolated, subscription, self._handle_steps, subscription, result)
        self._messages.put(partial(self._finish_job, message))

    def _handle_steps(
        self, subscription: Subscription, result: Sequence[StepDescription] | PolysyncError
    ) -> None:
        changes = self._step_lists.done(subscription, result, clock.time())
        if changes:
            self._send(subscription, changes)

    def _read_connection(self) -> None:
        """Read the connection, in a thread of the pool."""
        deletion = None
        try:
            deletion = self.client.read_connection()
        except BaseException:
            log.exception("Connection %r could not be read", self.client.key[0])
        self._messages.put(partial(self._finish_read, deletion))

    def _finish_read(self, deletion: CredentialsError | None) -> None:
        self._reads_connection = False
        if deletion:
            for subscription in list(self._subscriptions):
                self._isolated(subscription, self._handle_response, subscription, deletion)

    def _finish_job(self, message: Message) -> None:
        self._running_jobs -= 1
        message()

    def _handle_listing(
        self, pipeline: Pipeline, subscriptions: Sequence[Subscription], listing: Listing
    ) -> None:
        missing = [each for each in subscriptions if each.waiter.execution_arn not in listing.executions]
        for subscription in subscriptions:
            row = listing.executions.get(subscription.waiter.execution_arn)
            if row and has_ended(row.status):
                # A listing has neither the reason nor the time of the end.
                self._urgent.append(subscription)
            elif row:
                self._isolated(subscription, self._handle_response, subscription, row)
        if listing.error:
            self._handle_failed_listing(pipeline, missing, listing.error)
        else:
            pipeline.pages = listing.pages + bool(missing)
            self._urgent.extend(each for each in missing if not each.ended)

    def _handle_failed_listing(
        self, pipeline: Pipeline, subscriptions: Sequence[Subscription], error: PolysyncError
    ) -> None:
        code = error.error_code if isinstance(error, SageMakerApiError) and error.permanent else None
        for subscription in subscriptions:
            if code is None:
                self._isolated(subscription, self._handle_response, subscription, error)
            elif not subscription.ended:
                self._schedule(subscription, clock.time())
        if code is None:
            return
        pipeline.can_list = False
        if has_code(error, ACCESS_DENIED) and self.client.can_list:
            self.client.can_list = False
            log.warning("Each execution is described on its own, which takes more calls: %s", error)

    def _handle_response(
        self, subscription: Subscription, response: ExecutionDescription | PolysyncError
    ) -> None:
        if subscription.ended:
            return
        now = clock.time()
        self._step_lists.after_poll(subscription, response, now)
        step = subscription.waiter.decide(response, now)
        if isinstance(step, Finish):
            _add_duration(subscription.pipeline, step)
            self._remove(subscription)
            self._send(subscription, step)
            return
        subscription.waiter = waiter = step.waiter
        seconds = step.seconds
        if isinstance(response, ExecutionDescription):
            created = response.created_at
            started = created.timestamp() if created and not waiter.attempt else waiter.since
            seconds = min(seconds, subscription.pipeline.interval(now - started, waiter.poll_interval))
        elif is_throttling(response):
            exponent = min(waiter.consecutive_failures - 1, 10)
            seconds = min(seconds, THROTTLING_BACKOFF_SECONDS * 2**exponent)
        self._schedule(subscription, now + seconds)
        if step.log_lines:
            self._send(subscription, step)


def _add_duration(pipeline: Pipeline, end: Finish) -> None:
    event = end.event
    # A failed, stopped or resumed execution does not show how long a whole one takes.
    whole = state_of(event.status) is PolysyncState.SUCCESS and not event.attempt
    if whole and event.started_at and event.ended_at:
        pipeline.add_duration((event.ended_at - event.started_at).total_seconds())


def _do_nothing() -> None:
    """The message that stands for a timeout."""


def receive(messages: MessageQueue[Message | None], seconds: float | None, *, idle: bool) -> Message | None:
    """
    Wait for a message.

    :param messages: the queue.
    :param seconds: how long to wait; None for no limit.
    :param idle: no call to AWS is running.
    :return: the message; None to end the poller.
    """
    try:
        return messages.get(clock.timeout(seconds, idle=idle) if messages.empty() else 0)
    except Empty:
        return _do_nothing
