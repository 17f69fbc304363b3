"""Owns calls side by side: the threads in which one connection and region is called, under one pace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Final, Self, TypeVar

from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.aws.retry import MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS
from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.hooks import PolysyncSageMakerHook

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# A call costs this process 1 to 2 ms of computing, which threads of one process cannot share, and tens of
# milliseconds of waiting for AWS, which they can: many more threads would wait for each other.
WORKERS: Final = 14
# For each thread so many items are begun, or done and not fetched yet: work enough while the next page of a
# list is read, or the item whose turn it is takes longer than others.
PREFETCH_PER_WORKER: Final = 4
# Seconds for which one call is repeated while AWS throttles, fails or is not reached.
RETRY_TIMEOUT_SECONDS: Final = 600.0
# Seconds for which the end waits for calls under way.
SHUTDOWN_TIMEOUT_SECONDS: Final = 5.0


class ConcurrentCalls:
    """
    Call one connection and region in several threads, no faster than its pace. A context manager.

    What passes (throttling, 5xx, lost connections) is waited out; any other error ends the lane: no call
    begins after it. On leaving, threads end with the call that they are in. That is waited for, but not by
    who was interrupted (``AirflowTaskTimeout``, ``KeyboardInterrupt``), nor longer than ``SHUTDOWN_TIMEOUT_SECONDS``.

    :param hook: the connection to AWS, best with the config ``sessions.RATE_LIMITED_CONFIG``.
    :param pace: what the calls keep to; its clock is ``time.monotonic()``.
    :param workers: threads; fewer are used if the client keeps fewer connections open
        (``max_pool_connections``), as one more would connect anew for every call.
    :param patience: how long one call is repeated, in seconds.
    :raises CredentialsError: on entering, if the connection cannot be used.
    """

    def __init__(
        self,
        hook: PolysyncSageMakerHook,
        pace: RateLimiter,
        *,
        workers: int = WORKERS,
        patience: float = RETRY_TIMEOUT_SECONDS,
    ) -> None:
        self._hook = hook
        self._pace = pace
        self._workers = workers
        self._patience = patience
        self._over = Event()
        # Who holds it calls next: one thread watches the pace, the others sleep.
        self._turn = Lock()
        self._error: Exception | None = None
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        # The hook makes its client here, once, and not in several threads at a time. One connection is for
        # calls of the thread that fetches the answers.
        self._workers = max(1, min(self._workers, self._hook.max_pool_connections - 1))
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="polysync-lane")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._pool.shutdown(wait=False)
        if kind is None or issubclass(kind, Exception):
            # The pool's own wait has no limit.
            waiter = Thread(target=self._pool.shutdown, daemon=True)
            waiter.start()
            waiter.join(SHUTDOWN_TIMEOUT_SECONDS)

    def map(self, function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
        """
        Apply a function to every item, side by side, and yield the answers in the items' order.

        Only so many items are taken, and so many answers kept, ahead of the one that is fetched.

        :param function: makes one call to AWS, which must be harmless to repeat.
        :param items: taken in the thread that fetches the answers.
        :raises PolysyncError: the first error that does not pass, when its item's turn comes.
        """
        source = iter(items)
        turns: deque[Future[Answer]] = deque()
        try:
            while True:
                with self._blame():
                    room = 0 if self._over.is_set() else self._workers * PREFETCH_PER_WORKER - len(turns)
                    turns.extend(self._pool.submit(self._run, function, i) for i in islice(source, room))
                    if not turns and self._over.is_set():
                        raise CancelledError
                    if not turns:
                        return
                    answer = turns.popleft().result()
                yield answer
        finally:
            for future in turns:
                future.cancel()

    def call(self, function: Callable[[], Answer]) -> Answer:
        """
        Make a call in this thread when the pace allows it, and repeat it as long as its error passes.

        :param function: makes one call to AWS, which must be harmless to repeat.
        :raises PolysyncError: what cannot be waited out, or the last error when the patience is at its end.
        """
        until, pause = time.monotonic() + self._patience, MIN_BACKOFF_SECONDS
        while True:
            self._await_turn()
            try:
                return function()
            except PolysyncError as error:
                if is_throttling(error):
                    self._pace.throttled(time.monotonic())
                if not error.transient or time.monotonic() + pause > until:
                    raise
                self._tell(error)
            self._over.wait(pause)
            pause = min(pause * 2, MAX_BACKOFF_SECONDS)

    def _run(self, function: Callable[[Item], Answer], item: Item) -> Answer:
        try:
            return self.call(lambda: function(item))
        except CancelledError:
            raise
        except Exception as error:
            self._error = self._error or error
            self._over.set()
            raise

    def _await_turn(self) -> None:
        with self._turn:
            while not self._over.is_set():
                wait = self._pace.try_acquire(time.monotonic())
                if not wait:
                    return
                self._over.wait(wait)
        raise CancelledError

    def _tell(self, error: PolysyncError) -> None:
        # Many calls meet the same trouble at once, and one line tells it.
        if str(error) not in self._told:
            self._told.add(str(error))
            self._hook.log.warning("Will go on trying: %s", error)

    @contextmanager
    def _blame(self) -> Iterator[None]:
        """Raise the error for which a call was given up, in place of the news that it was."""
        try:
            yield
        except CancelledError:
            if self._error is None:
                raise
            raise self._error from None
