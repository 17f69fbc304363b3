"""
How long Airflow takes to respond to this process.

A triggerer has one channel to its supervisor, which takes one message after the other:
requests, and the events of triggers. So requests that wait for long show that events
do.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from polysync_airflow.execution import clock

# A report comes at least this often.
WINDOW_SECONDS: Final = 120.0


class ResponseTimes:
    """The requests of the last two minutes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers = itertools.count()
        # When those without a response began.
        self._begun: dict[int, float] = {}
        # When each of the others ended, and how long it took.
        self._ended: deque[tuple[float, float]] = deque()

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure a request, also one that fails."""
        number = next(self._numbers)
        begin = clock.monotonic()
        with self._lock:
            self._begun[number] = begin
        try:
            yield
        finally:
            end = clock.monotonic()
            with self._lock:
                del self._begun[number]
                self._ended.append((end, end - begin))
                self._forget(end)

    def longest(self) -> float:
        """
        Return the longest time that a request has taken, in seconds; one without a
        response counts with the time until now.
        """
        now = clock.monotonic()
        with self._lock:
            self._forget(now)
            running = [now - begin for begin in self._begun.values()]
            ended = [seconds for _, seconds in self._ended]
        return max((*running, *ended), default=0.0)

    def _forget(self, now: float) -> None:
        while self._ended and self._ended[0][0] < now - WINDOW_SECONDS:
            self._ended.popleft()


RESPONSE_TIMES: Final = ResponseTimes()
