"""
The clocks of the emulator. In the engine, only this module reads the time of the host.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import Protocol


class Clock(Protocol):
    """The source of the emulated time."""

    @property
    def speed(self) -> float | None:
        """
        Emulated seconds per real second; None if the time changes only when the clock
        is advanced.
        """
        ...

    def now(self) -> float:
        """
        Return the emulated time as Unix time. The time never decreases.
        """
        ...


class RealClock:
    """
    A clock that starts at the current time and runs ``speed`` times as fast as real
    time.

    With a speed above 1, the timestamps in responses get further and further ahead of
    the client's clock.

    :param speed: emulated seconds per real second.
    :raises ValueError: if ``speed`` is not positive.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed}; it must be greater than 0")
        self._speed = speed
        self._start = time.time()
        # Progress is measured with the monotonic clock, so an adjustment of the host's
        # clock does not change the emulated time.
        self._monotonic_start = time.monotonic()

    @property
    def speed(self) -> float | None:
        """Emulated seconds per real second."""
        return self._speed

    def now(self) -> float:
        """Return the emulated time as Unix time."""
        return self._start + (time.monotonic() - self._monotonic_start) * self._speed


class VirtualClock:
    """
    A clock that changes only when `advance` is called.

    :param start: the initial time, as Unix time.
    """

    speed: float | None = None

    def __init__(self, start: float = 1_750_000_000.0) -> None:
        self._now = start
        self._lock = Lock()

    def now(self) -> float:
        """Return the emulated time as Unix time."""
        return self._now

    def advance(self, seconds: float) -> float:
        """
        Advance the clock.

        :param seconds: the number of emulated seconds.
        :return: the new time, as Unix time.
        :raises ValueError: if ``seconds`` is negative or not finite.
        """
        if not 0 <= seconds < float("inf"):
            raise ValueError(
                f"seconds is {seconds}; it must be a finite number of at least 0"
            )
        with self._lock:
            self._now += seconds
            return self._now
