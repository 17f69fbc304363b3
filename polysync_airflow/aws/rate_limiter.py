"""
Limits how fast this process calls AWS, with one token bucket for each connection and
region.

The rate follows AWS's responses: it is halved when AWS throttles a call, and grows
again slowly (additive increase, multiplicative decrease).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution import clock

Result = TypeVar("Result")

# Calls per second: the most that one process can make, at 1.2 ms of CPU for each. AWS
# publishes no rate for SageMaker's pipeline operations, and an account shares its rate
# with everything else in it. The first ThrottlingException tells more than any lower
# number here could.
MAX_RATE: Final = 800.0
# At one call in two seconds, AWS's own token buckets fill faster than this process
# empties them. A lower rate would only notice later that they are full again.
MIN_RATE: Final = 0.5
# The bucket's size, in seconds at the current rate: 20 calls at the full rate, fewer
# after throttling, which shows that other callers in the account are busy. The bucket
# always has room for one call.
BURST_SECONDS: Final = 0.025
# Calls per second that the rate gains each second. Doubling would reach AWS's limit
# again at once, and reaching it costs calls. A gain of one reaches a limit of 50 calls
# per second once in 25 seconds.
RATE_INCREASE: Final = 1.0
# Part of a token that may be missing: a thread that sleeps until a token is due wakes
# up with a rounding error.
ROUNDING: Final = 1e-3
# Calls that run at the same time are throttled together. Within this time they count as
# one throttling.
THROTTLING_WINDOW_SECONDS: Final = 1.0


class RateLimiter:
    """
    A token bucket for all calls with one connection to one region. Threads may share
    it.

    The caller passes the time, in seconds of one monotonic clock that all callers share
    (``clock.monotonic()``). If that clock steps back, the limiter goes on counting from
    there.

    :param rate: calls per second while AWS throttles nothing.
    """

    def __init__(self, now: float, *, rate: float = MAX_RATE) -> None:
        self._lock = Lock()
        self._max_rate = rate
        self._last_now = now
        self._rate = rate
        # Seconds for which throttled calls count as those that have halved the rate;
        # negative afterwards.
        self._window = 0.0
        self._tokens = self._capacity

    def delay(self, now: float) -> float:
        """
        Return the seconds until a call may be made, 0.0 if one may be made now. Takes
        no token.
        """
        with self._lock:
            self._advance(now)
            return self._wait

    def take(self, now: float) -> None:
        """
        Take a token for a call that is made now. If no token is left, later calls wait
        longer.
        """
        with self._lock:
            self._advance(now)
            self._tokens -= 1

    def try_acquire(self, now: float) -> float:
        """
        Take a token if there is one: ``delay`` and ``take`` in one step, for threads
        that compete.

        :return: 0.0 if a token was taken, else the seconds after which to try again.
        """
        with self._lock:
            self._advance(now)
            seconds = self._wait
            if not seconds:
                self._tokens -= 1
            return seconds

    def acquire(self, sleep: Callable[[float], object] = clock.sleep) -> None:
        """
        Wait for a token and take it.

        :param sleep: waits for a number of seconds; may raise to give up.
        """
        while seconds := self.try_acquire(clock.monotonic()):
            sleep(seconds)

    def call(self, call: Callable[[], Result]) -> Result:
        """Make a call as soon as a token is due; see ``observe``."""
        self.acquire()
        return self.observe(call)

    def observe(self, call: Callable[[], Result]) -> Result:
        """Make a call without a token, and halve the rate if it is throttled."""
        try:
            return call()
        except PolysyncError as error:
            if is_throttling(error):
                self.throttled(clock.monotonic())
            raise

    def throttled(self, now: float) -> None:
        """
        Halve the rate because AWS throttled a call, at most once in
        ``THROTTLING_WINDOW_SECONDS``.
        """
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
        """The seconds until there is a token, at the rate of now."""
        missing = 1 - self._tokens
        if missing <= ROUNDING:
            return 0.0
        # While the rate grows, the true wait is shorter than this, never longer.
        return missing / self._rate

    def _advance(self, now: float) -> None:
        """Let the bucket fill, and the rate grow, for the time that has passed."""
        passed = max(0.0, now - self._last_now)
        self._last_now = now
        self._window -= passed
        # At the old rate, which gives fewer tokens than the growing one: never too
        # many.
        self._tokens = min(self._tokens + passed * self._rate, self._capacity)
        self._rate = min(self._rate + passed * RATE_INCREASE, self._max_rate)


# Only the limiters that are in use, so that a process that sees many connections does
# not keep one for each. The learnt rate is lost with the last user: the next one may be
# throttled once more.
_RATE_LIMITERS: Final[WeakValueDictionary[tuple[str, str | None], RateLimiter]] = (
    WeakValueDictionary()
)
_RATE_LIMITERS_LOCK: Final = Lock()


def rate_limiter_for(key: tuple[str, str | None], now: float) -> RateLimiter:
    """
    Return the rate limiter that this process uses for a connection and region.

    It is shared as long as a caller keeps it. So a caller keeps it for all of its
    calls.

    :param key: the connection id, and the region name or None for the connection's own
        region.
    :param now: the current time, in seconds of ``clock.monotonic()``.
    """
    with _RATE_LIMITERS_LOCK:
        # One look-up: between two, the last user could let go of the limiter.
        limiter = _RATE_LIMITERS.get(key)
        if limiter is None:
            limiter = _RATE_LIMITERS[key] = RateLimiter(now)
        return limiter
