"""
Makes many calls to AWS at the same time, in a few threads, under one rate limiter and
with retries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import islice
from threading import Event, Lock, Thread
from typing import Final, Self, TypeVar

from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.aws.retry import Result, call_with_retry
from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution import clock

Item = TypeVar("Item")

# A call takes 1 to 2 ms of CPU, which the threads of one process cannot share, and tens
# of milliseconds of waiting for AWS, which they can. Many more threads would only wait
# for each other.
WORKERS: Final = 14
# Items for each thread that are in progress, or done and not yet fetched. They keep the
# threads busy while the next page of a list is read, or while the item whose turn it is
# takes longer than others.
PREFETCH_PER_WORKER: Final = 4
# How long one call is retried while AWS throttles, and by default also while it fails
# or cannot be reached.
RETRY_TIMEOUT_SECONDS: Final = 600.0
# How long the end of the context waits for calls in progress.
SHUTDOWN_TIMEOUT_SECONDS: Final = 5.0


class ConcurrentCalls:
    """
    A context in which calls run in several threads, no faster than a rate limiter
    allows.

    Transient errors are retried. After any other error no further call begins. When the
    context ends, each thread ends with the call that it is in. The end waits for that,
    for ``SHUTDOWN_TIMEOUT_SECONDS`` at most; it does not wait after an interruption
    (``AirflowTaskTimeout``, ``KeyboardInterrupt``).

    Not ``ThreadPoolExecutor.map``: that reads all items at once, keeps all results, and
    waits without a limit.

    :param limiter: the rate limiter. Its clock is ``clock.monotonic()``.
    :param warn: called with a message once for each new transient error.
    :param outage_seconds: how long a call is retried while AWS cannot be reached, or
        fails.
    """

    def __init__(
        self,
        limiter: RateLimiter,
        warn: Callable[[str], object],
        *,
        workers: int = WORKERS,
        outage_seconds: float = RETRY_TIMEOUT_SECONDS,
    ) -> None:
        self._limiter = limiter
        self._outage_seconds = outage_seconds
        self._warn = warn
        self._workers = workers
        self._closed = Event()
        # Its holder makes the next call: one thread waits for the rate limiter, the
        # others sleep.
        self._turn = Lock()
        self._error: Exception | None = None
        self._warned: set[str] = set()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(
            self._workers, thread_name_prefix="polysync-calls"
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._closed.set()
        self._pool.shutdown(wait=False)
        if kind is None or issubclass(kind, Exception):
            # The pool's own wait has no timeout.
            waiter = Thread(target=self._pool.shutdown, daemon=True)
            waiter.start()
            waiter.join(SHUTDOWN_TIMEOUT_SECONDS)

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """
        Apply a function to every item, and yield the results in the order of the items.

        Items are read, and results kept, only ``PREFETCH_PER_WORKER`` for each thread
        ahead of the result that is fetched.

        :param function: makes one call to AWS, which must be safe to repeat.
        :param items: read in the thread that fetches the results.
        :raises PolysyncError: the first error that is not transient, when its item's
            turn comes.
        """
        source = iter(items)
        futures: deque[Future[Result]] = deque()
        try:
            while True:
                try:
                    if not self._closed.is_set():
                        room = self._workers * PREFETCH_PER_WORKER - len(futures)
                        futures.extend(
                            self._pool.submit(self._run, function, item)
                            for item in islice(source, room)
                        )
                    if not futures and self._closed.is_set():
                        raise CancelledError
                    if not futures:
                        return
                    result = futures.popleft().result()
                except CancelledError:
                    # The error because of which calls were cancelled says more.
                    if self._error is None:
                        raise
                    raise self._error from None
                yield result
        finally:
            for future in futures:
                future.cancel()

    def call(self, function: Callable[[], Result]) -> Result:
        """
        Make a call in this thread as soon as the rate limiter allows it, and retry
        transient errors.

        :param function: makes one call to AWS, which must be safe to repeat.
        :raises PolysyncError: an error that is not transient, or the last error when
            the time is up.
        """
        began_at = clock.monotonic()

        def limited_call() -> Result:
            with self._turn:
                self._sleep(0)
                self._limiter.acquire(self._sleep)
            try:
                return function()
            except PolysyncError as error:
                if is_throttling(error):
                    self._limiter.throttled(clock.monotonic())
                elif clock.monotonic() - began_at >= self._outage_seconds:
                    error.transient = False
                raise

        return call_with_retry(
            limited_call,
            until=clock.time() + RETRY_TIMEOUT_SECONDS,
            warn=self._warn_once,
            sleep=self._sleep,
        )

    def _run(self, function: Callable[[Item], Result], item: Item) -> Result:
        try:
            return self.call(lambda: function(item))
        except CancelledError:
            raise
        except Exception as error:
            if self._error is None:
                self._error = error
            self._closed.set()
            raise

    def _sleep(self, seconds: float) -> None:
        """Sleep, but raise ``CancelledError`` as soon as no further call may begin."""
        if self._closed.wait(seconds):
            raise CancelledError

    def _warn_once(self, message: str) -> None:
        if message in self._warned:
            # Many calls fail with the same error at the same time.
            return
        self._warned.add(message)
        self._warn(message)
