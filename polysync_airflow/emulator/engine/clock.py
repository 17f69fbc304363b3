"""Emulated time: the only room that reads the host's clock."""

from __future__ import annotations

import time
from threading import Lock
from typing import Protocol


class Clock(Protocol):
    """Where the emulator gets its time from."""

    @property
    def speed(self) -> float | None:
        """Emulated seconds per real second, or None if time moves only when told to."""
        ...

    def now(self) -> float:
        """Return the emulated time in seconds since the epoch; it never goes backwards."""
        ...


class RealClock:
    """Emulated time that runs ``speed`` times as fast as real time, from the real time at its creation.

    With a speed other than 1 the timestamps in answers drift ahead of the client's clock.

    :param speed: emulated seconds per real second.
    :raises ValueError: if ``speed`` is not positive.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be greater than 0, not {speed}")
        self._speed = speed
        self._start = time.time()
        # The monotonic clock measures progress, so that a correction of the host's clock is no time travel.
        self._origin = time.monotonic()

    @property
    def speed(self) -> float | None:
        """Emulated seconds per real second."""
        return self._speed

    def now(self) -> float:
        """Return the emulated time in seconds since the epoch."""
        return self._start + (time.monotonic() - self._origin) * self._speed


class VirtualClock:
    """Emulated time that stands still until it is advanced.

    :param start: the first emulated time, in seconds since the epoch.
    """

    speed: float | None = None

    def __init__(self, start: float = 1_750_000_000.0) -> None:
        self._now = start
        self._lock = Lock()

    def now(self) -> float:
        """Return the emulated time in seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move time forward.

        :param seconds: how far, in emulated seconds.
        :returns: the new time, in seconds since the epoch.
        :raises ValueError: if ``seconds`` is negative or not finite.
        """
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"seconds must be a finite number of at least 0, not {seconds}")
        with self._lock:
            self._now += seconds
            return self._now
