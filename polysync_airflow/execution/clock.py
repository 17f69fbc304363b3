"""
The time by which this provider waits: outside of tests, that of the host.

All modules of the provider read the time and sleep by these functions, so that a test
can replace the time of the whole provider in one place, with ``replaced_by``.
"""

from __future__ import annotations

import time as host
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final


class Clock:
    """
    The host's clock. A subclass for tests may let the time of a wait pass at once.
    """

    def time(self) -> float:
        """Return the Unix time in seconds."""
        return host.time()

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set back."""
        return host.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        host.sleep(seconds)

    def timeout(self, seconds: float | None, *, idle: bool) -> float | None:
        """
        Return how long an event loop waits at most for an event, in seconds of the
        host.

        :param seconds: how long by this clock; None for no limit.
        :param idle: nothing else is running that takes time.
        """
        return seconds


_clock = Clock()


def time() -> float:
    """Return the Unix time in seconds."""
    return _clock.time()


def now() -> datetime:
    """Return the time as a datetime in UTC."""
    return datetime.fromtimestamp(time(), UTC)


def monotonic() -> float:
    """Return the seconds of a clock that is never set back."""
    return _clock.monotonic()


def sleep(seconds: float) -> None:
    """Wait."""
    _clock.sleep(seconds)


def timeout(seconds: float | None, *, idle: bool) -> float | None:
    """
    Return how long an event loop waits at most for an event; see ``Clock.timeout``.
    """
    return _clock.timeout(seconds, idle=idle)


# AWS refuses requests that are five minutes off. A clock is set right in smaller steps.
MIN_JUMP_SECONDS: Final = 60.0


class SteadyTime:
    """
    The Unix time of a wait or of retries, for which a jump of the host's clock does not
    count until AWS has accepted a request with the new time.

    Otherwise, a clock that is set an hour forward for a moment would end each wait
    whose deadline is within the hour, and one that is set back would delay all polls
    by an hour.
    """

    def __init__(self) -> None:
        self._offset = time() - monotonic()

    def time(self) -> float:
        """Return the Unix time in seconds."""
        return time() - self._jump()

    def accept(self) -> float:
        """
        Let a jump count, if there was one: AWS has accepted a request.

        :return: the seconds by which the time has jumped, negative if it was set back.
        """
        jump = self._jump()
        self._offset += jump
        return jump

    def _jump(self) -> float:
        jump = time() - monotonic() - self._offset
        if abs(jump) >= MIN_JUMP_SECONDS:
            return jump
        self._offset += jump
        return 0.0


def as_seconds(duration: Any) -> Any:
    """Return a timedelta as a number of seconds, and every other value as it is."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    return duration


def iso_text(time: datetime | None) -> str | None:
    """Return a time as JSON has it; None if there is none."""
    if time is None:
        return None
    return time.isoformat()


@contextmanager
def replaced_by(clock: Clock) -> Iterator[None]:
    """Replace the clock, in all threads of this process. For tests only."""
    global _clock  # noqa: PLW0603 # the one place that changes it
    before = _clock
    _clock = clock
    try:
        yield
    finally:
        _clock = before
