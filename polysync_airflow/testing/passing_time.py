"""Time for tests: it passes as usual, and a wait of the provider passes at once."""

from __future__ import annotations

from threading import Lock

from polysync_airflow.execution.clock import Clock


class PassingTime(Clock):
    """
    The host's time, moved on by the length of each wait, which takes no time itself.

    So timeouts, intervals and backoffs of the provider have their real lengths, on a slow host as well.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waited = 0.0

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return super().time() + self._waited

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set back."""
        return super().monotonic() + self._waited

    def sleep(self, seconds: float) -> None:
        """Let a wait pass at once."""
        with self._lock:
            self._waited += max(0.0, seconds)

    def timeout(self, seconds: float | None, *, idle: bool) -> float | None:
        """Let a wait for an event pass at once, but only while nothing else takes time."""
        if seconds is None or not idle:
            return seconds
        self.sleep(seconds)
        return 0.0


class EmulatedTime:
    """
    The time of the emulator, which runs ``speed`` times as fast as that of the provider.

    :param speed: emulated seconds for each of its seconds.
    """

    def __init__(self, provider: Clock, speed: float) -> None:
        self.speed: float | None = speed
        self._provider, self._factor = provider, speed
        self._start, self._monotonic_start = provider.time(), provider.monotonic()

    def now(self) -> float:
        """Return the emulated time in seconds since the epoch."""
        return self._start + (self._provider.monotonic() - self._monotonic_start) * self._factor
