"""
Lists executions for all searches of an event loop: one list of a pipeline serves all searches in it.

Rules:

1. A search joins the looks at its pipeline that are planned already. No look comes within its first seconds.
2. A look lists what is new for the search that has listed least.
3. The parameters of an execution are read once, for all searches.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, Final, TypeVar, cast

from polysync_airflow.exceptions import CredentialsError, PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.search.criteria import MAX_LISTED
from polysync_airflow.execution.search.lookout import Lookout
from polysync_airflow.execution.search.models import ListedExecution
from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS, NO_FAILURES
from polysync_airflow.triggers.call_loop import CallLoop
from polysync_airflow.triggers.shared_client import SharedClient

Result = TypeVar("Result")

# How many lists run at the same time.
WORKERS: Final = 4
# The parameters of so many executions are kept.
MAX_KNOWN: Final = 1000


class SearchClient(SharedClient):
    """Lists executions, and remembers their parameters, which never change. Thread-safe."""

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        super().__init__(connection_id, region_name, polls="searches")
        self._parameters: dict[str, dict[str, str]] = {}
        self._parameters_lock = Lock()

    def find(
        self, pipeline: str, created_after: datetime, *, is_wanted: Callable[[], bool]
    ) -> Sequence[ListedExecution] | PolysyncError:
        """
        List the executions of a pipeline, the oldest first; return an error instead of raising it.

        The pages after the first wait for the rate limiter.

        :param is_wanted: whether to go on, which is asked before each page.
        """
        through = self._later_pages_limited(is_wanted)
        return self._result(
            lambda hook: list(
                islice(
                    hook.find_pipeline_executions(pipeline, created_after=created_after, through=through),
                    MAX_LISTED + 1,
                )
            )
        )

    def parameters_of(self, execution_arn: str) -> Mapping[str, str]:
        """
        Return the parameters of an execution.

        :raises PolysyncError: AWS refuses the call.
        """
        # One call for all searches that need them at the same time.
        with self._parameters_lock:
            known = self._parameters.get(execution_arn)
            if known is None:
                known = self._call(partial(self._list_parameters, execution_arn))
                if len(self._parameters) >= MAX_KNOWN:
                    self._parameters.pop(next(iter(self._parameters)))
                self._parameters[execution_arn] = known
            return known

    def _list_parameters(self, execution_arn: str, hook: Any) -> dict[str, str]:
        return cast(
            "dict[str, str]",
            hook.list_pipeline_parameters_for_execution(execution_arn, through=self._call_limited),
        )

    def _call_limited(self, call: Callable[[], Result]) -> Result:
        self.limiter.acquire()
        return call()


@dataclass(frozen=True, slots=True)
class Listed:
    """
    What a look has brought.

    :param result: the executions, the oldest first; or the error.
    :param at: when the list was requested, in seconds since the epoch.
    """

    result: Sequence[ListedExecution] | PolysyncError
    at: float


@dataclass(eq=False, slots=True)
class SearchSubscription:
    """
    One search. Its event loop only may use it.

    :param interval: seconds between two looks.
    :param earliest: when its first look may come, in seconds since the epoch.
    :param due: when it looks next, in seconds since the epoch; None while a look runs.
    """

    lookout: Lookout
    interval: float
    earliest: float
    due: float | None = None
    ended: bool = False
    future: asyncio.Future[Listed] | None = None

    @property
    def pipeline(self) -> str:
        """The pipeline that is listed."""
        return self.lookout.search.pipeline_name


@dataclass(eq=False, slots=True)
class SearchedPipeline:
    """A pipeline, and the searches in it."""

    subscriptions: set[SearchSubscription] = field(default_factory=set)

    @property
    def next_look(self) -> float:
        """When it is listed next, in seconds since the epoch; infinite if no search waits for a look."""
        return min((each.due for each in self.subscriptions if each.due is not None), default=math.inf)


def first_look(subscription: SearchSubscription, next_look: float) -> float:
    """
    Return when a search looks first, in seconds since the epoch.

    :param next_look: when its pipeline is listed next; infinite if that is not planned.
    """
    earliest, interval = subscription.earliest, subscription.interval
    if next_look == math.inf:
        return earliest
    too_early = max(0, math.ceil((earliest - next_look) / interval))
    return min(next_look + too_early * interval, earliest + interval)


class Searcher(CallLoop):
    """Searches with one connection in one region. Only its event loop may use it."""

    client: SearchClient

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        super().__init__(
            SearchClient(connection_id, region_name), threads=WORKERS + 1, name="polysync-search"
        )
        self._pipelines: dict[str, SearchedPipeline] = {}

    def subscribe(self, lookout: Lookout, interval: float) -> SearchSubscription:
        """Begin to search. The caller must unsubscribe."""
        subscription = SearchSubscription(lookout, interval, clock.time() + FIRST_POLL_DELAY_SECONDS)
        pipeline = self._pipelines.setdefault(subscription.pipeline, SearchedPipeline())
        subscription.due = max(
            subscription.earliest, min(first_look(subscription, pipeline.next_look), lookout.ends_at)
        )
        pipeline.subscriptions.add(subscription)
        self._changed.set()
        return subscription

    def unsubscribe(self, subscription: SearchSubscription) -> None:
        """End a search, if it has not ended. The searcher ends with its last one."""
        subscription.ended = True
        self.client.activity.polled(subscription, "", NO_FAILURES)
        pipeline = self._pipelines.get(subscription.pipeline, SearchedPipeline())
        pipeline.subscriptions.discard(subscription)
        if not pipeline.subscriptions:
            self._pipelines.pop(subscription.pipeline, None)
        if not self._pipelines:
            self._task.cancel()
            key = (self._loop, *self.client.key)
            if _SEARCHERS.get(key) is self:
                del _SEARCHERS[key]

    def next_look(self, subscription: SearchSubscription) -> asyncio.Future[Listed]:
        """Return a future of what the next look brings."""
        subscription.future = self._loop.create_future()
        return subscription.future

    def look_again(self, subscription: SearchSubscription, lookout: Lookout, listed_at: float) -> None:
        """Plan the next look of a search."""
        subscription.lookout = lookout
        name = f"the search in pipeline {subscription.pipeline}"
        self.client.activity.polled(subscription, name, lookout.failures)
        now = clock.time()
        subscription.due = max(now, min(listed_at + subscription.interval, lookout.ends_at))
        self._changed.set()

    def _waits(self) -> Mapping[str, int]:
        # A copy, which is made at once: the event loop may change the original meanwhile.
        return {name: len(pipeline.subscriptions) for name, pipeline in list(self._pipelines.items())}

    async def in_thread(self, call: Callable[[], Result]) -> Result:
        """Call a function that calls AWS in a thread; return its result, or raise its error."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._begin(self._calls, call, partial(_set, future))
        return cast("Result", await future)

    # ---- the calls

    def _begin_calls(self) -> float | None:
        waits = (self._begin_lists(), self._begin_read())
        return min((wait for wait in waits if wait is not None), default=None)

    def _begin_lists(self) -> float | None:
        while len(self._calls) < WORKERS and self._pipelines:
            name, pipeline = min(self._pipelines.items(), key=lambda entry: entry[1].next_look)
            now = clock.time()
            wait = max(pipeline.next_look - now, self.client.limiter.delay(clock.monotonic()))
            if wait == math.inf:
                return None
            if wait > 0:
                return wait
            self._begin_list(name, pipeline, now)
        return None

    def _begin_list(self, name: str, pipeline: SearchedPipeline, now: float) -> None:
        together = [each for each in pipeline.subscriptions if each.due is not None and each.earliest <= now]
        call = partial(
            self.client.find,
            name,
            min(each.lookout.list_after for each in together),
            is_wanted=lambda: not all(each.ended for each in together),
        )
        self._begin(self._calls, call, partial(self._handle_list, together, now))
        for each in together:
            each.due = None
        self.client.limiter.take(clock.monotonic())

    def _handle_list(
        self, subscriptions: Sequence[SearchSubscription], listed_at: float, result: Any
    ) -> None:
        for subscription in subscriptions:
            if isinstance(result, BaseException) and not isinstance(result, PolysyncError):
                _set(subscription.future, result)
            else:
                _set(subscription.future, Listed(result, listed_at))

    def _all(self) -> list[SearchSubscription]:
        return [each for pipeline in self._pipelines.values() for each in pipeline.subscriptions]

    def _end_all(self, error: BaseException) -> None:
        for subscription in self._all():
            _set(subscription.future, error)

    def _handle_deletion(self, error: CredentialsError) -> None:
        for subscription in self._all():
            subscription.due = None
            _set(subscription.future, Listed(error, clock.time()))


def _set(future: asyncio.Future[Any] | None, result: Any) -> None:
    if future is None or future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


# By event loop, connection and region.
_SEARCHERS: Final[dict[tuple[asyncio.AbstractEventLoop, str, str | None], Searcher]] = {}


def searcher_for(connection_id: str, region_name: str | None) -> Searcher:
    """Return the searcher of the running event loop. It ends when its last search ends."""
    loop = asyncio.get_running_loop()
    for other in list(_SEARCHERS):
        if other[0].is_closed():
            _SEARCHERS.pop(other, None)
    key = (loop, connection_id, region_name)
    if key not in _SEARCHERS:
        _SEARCHERS[key] = Searcher(connection_id, region_name)
    return _SEARCHERS[key]
