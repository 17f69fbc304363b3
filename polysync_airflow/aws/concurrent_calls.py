"""
Makes many calls to AWS at the same time, in a few threads, under one rate limiter and
with retries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from threading import Event, Lock
from typing import Final, Self, TypeVar

from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.aws.regions import region_cure
from polysync_airflow.aws.retry import Result, call_with_retry
from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution import clock

Item = TypeVar("Item")

# A call takes 1 to 2 ms of CPU, which the threads of one process cannot share, and tens
# of milliseconds of waiting for AWS, which they can. Many more threads would only wait
# for each other.
WORKERS: Final = 14
# How long one call is retried while AWS throttles, and by default also while it fails
# or cannot be reached.
RETRY_TIMEOUT_SECONDS: Final = 600.0


class ConcurrentCalls:
    """
    A context in which calls run in several threads, no faster than a rate limiter
    allows.

    Transient errors are retried. After any other error no further call begins. The end
    of the context does not wait for calls in progress: each thread ends with the one
    that it is in.

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
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="polysync-calls")
        # Set when no further call may begin.
        self._closed = Event()
        # Its holder makes the next call: one thread waits for the rate limiter, the
        # others sleep.
        self._turn = Lock()
        # Why no further call may begin.
        self._error: Exception = CancelledError()
        self._warned: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """
        Apply a function to every item, and yield the results in the order of the items.

        The calls begin while the items are read, and the first result is yielded when
        all of them have been read.

        :param function: makes one call to AWS, which must be safe to repeat.
        :param items: read in the thread that fetches the results.
        :raises PolysyncError: the first error that is not transient.
        """
        try:
            yield from self._pool.map(partial(self._run, function), items)
        except CancelledError:
            # The error because of which calls were cancelled says more.
            raise self._error from None

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
                return self._limiter.observe(function)
            except PolysyncError as error:
                is_late = clock.monotonic() - began_at >= self._outage_seconds
                # botocore's error: a region may be newer than botocore, or a mistake.
                has_no_host = bool(region_cure(error.__context__))
                if has_no_host or (is_late and not is_throttling(error)):
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
            return self.call(partial(function, item))
        except Exception as error:
            if not self._closed.is_set():
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
