"""
Limits how fast this process calls AWS, with one token bucket for each connection and region.

The rate follows AWS's responses: it is halved when AWS throttles a call, and grows again slowly (additive
increase, multiplicative decrease).

``ConcurrentCalls`` makes many calls at the same time, in a few threads, under one rate limiter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import islice
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Final, Self, TypeVar
from weakref import WeakValueDictionary

from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution import clock

# Calls per second: the most that one process can make, at 1.2 ms of CPU for each. AWS publishes no rate for
# SageMaker's pipeline operations, and an account shares its rate with everything else in it. The first
# ThrottlingException tells more than any lower number here could.
MAX_RATE: Final = 800.0
# At one call in two seconds, AWS's own token buckets fill faster than this process empties them. A lower rate
# would only notice later that they are full again.
MIN_RATE: Final = 0.5
# The bucket's size, in seconds at the current rate: 20 calls at the full rate, fewer after throttling, which
# shows that other callers in the account are busy. The bucket always has room for one call.
BURST_SECONDS: Final = 0.025
# Calls per second that the rate gains each second. Doubling would reach AWS's limit again at once, and
# reaching it costs calls. A gain of one reaches a limit of 50 calls per second once in 25 seconds.
RATE_INCREASE: Final = 1.0
# Part of a token that may be missing: a thread that sleeps until a token is due wakes up with a rounding
# error.
ROUNDING: Final = 1e-3
# Calls that run at the same time are throttled together. Within this time they count as one throttling.
THROTTLING_WINDOW_SECONDS: Final = 1.0


class RateLimiter:
    """
    A token bucket for all calls with one connection to one region. Threads may share it.

    The caller passes the time, in seconds of one monotonic clock that all callers share
    (``clock.monotonic()``). If that clock steps back, the limiter goes on counting from there.

    :param rate: calls per second while AWS throttles nothing.
    """

    def __init__(self, now: float, *, rate: float = MAX_RATE) -> None:
        self._lock = Lock()
        self._max_rate = rate
        self._last_now = now
        self._rate = rate
        # Seconds for which throttled calls count as those that have halved the rate; negative afterwards.
        self._window = 0.0
        self._tokens = self._capacity

    def delay(self, now: float) -> float:
        """Return the seconds until a call may be made, 0.0 if one may be made now. Takes no token."""
        with self._lock:
            self._advance(now)
            return self._wait

    def take(self, now: float) -> None:
        """Take a token for a call that is made now. If no token is left, later calls wait longer."""
        with self._lock:
            self._advance(now)
            self._tokens -= 1

    def try_acquire(self, now: float) -> float:
        """
        Take a token if there is one: ``delay`` and ``take`` in one step, for threads that compete.

        :return: 0.0 if a token was taken, else the seconds after which to try again.
        """
        with self._lock:
            self._advance(now)
            wait = self._wait
            if not wait:
                self._tokens -= 1
            return wait

    def acquire(self, sleep: Callable[[float], object] = clock.sleep) -> None:
        """
        Wait for a token and take it.

        :param sleep: waits for a number of seconds; may raise to give up.
        """
        while seconds := self.try_acquire(clock.monotonic()):
            sleep(seconds)

    def throttled(self, now: float) -> None:
        """Halve the rate because AWS throttled a call, at most once in ``THROTTLING_WINDOW_SECONDS``."""
        with self._lock:
            self._advance(now)
            if self._window > 0:
                return
            self._window = THROTTLING_WINDOW_SECONDS
            self._rate = max(self._rate / 2, min(MIN_RATE, self._max_rate))
            # AWS's bucket is empty, so the tokens that were counted here do not exist.
            self._tokens = min(self._tokens, 0.0)

    @property
    def rate(self) -> float:
        """Calls per second, as of the last call of a method."""
        with self._lock:
            return self._rate

    @property
    def _capacity(self) -> float:
        return max(1.0, self._rate * BURST_SECONDS)

    @property
    def _wait(self) -> float:
        missing = 1 - self._tokens
        # While the rate grows, the true wait is shorter than this, never longer.
        return missing / self._rate if missing > ROUNDING else 0.0

    def _advance(self, now: float) -> None:
        passed = max(0.0, now - self._last_now)
        self._last_now = now
        self._window -= passed
        # At the old rate, which gives fewer tokens than the growing one: never too many.
        self._tokens = min(self._tokens + passed * self._rate, self._capacity)
        self._rate = min(self._rate + passed * RATE_INCREASE, self._max_rate)


# Only the limiters that are in use, so that a process that sees many connections does not keep one for each.
# The learnt rate is lost with the last user: the next one may be throttled once more.
_RATE_LIMITERS: Final[WeakValueDictionary[tuple[str, str | None], RateLimiter]] = WeakValueDictionary()
_RATE_LIMITERS_LOCK: Final = Lock()


def rate_limiter_for(key: tuple[str, str | None], now: float) -> RateLimiter:
    """
    Return the rate limiter that this process uses for a connection and region.

    It is shared as long as a caller keeps it. So a caller keeps it for all of its calls.

    :param key: the connection id, and the region name or None for the connection's own region.
    :param now: the current time, in seconds of ``clock.monotonic()``.
    """
    with _RATE_LIMITERS_LOCK:
        # One look-up: between two, the last user could let go of the limiter.
        limiter = _RATE_LIMITERS.get(key)
        if limiter is None:
            limiter = _RATE_LIMITERS[key] = RateLimiter(now)
        return limiter


Item = TypeVar("Item")
Result = TypeVar("Result")

# A call takes 1 to 2 ms of CPU, which the threads of one process cannot share, and tens of milliseconds of
# waiting for AWS, which they can. Many more threads would only wait for each other.
WORKERS: Final = 14
# Items for each thread that are in progress, or done and not yet fetched. They keep the threads busy while
# the next page of a list is read, or while the item whose turn it is takes longer than others.
PREFETCH_PER_WORKER: Final = 4
# How long one call is retried while AWS throttles, fails, or cannot be reached.
RETRY_TIMEOUT_SECONDS: Final = 600.0
# How long the end of the context waits for calls in progress.
SHUTDOWN_TIMEOUT_SECONDS: Final = 5.0


class ConcurrentCalls:
    """
    A context in which calls run in several threads, no faster than a rate limiter allows.

    Transient errors are retried. After any other error no further call begins. When the context ends, each
    thread ends with the call that it is in. The end waits for that, for ``SHUTDOWN_TIMEOUT_SECONDS`` at most;
    it does not wait after an interruption (``AirflowTaskTimeout``, ``KeyboardInterrupt``).

    Not ``ThreadPoolExecutor.map``: that reads all items at once, keeps all results, and waits without a
    limit.

    :param limiter: the rate limiter. Its clock is ``clock.monotonic()``.
    :param warn: called with a message once for each new transient error.
    :param retry_timeout: how long one call is retried, in seconds.
    """

    def __init__(
        self,
        limiter: RateLimiter,
        warn: Callable[[str], object],
        *,
        workers: int = WORKERS,
        retry_timeout: float = RETRY_TIMEOUT_SECONDS,
    ) -> None:
        self._limiter = limiter
        self._warn = warn
        self._workers = workers
        self._retry_timeout = retry_timeout
        self._closed = Event()
        # Its holder makes the next call: one thread waits for the rate limiter, the others sleep.
        self._turn = Lock()
        self._error: Exception | None = None
        self._warned: set[str] = set()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="polysync-calls")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._pool.shutdown(wait=False)
        if kind is None or issubclass(kind, Exception):
            # The pool's own wait has no timeout.
            waiter = Thread(target=self._pool.shutdown, daemon=True)
            waiter.start()
            waiter.join(SHUTDOWN_TIMEOUT_SECONDS)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """
        Apply a function to every item, and yield the results in the order of the items.

        Items are read, and results kept, only ``PREFETCH_PER_WORKER`` for each thread ahead of the result
        that is fetched.

        :param function: makes one call to AWS, which must be safe to repeat.
        :param items: read in the thread that fetches the results.
        :raises PolysyncError: the first error that is not transient, when its item's turn comes.
        """
        source = iter(items)
        futures: deque[Future[Result]] = deque()
        try:
            while True:
                try:
                    room = 0 if self._closed.is_set() else self._workers * PREFETCH_PER_WORKER - len(futures)
                    futures.extend(self._pool.submit(self._run, function, i) for i in islice(source, room))
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
        Make a call in this thread as soon as the rate limiter allows it, and retry transient errors.

        :param function: makes one call to AWS, which must be safe to repeat.
        :raises PolysyncError: an error that is not transient, or the last error when the time is up.
        """

        def limited_call() -> Result:
            with self._turn:
                self._sleep(0)
                self._limiter.acquire(self._sleep)
            try:
                return function()
            except PolysyncError as error:
                if is_throttling(error):
                    self._limiter.throttled(clock.monotonic())
                raise

        return call_with_retry(
            limited_call, until=clock.time() + self._retry_timeout, warn=self._warn_once, sleep=self._sleep
        )

    def _run(self, function: Callable[[Item], Result], item: Item) -> Result:
        try:
            return self.call(lambda: function(item))
        except CancelledError:
            raise
        except Exception as error:
            self._error = self._error or error
            self._closed.set()
            raise

    def _sleep(self, seconds: float) -> None:
        """Sleep, but raise ``CancelledError`` as soon as no further call may begin."""
        if self._closed.wait(seconds):
            raise CancelledError

    def _warn_once(self, message: str) -> None:
        # Many calls fail with the same error at the same time.
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)
