"""
Polls for all triggers of an event loop: one poller for each kind of wait, connection
and region.

A poller begins with its first subscription and ends with its last. It is one asyncio
task in the event loop of its triggers, which begins the calls that are due, in a few
threads; their results are handled in the event loop. A trigger receives the results
that have something for its task: lines for its log, the end.

The schedule says which call is next, and the waiter of each wait decides by the
response, as it does on a worker.
"""

from __future__ import annotations

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

from polysync_airflow.aws.job_logs import RunningJobLogs
from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.deployment import number_of_triggerers
from polysync_airflow.exceptions import CredentialsError, PolysyncError, is_throttling
from polysync_airflow.execution import clock, models
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.waiter import (
    AnyWaiter,
    ExecutionWaiter,
    Finish,
    Response,
    Wait,
    after_estimate,
)
from polysync_airflow.hooks.spending import StepJobStore
from polysync_airflow.triggers import bursts, schedule
from polysync_airflow.triggers.shared_client import WORKERS, SharedClient
from polysync_airflow.triggers.spending import StepChanges, WaitSpending, job_connection
from polysync_airflow.triggers.step_lists import PAUSE_SECONDS, AwaitedLists, ShownLists

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# What a trigger receives: what a poll leads to, or a list of steps.
WaitResult = Wait[Any] | Finish[Any] | StepChanges


# No ``asyncio.Queue``, which has seven objects, and no task that waits for the future:
# the schedule says why.
@dataclass(eq=False, slots=True)
class Subscription(schedule.ScheduledWait[AnyWaiter]):
    """
    A wait, and the way to its trigger. Its event loop only may use it.

    :param progress: when the steps are listed; None for never.
    :param spending: what its task has spent; None without a limit of the cost.
    :param job_logs: writes the new lines of running jobs with each list of the steps;
        None for nothing.
    :param stored_at: when its XCom ``steps`` was stored last, by ``clock.monotonic``.
    :param is_owed: whether its steps have changed since.
    """

    progress: Progress | None = None
    spending: WaitSpending | None = None
    job_logs: RunningJobLogs | None = None
    stored_at: float = -math.inf
    is_owed: bool = False
    _results: tuple[WaitResult | BaseException, ...] = ()
    _future: asyncio.Future[WaitResult] | None = None

    def next_result(self) -> asyncio.Future[WaitResult]:
        """Return a future of the next result that has log lines, or of the end."""
        future = asyncio.get_running_loop().create_future()
        self._future = future
        self._deliver()
        return future

    def send(self, result: WaitResult | BaseException) -> None:
        """Send a result, or an error of the poller, to the trigger."""
        self._results = (*self._results, result)
        self._deliver()

    def _deliver(self) -> None:
        future = self._future
        if not self._results or future is None or future.done():
            return
        result, *later = self._results
        self._results = tuple(later)
        self._future = None
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


# After an error of the schedule: the first backoff, and the longest.
RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 60.0


class Poller(ABC, Generic[AnyWaiter, Response]):
    """
    Polls for the waits of one kind, with one connection in one region. Only its event
    loop may use it.
    """

    # How many calls run at the same time. Few suffice: what people do, and endpoints,
    # change within minutes or hours.
    workers: ClassVar[int] = 4
    # How many calls a poll of all waits of a group takes at first; 0 if it serves each
    # at no cost.
    group_calls: ClassVar[int] = 0

    def __init__(self, client: SharedClient) -> None:
        self.client = client
        self.bursts = bursts.bursts_of_loop()
        self._time = clock.SteadyTime()
        self._schedule: schedule.Schedule[Subscription[AnyWaiter]] = schedule.Schedule(
            self.group_calls
        )
        client.activity.waits = self._schedule.waits.__len__
        # Two more than there are calls at a time: however slow AWS is, the connection
        # is read in time, and no poll waits for the logs of jobs.
        self._pool = ThreadPoolExecutor(
            self.workers + 2, thread_name_prefix="polysync-poll"
        )
        self._calls: set[asyncio.Future[Any]] = set()
        self._reads: set[asyncio.Future[Any]] = set()
        self._log_reads: set[asyncio.Future[Any]] = set()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # In the context of the trigger that happens to be the first, Airflow would
        # write the log lines to the log of its task.
        self._task = self._loop.create_task(self._run(), context=Context())

    def subscribe(
        self, waiter: AnyWaiter, progress: Progress | None = None
    ) -> Subscription[AnyWaiter]:
        """
        Begin to poll. The caller must unsubscribe.

        :param progress: when the steps of an execution are listed; None for never.
        """
        subscription = Subscription(waiter, progress)
        try:
            self._schedule.add(subscription, self._time.time())
        finally:
            self._end_if_unused()
        self._changed.set()
        return subscription

    def unsubscribe(self, subscription: Subscription[AnyWaiter]) -> None:
        """
        End a subscription, if it has not ended. The poller ends with its last one.
        """
        self._schedule.remove(subscription)
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if not self._schedule.waits:
            # No pass of this poller's loop follows.
            self.bursts.send_all(clock.monotonic())
            self._task.cancel()
            for key in [key for key, poller in _POLLERS.items() if poller is self]:
                del _POLLERS[key]

    # ---- what a kind of wait decides

    @abstractmethod
    def poll(
        self, waiters: Sequence[AnyWaiter], is_wanted: Callable[[], bool]
    ) -> Sequence[Response | PolysyncError]:
        """
        Call AWS once for all waits of a group that are due; return the response, or the
        error, of each.

        Called in a thread. The caller has taken the rate limiter's token of the first
        call.

        :param is_wanted: whether one of the waits still goes on.
        """

    # ---- the loop

    async def _run(self) -> None:
        backoff = RETRY_SECONDS
        try:
            while True:
                self._changed.clear()
                try:
                    await self._wait(self._begin_calls())
                    backoff = RETRY_SECONDS
                except Exception:
                    log.exception(
                        "The schedule of the calls failed; it goes on in %.0f s",
                        backoff,
                    )
                    await asyncio.sleep(clock.timeout(backoff, idle=True) or 0)
                    backoff = min(2 * backoff, MAX_RETRY_SECONDS)
        except BaseException as error:
            # For example, the last wait has ended, or the event loop ends: no wait may
            # go on without this task. If the loop is closed already, there is none.
            if not self._loop.is_closed():
                for subscription in list(self._schedule.waits.values()):
                    self._end(subscription, error)
            raise
        finally:
            # The threads end after the calls that they are in.
            self._pool.shutdown(wait=False)
            # From now on, nothing waits.
            self.client.report(is_last=True)

    async def _wait(self, seconds: float | None) -> None:
        idle = not self._calls and not self._reads and not self._log_reads
        with suppress(TimeoutError):
            async with asyncio.timeout(clock.timeout(seconds, idle=idle)):
                await self._changed.wait()

    def _begin_calls(self) -> float | None:
        """
        Begin the calls that are due; return the seconds until the next one, None to
        wait for a change.
        """
        waits = (
            self._begin_polls(),
            self._begin_read(),
            *self._begin_other_calls(),
            self._end_late_waits(),
            self.bursts.send_due(clock.monotonic()),
        )
        return min((wait for wait in waits if wait is not None), default=None)

    def _begin_polls(self) -> float | None:
        while len(self._calls) < self.workers:
            due = self._schedule.next_due
            if due is None:
                return None
            now = self._time.time()
            seconds = max(due - now, self.client.limiter.delay(clock.monotonic()))
            if seconds > 0:
                return seconds
            job = self._schedule.next_job(now, can_list=self._can_list)
            self._begin_poll(job)
            self._schedule.begin(job)
            self.client.limiter.take(clock.monotonic())
        return None

    @property
    def _can_list(self) -> bool:
        return True

    def _begin_poll(self, job: schedule.Job[Subscription[AnyWaiter]]) -> None:
        waiters = [wait.waiter for wait in job.waits]
        call = partial(self.poll, waiters, partial(_is_wanted, job.waits))
        self._begin(self._calls, call, partial(self._handle_responses, job.waits))

    def _begin_other_calls(self) -> Sequence[float | None]:
        """Begin other calls; return the seconds until the next one of each kind."""
        return ()

    def _begin_read(self) -> float | None:
        """
        Read the connection if that is due; return the seconds until then, None while it
        is read.
        """
        if self._reads:
            return None
        seconds = self.client.seconds_until_read
        if seconds > 0:
            return seconds
        self._begin(self._reads, self.client.read, self._handle_read)
        return None

    def _end_late_waits(self) -> float | None:
        if not self._calls:
            self._schedule.end_checks()
            return None
        late, seconds = self._schedule.late(self._time.time())
        for subscription in late:
            end = subscription.waiter.time_out("the last poll has not ended")
            self._end(subscription, end)
        return seconds

    def _begin(
        self,
        running: set[asyncio.Future[Any]],
        call: Callable[[], Result],
        handle: Callable[[Result | BaseException], None],
    ) -> None:
        """
        Call a function in a thread; then handle its result, or its error, in the event
        loop.
        """

        def end_call(future: asyncio.Future[Result]) -> None:
            running.discard(future)
            self._changed.set()
            handle(future.exception() or future.result())

        future = self._loop.run_in_executor(self._pool, call)
        running.add(future)
        future.add_done_callback(end_call)

    # ---- the results of the calls

    def _handle_read(self, result: CredentialsError | BaseException | None) -> None:
        if isinstance(result, CredentialsError):
            # The connection was deleted.
            self._handle_responses(list(self._schedule.waits.values()), result)
        elif result:
            log.error(
                "Connection %r could not be read", self.client.key[0], exc_info=result
            )

    def _handle_responses(
        self,
        subscriptions: Sequence[Subscription[AnyWaiter]],
        result: Sequence[Response | PolysyncError] | BaseException,
    ) -> None:
        """Let each wait decide by its response, or all of them by the same error."""
        if isinstance(result, BaseException):
            for subscription in subscriptions:
                self._handle_response(subscription, result)
            return
        for subscription, response in zip(subscriptions, result, strict=True):
            self._handle_response(subscription, response)

    def _handle_response(
        self, subscription: Subscription[AnyWaiter], response: Response | BaseException
    ) -> None:
        if subscription.ended:
            return
        try:
            if isinstance(response, BaseException) and not isinstance(
                response, PolysyncError
            ):
                raise response
            if not isinstance(response, BaseException):
                self._accept_time()
            self._decide(subscription, response, self._time.time())
        except BaseException as error:
            log.exception("The wait fails: %s", subscription.waiter.name)
            self._end(subscription, error)

    def _accept_time(self) -> None:
        """AWS has answered: what was scheduled moves with the host's clock."""
        jump = self._time.accept()
        if jump:
            self._shift(jump)

    def _shift(self, seconds: float) -> None:
        self._schedule.shift(seconds)

    def _decide(
        self,
        subscription: Subscription[AnyWaiter],
        response: Response | PolysyncError,
        now: float,
    ) -> None:
        result = subscription.waiter.decide(response, now)
        if isinstance(result, Finish):
            self._end(subscription, result)
            return
        waiter = result.waiter
        subscription.waiter = waiter
        self._schedule.poll_at(subscription, now + result.seconds, now)
        if result.log_lines:
            self.bursts.add(subscription, result)

    def _end(
        self, subscription: Subscription[AnyWaiter], result: Finish[Any] | BaseException
    ) -> None:
        self.bursts.add(subscription, result)
        self.unsubscribe(subscription)


def _is_wanted(waits: Sequence[Subscription[AnyWaiter]]) -> bool:
    """Return whether one of the waits of a poll still goes on."""
    return not all(wait.ended for wait in waits)


def _log_error(error: BaseException | None) -> None:
    if error:
        log.error("The logs of jobs could not be read", exc_info=error)


# A list of steps begins only while fewer calls than this run: polls come first, and the
# threads of the process are not delayed.
MAX_CALLS_WITH_STEP_LIST: Final = WORKERS // 2
# Lists of steps that are only shown, for all triggerers together.
SHOWN_LISTS_PER_SECOND: Final = 4.0


# Of all triggerers together. AWS allows an account ten or more GetLogEvents a second in
# a region, also for people:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
LOG_CALLS_PER_SECOND: Final = 4.0

ExecutionSubscription = Subscription[ExecutionWaiter]


class ExecutionPoller(Poller[ExecutionWaiter, models.ExecutionDescription]):
    """
    Polls executions with one connection in one region.

    It also lists the steps of executions whose tasks show them. Polls come first.
    """

    workers = WORKERS
    group_calls = 1

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        super().__init__(SharedClient(connection_id, region_name))
        self._awaited_steps: AwaitedLists[ExecutionSubscription] = AwaitedLists()
        triggerers = number_of_triggerers()
        self._shown_steps: ShownLists[ExecutionSubscription] = ShownLists(
            SHOWN_LISTS_PER_SECOND / triggerers
        )
        # The hook whose connection may list no executions.
        self._denied: object = None
        # Describes jobs, for waits with a limit and at the end of stops; reads logs.
        self.jobs = job_connection(connection_id, region_name)
        log_rate = LOG_CALLS_PER_SECOND / triggerers
        self._log_limiter = RateLimiter(clock.monotonic(), rate=log_rate)
        # The lists of steps whose logs are read next, in turn.
        self._unread: dict[RunningJobLogs, Sequence[StepDescription]] = {}

    @property
    def _can_list(self) -> bool:
        return self._denied is None or self._denied is not self.client.hook

    def subscribe(
        self,
        waiter: ExecutionWaiter,
        progress: Progress | None = None,
        step_jobs: StepJobStore | None = None,
    ) -> ExecutionSubscription:
        """
        Begin to poll, and to estimate what the task has spent if it has a limit.

        :param step_jobs: keeps the jobs of the steps; None for this process only.
        """
        progress = progress or Progress.for_limit(waiter)
        subscription = super().subscribe(waiter, progress)
        if waiter.cost_limit is not None:
            spending = WaitSpending(waiter.cost_limit, self.jobs, step_jobs)
            subscription.spending = spending
        return subscription

    def poll(
        self, waiters: Sequence[ExecutionWaiter], is_wanted: Callable[[], bool]
    ) -> list[models.ExecutionDescription | PolysyncError]:
        """Describe an execution. Several are listed."""
        return [self.client.describe(waiter.execution_arn) for waiter in waiters]

    def _begin_poll(self, job: schedule.Job[ExecutionSubscription]) -> None:
        if job.group is None:
            super()._begin_poll(job)
            return
        waiters = {wait.waiter.name: wait.waiter for wait in job.waits}
        call = partial(
            self.client.list_executions,
            job.group.name,
            schedule.list_created_after(waiters.values()),
            waiters.keys(),
            is_wanted=partial(_is_wanted, job.waits),
        )
        self._begin(
            self._calls, call, partial(self._handle_listing, job.group, job.waits)
        )

    def _begin_other_calls(self) -> Sequence[float | None]:
        if self._unread and not self._log_reads:
            job_logs = next(iter(self._unread))
            read = partial(job_logs.read, self._unread.pop(job_logs))
            self._begin(self._log_reads, read, _log_error)
        awaited = self._begin_step_list(self._awaited_steps)
        return (awaited, self._begin_step_list(self._shown_steps))

    def _begin_step_list(
        self, lists: AwaitedLists[ExecutionSubscription]
    ) -> float | None:
        if len(self._calls) >= MAX_CALLS_WITH_STEP_LIST:
            return None
        now = clock.monotonic()
        seconds = lists.seconds_until_next(now, self.bursts.has_credit(now))
        if seconds is None:
            return None
        seconds = max(seconds, self.client.limiter.delay(now))
        if seconds > 0:
            return seconds
        subscription = lists.begin(now)
        call = partial(self._list_steps, subscription)
        self._begin(self._calls, call, partial(self._handle_steps, subscription))
        self.client.limiter.take(now)
        return PAUSE_SECONDS

    def _list_steps(self, subscription: ExecutionSubscription) -> StepChanges:
        """List the steps, and estimate what they cost, in a thread."""
        steps = self.client.list_steps(
            subscription.waiter.name, is_wanted=lambda: not subscription.ended
        )
        if subscription.spending is None or isinstance(steps, PolysyncError):
            return StepChanges(steps)
        return subscription.spending.estimate(steps)

    def call_logs(self, operation: str, **request: Any) -> Any:
        """Call an operation of CloudWatch Logs, as slowly as it allows. Blocks."""
        call = partial(
            self.jobs.call, lambda hook: hook.call_logs(operation, **request)
        )
        return self._log_limiter.call(call)

    def _handle_listing(
        self,
        group: schedule.Group[ExecutionSubscription],
        waits: Sequence[ExecutionSubscription],
        listing: schedule.Listing | BaseException,
    ) -> None:
        if isinstance(listing, BaseException):
            self._handle_responses(waits, listing)
            return
        if not _is_wanted(waits):
            # The listing has ended with them.
            return
        after = self._schedule.after_listing(group, waits, listing)
        if after.warning and self._can_list:
            log.warning("%s", after.warning)
        if after.is_denied:
            self._denied = self.client.hook
        for subscription, response in after.responses:
            self._handle_response(subscription, response)

    def _decide(
        self,
        subscription: ExecutionSubscription,
        response: models.ExecutionDescription | PolysyncError,
        now: float,
    ) -> None:
        super()._decide(subscription, response, now)
        if is_throttling(response):
            self._pause_step_lists(now)
            return
        progress = subscription.progress
        if progress is None or subscription.ended:
            return
        error = None
        if isinstance(response, PolysyncError):
            error = response
        if progress.after_poll(error, now):
            lists: AwaitedLists[ExecutionSubscription] = self._shown_steps
            if progress.is_awaited:
                lists = self._awaited_steps
            lists.add(subscription, is_first=subscription.stored_at == -math.inf)

    def _shift(self, seconds: float) -> None:
        super()._shift(seconds)
        for subscription in self._schedule.waits.values():
            if subscription.progress:
                subscription.progress.due += seconds

    def _end(
        self, subscription: ExecutionSubscription, result: Finish[Any] | BaseException
    ) -> None:
        if isinstance(result, Finish) and result.event.ended_at:
            delay = clock.time() - result.event.ended_at.timestamp()
            self.client.activity.detected(delay)
        super()._end(subscription, result)

    def _handle_steps(
        self, subscription: ExecutionSubscription, changes: StepChanges | BaseException
    ) -> None:
        if subscription.ended or not subscription.progress:
            return
        if isinstance(changes, BaseException):
            changes = StepChanges(changes)
        steps = changes.steps
        waiter = subscription.waiter
        now = self._time.time()
        if is_throttling(steps):
            self._pause_step_lists(now)
        elif isinstance(steps, BaseException) and not isinstance(steps, PolysyncError):
            log.error("The steps of an execution could not be listed", exc_info=steps)
        try:
            lines = subscription.progress.after_list(waiter, steps, now)
        except PolysyncError as error:
            event = waiter.event("refused", str(error), error)
            self._end(subscription, Finish(event))
            return
        if subscription.job_logs and not isinstance(steps, BaseException):
            self._unread[subscription.job_logs] = steps
        lines = (*changes.log_lines, *lines)
        if lines or changes.is_news or subscription.is_owed:
            changes = StepChanges(steps, lines, changes.spending)
            self.bursts.add(subscription, changes)
        end = after_estimate(waiter, changes.spending)
        if end:
            self._end(subscription, end)

    def share_steps(self, execution_arn: str, steps: Sequence[StepDescription]) -> None:
        """
        Handle a list of the steps of an execution which another poller has made, in
        place of the next. A wait with ``max_cost`` makes its own.
        """
        now = self._time.time()
        for subscription in list(self._schedule.waits.values()):
            progress = subscription.progress
            if subscription.waiter.name != execution_arn or progress is None:
                continue
            if subscription.spending is None:
                progress.postpone(now)
                self._handle_steps(subscription, StepChanges(steps))

    def _pause_step_lists(self, now: float) -> None:
        self._awaited_steps.clear()
        self._shown_steps.clear()
        for subscription in self._schedule.waits.values():
            if subscription.progress:
                subscription.progress.pause(now)


AnyPoller = TypeVar("AnyPoller", bound="Poller[Any, Any]")
# By event loop, class, connection and region, and the further arguments of the poller.
_POLLERS: Final[dict[tuple[Any, ...], Poller[Any, Any]]] = {}


def poller_for(
    kind: Callable[..., AnyPoller], connection_id: str, region_name: str | None
) -> AnyPoller:
    """
    Return the poller of the running event loop. It ends with its last subscription.

    :param kind: the class of the poller.
    """
    loop = asyncio.get_running_loop()
    for other in list(_POLLERS):
        if other[0].is_closed():
            _POLLERS.pop(other, None)
    key = (loop, kind, connection_id, region_name)
    if key not in _POLLERS:
        _POLLERS[key] = kind(connection_id, region_name)
    return cast("AnyPoller", _POLLERS[key])


def existing_poller(
    kind: type[AnyPoller], connection_id: str, region_name: str | None
) -> AnyPoller | None:
    """Return the poller of the running event loop, if there is one."""
    key = (asyncio.get_running_loop(), kind, connection_id, region_name)
    return cast("AnyPoller | None", _POLLERS.get(key))
