"""A clock of the provider that only a test, or a sleep of the provider, moves."""

from __future__ import annotations

from datetime import UTC, datetime

from polysync_airflow.execution.clock import Clock

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class StoppedClock(Clock):
    """
    A clock that stands still.

    ``seconds`` is the Unix time, and ``sleeps`` has the seconds of each sleep.
    """

    def __init__(self) -> None:
        self.seconds = START
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Return the Unix time."""
        return self.seconds

    def monotonic(self) -> float:
        """Return the same."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.sleeps.append(seconds)
        self.seconds += seconds
