"""Owns how fast one process calls AWS: a token bucket that halves when AWS throttles, and recovers."""

from __future__ import annotations

from threading import Lock
from typing import Final

# Calls per second: all that one process can make, at 1.2 ms of computing for each. AWS publishes no rate for
# SageMaker's pipeline operations, and an account's is shared with everything else in it: its first
# ThrottlingException tells more than any lower figure here could.
MAX_RATE: Final = 800.0
# Never slower: at one call in two seconds AWS's own buckets fill faster than we empty them, and a pace that
# fell further would take no notice of their having filled.
MIN_RATE: Final = 0.5
# What may be saved up, in seconds at the present rate: 20 calls at the full rate, and fewer after throttling,
# which shows that others in the account are busy. One call always.
BURST_SECONDS: Final = 0.025
# Calls per second, gained each second. Doubling back would meet AWS's limit again at once, and every meeting
# costs calls; one more each second meets a limit of 50 calls per second every 25 seconds only.
RATE_INCREASE: Final = 1.0
# This much of a call may be lacking: who sleeps until a call is due wakes up to find a rounding error left.
ROUNDING: Final = 1e-3
# Seconds. Calls that were under way together are throttled together: that is one message, not many.
THROTTLING_WINDOW_SECONDS: Final = 1.0


class RateLimiter:
    """
    The pace of all calls to one connection and region; safe to share between threads.

    The clock is the caller's, the same one for all who share a pace: seconds that only differences are taken
    of, best ``time.monotonic()``. Should it step back, it goes on counting from there.

    :param now: the present, in seconds of that clock.
    :param rate: calls per second when nothing is throttled.
    """

    def __init__(self, now: float, *, rate: float = MAX_RATE) -> None:
        self._lock = Lock()
        self._full = rate
        self._seen = now
        # How far the clock has gone forwards since the beginning; everything below is counted in it.
        self._elapsed = 0.0
        self._rate = rate
        self._halved_at = -THROTTLING_WINDOW_SECONDS
        self._saved = self._most_saved

    def delay(self, now: float) -> float:
        """
        Return the seconds until a call may be made, 0.0 if at once; takes nothing.

        :param now: the present, in seconds.
        """
        with self._lock:
            self._move_to(now)
            return self._wait

    def take(self, now: float) -> None:
        """
        Count a call that is made now. What was not due yet delays those after it.

        :param now: the present, in seconds.
        """
        with self._lock:
            self._move_to(now)
            self._saved -= 1

    def try_acquire(self, now: float) -> float:
        """
        Take a call if one may be made now: ``delay`` and ``take`` in one, for threads that compete.

        :param now: the present, in seconds.
        :return: 0.0 if the call may be made, and is counted; otherwise the seconds after which to ask again.
        """
        with self._lock:
            self._move_to(now)
            wait = self._wait
            if not wait:
                self._saved -= 1
            return wait

    def throttled(self, now: float) -> None:
        """
        Halve the rate, since AWS said ThrottlingException; again only after a second.

        :param now: when it said so, in seconds.
        """
        with self._lock:
            self._move_to(now)
            if self._elapsed - self._halved_at < THROTTLING_WINDOW_SECONDS:
                return
            self._halved_at = self._elapsed
            self._rate = max(self._rate / 2, min(MIN_RATE, self._full))
            # AWS's bucket is empty: what we thought was saved up is not there.
            self._saved = min(self._saved, 0.0)

    @property
    def rate(self) -> float:
        """Calls per second at present, as of the last time that was told."""
        with self._lock:
            return self._rate

    @property
    def _most_saved(self) -> float:
        return max(1.0, self._rate * BURST_SECONDS)

    @property
    def _wait(self) -> float:
        lacking = 1 - self._saved
        # A recovering rate makes it shorter than this, never longer.
        return lacking / self._rate if lacking > ROUNDING else 0.0

    def _move_to(self, now: float) -> None:
        passed = max(0.0, now - self._seen)
        self._seen = now
        self._elapsed += passed
        # At the rate before: less than what the recovery would give, so never too much.
        self._saved = min(self._saved + passed * self._rate, self._most_saved)
        self._rate = min(self._rate + passed * RATE_INCREASE, self._full)


_RATE_LIMITERS: Final[dict[tuple[str, str | None], RateLimiter]] = {}
_RATE_LIMITERS_LOCK: Final = Lock()


def rate_limiter_for(key: tuple[str, str | None], now: float) -> RateLimiter:
    """
    Return the one pace that this process keeps with a connection and region.

    :param key: the connection's id, and the region's name; None for the connection's own.
    :param now: the present, in seconds of ``time.monotonic()``.
    """
    with _RATE_LIMITERS_LOCK:
        if key not in _RATE_LIMITERS:
            _RATE_LIMITERS[key] = RateLimiter(now)
        return _RATE_LIMITERS[key]
