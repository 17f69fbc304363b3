"""
Polls executions for all triggers of an event loop: one poller for each connection and region.

A poller begins with its first subscription and ends with its last. How it calls AWS is in ``call_loop.py``. A
trigger receives the steps that have something for its task: a change of status,
the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from polysync_airflow.exceptions import (
    ACCESS_DENIED,
    PAGINATION,
    RESPONSE_TOO_LARGE,
    CredentialsError,
    PolysyncError,
    SageMakerApiError,
    has_code,
    is_throttling,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.waiter import NO_FAILURES, Finish, Waiter
from polysync_airflow.states import has_ended
from polysync_airflow.triggers.call_loop import CallLoop
from polysync_airflow.triggers.schedule import Job, Schedule, list_created_after
from polysync_airflow.triggers.shared_client import WORKERS, Listing, SharedClient
from polysync_airflow.triggers.subscription import Pipeline, Step, StepChanges, Subscription

log = logging.getLogger(__name__)

# A list of steps begins only while fewer calls than this run, and this many seconds after the last one: polls
# come first, and the threads of the process are not delayed.
MAX_CALLS_WITH_STEP_LIST: Final = WORKERS // 2
STEP_LIST_PAUSE_SECONDS: Final = 0.02


class Poller(CallLoop):
    """Polls executions with one connection in one region. Only its event loop may use it."""

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        super().__init__(SharedClient(connection_id, region_name), threads=WORKERS + 1, name="polysync-poll")
        self._schedule = Schedule()
        self._step_lists: deque[Subscription] = deque()
        self._next_step_list = 0.0

    def subscribe(self, waiter: Waiter, progress: Progress | None = None) -> Subscription:
        """
        Begin to poll. The caller must unsubscribe.

        :param progress: when the steps are listed; None for never.
        """
        subscription = Subscription(waiter, progress)
        try:
            self._schedule.add(subscription, clock.time())
        finally:
            self._end_if_unused()
        self._changed.set()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription, if it has not ended. The poller ends with its last one."""
        self._schedule.remove(subscription)
        self.client.activity.polled(subscription, "", NO_FAILURES)
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if not self._schedule.subscriptions:
            self._task.cancel()
            key = (self._loop, *self.client.key)
            if _POLLERS.get(key) is self:
                del _POLLERS[key]

    def _waits(self) -> Mapping[str, int]:
        return self._schedule.waits()

    # ---- the schedule

    def _begin_calls(self) -> float | None:
        """Begin the calls that are due; return the seconds until the next one, None to wait for a change."""
        waits = (
            self._begin_polls(),
            self._begin_read(),
            self._begin_step_list(),
            self._end_late_waits(),
        )
        return min((wait for wait in waits if wait is not None), default=None)

    def _begin_polls(self) -> float | None:
        while len(self._calls) < WORKERS and (due := self._schedule.next_due) is not None:
            now = clock.time()
            wait = max(due - now, self.client.limiter.delay(clock.monotonic()))
            if wait > 0:
                return wait
            job = self._schedule.next_job(now, can_list=self.client.can_list)
            self._begin_poll(job)
            self._schedule.begin(job)
            self.client.limiter.take(clock.monotonic())
        return None

    def _begin_poll(self, job: Job) -> None:
        waiters = {each.waiter.execution_arn: each.waiter for each in job.subscriptions}
        if job.pipeline:
            call = partial(
                self.client.list_executions,
                job.pipeline.arn,
                list_created_after(waiters.values()),
                waiters.keys(),
                is_wanted=lambda: not all(each.ended for each in job.subscriptions),
            )
            self._begin(self._calls, call, partial(self._handle_listing, job.pipeline, job.subscriptions))
        else:
            (subscription,), (arn,) = job.subscriptions, waiters
            self._begin(
                self._calls, partial(self.client.describe, arn), partial(self._handle_response, subscription)
            )

    def _begin_step_list(self) -> float | None:
        while self._step_lists and self._step_lists[0].ended:
            self._step_lists.popleft()
        if not self._step_lists or len(self._calls) >= MAX_CALLS_WITH_STEP_LIST:
            return None
        now = clock.time()
        wait = max(self._next_step_list - now, self.client.limiter.delay(clock.monotonic()))
        if wait > 0:
            return wait
        subscription = self._step_lists[0]
        arn = subscription.waiter.execution_arn
        call = partial(self.client.list_steps, arn, is_wanted=lambda: not subscription.ended)
        self._begin(self._calls, call, partial(self._handle_steps, subscription))
        self._step_lists.popleft()
        self._next_step_list = now + STEP_LIST_PAUSE_SECONDS
        self.client.limiter.take(clock.monotonic())
        return STEP_LIST_PAUSE_SECONDS

    def _end_late_waits(self) -> float | None:
        late, seconds = self._schedule.late(clock.time(), calls_run=bool(self._calls))
        for subscription in late:
            self._end(subscription, subscription.waiter.time_out("the last poll has not ended"))
        return seconds

    # ---- the results of the calls

    def _end_all(self, error: BaseException) -> None:
        for subscription in list(self._schedule.subscriptions.values()):
            self._end(subscription, error)

    def _handle_deletion(self, error: CredentialsError) -> None:
        for subscription in list(self._schedule.subscriptions.values()):
            self._handle_response(subscription, error)

    def _handle_listing(
        self, pipeline: Pipeline, subscriptions: Sequence[Subscription], listing: Listing | BaseException
    ) -> None:
        if isinstance(listing, BaseException):
            for subscription in subscriptions:
                self._handle_response(subscription, listing)
            return
        if all(subscription.ended for subscription in subscriptions):
            # The listing has ended with them.
            return
        missing = []
        for subscription in subscriptions:
            row = listing.executions.get(subscription.waiter.execution_arn)
            if row is None:
                missing.append(subscription)
            elif has_ended(row.status):
                # A listing has neither the reason nor the time of the end.
                self._schedule.describe_next(subscription)
            else:
                self._handle_response(subscription, row)
        if listing.error:
            self._handle_failed_listing(pipeline, missing, listing.error)
            return
        pipeline.pages = listing.pages + bool(missing)
        for subscription in missing:
            self._schedule.describe_next(subscription)

    def _handle_failed_listing(
        self, pipeline: Pipeline, subscriptions: Sequence[Subscription], error: PolysyncError
    ) -> None:
        endless = has_code(error, PAGINATION, RESPONSE_TOO_LARGE)
        if not endless and not (isinstance(error, SageMakerApiError) and error.permanent):
            for subscription in subscriptions:
                self._handle_response(subscription, error)
            return
        # The executions may be described nevertheless.
        pipeline.can_list = False
        if endless:
            log.warning("Each execution of %s is described on its own: %s", pipeline.arn, error)
        for subscription in subscriptions:
            self._schedule.describe_next(subscription)
        if has_code(error, ACCESS_DENIED) and self.client.can_list:
            self.client.can_list = False
            log.warning("Each execution is described on its own, which takes more calls: %s", error)

    def _handle_response(
        self, subscription: Subscription, response: ExecutionDescription | BaseException
    ) -> None:
        if subscription.ended:
            return
        try:
            if not isinstance(response, ExecutionDescription | PolysyncError):
                raise response
            self._decide(subscription, response, clock.time())
        except BaseException as error:
            log.exception("The wait fails: execution %s", subscription.waiter.execution_arn)
            self._end(subscription, error)

    def _decide(
        self, subscription: Subscription, response: ExecutionDescription | PolysyncError, now: float
    ) -> None:
        if is_throttling(response):
            self._pause_step_lists(now)
        elif subscription.progress and subscription.progress.after_poll(response, now):
            self._step_lists.append(subscription)
        step = subscription.waiter.decide(response, now)
        if isinstance(step, Finish):
            if step.event.ended_at:
                self.client.activity.detected(now - step.event.ended_at.timestamp())
            self._end(subscription, step)
            return
        subscription.waiter = step.waiter
        self.client.activity.polled(subscription, step.waiter.execution_arn, step.waiter.failures)
        self._schedule.poll_at(subscription, now + step.seconds, now)
        if step.log_lines:
            subscription.send(step)

    def _handle_steps(
        self, subscription: Subscription, result: Sequence[StepDescription] | BaseException
    ) -> None:
        if subscription.ended or not subscription.progress:
            return
        now, steps = clock.time(), () if isinstance(result, BaseException) else result
        if is_throttling(result):
            self._pause_step_lists(now)
        elif isinstance(result, BaseException) and not isinstance(result, PolysyncError):
            log.error("The steps of an execution could not be listed", exc_info=result)
        lines = subscription.progress.after_list(result, now)
        if lines:
            subscription.send(StepChanges(steps, lines))

    def _pause_step_lists(self, now: float) -> None:
        self._step_lists.clear()
        for subscription in self._schedule.subscriptions.values():
            if subscription.progress:
                subscription.progress.pause(now)

    def _end(self, subscription: Subscription, step: Step | BaseException) -> None:
        self.unsubscribe(subscription)
        subscription.send(step)


# By event loop, connection and region.
_POLLERS: Final[dict[tuple[asyncio.AbstractEventLoop, str, str | None], Poller]] = {}


def poller_for(connection_id: str, region_name: str | None) -> Poller:
    """Return the poller of the running event loop. It ends when its last subscription ends."""
    loop = asyncio.get_running_loop()
    for other in list(_POLLERS):
        if other[0].is_closed():
            _POLLERS.pop(other, None)
    key = (loop, connection_id, region_name)
    if key not in _POLLERS:
        _POLLERS[key] = Poller(connection_id, region_name)
    return _POLLERS[key]
