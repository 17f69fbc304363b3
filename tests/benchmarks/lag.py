"""Owns the lag of an event loop: how much later than due it calls what it was asked to call."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from typing import Final

# Seconds between two moments at which the loop is asked to call. Asking costs CPU, too: 2 ms each second.
TICK: Final = 0.01


class LagProbe:
    """Measures the event loop that it is started in."""

    def __init__(self) -> None:
        # Seconds, one for each moment at which the loop was late or in time.
        self.lags = array("d")
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure from now on."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + TICK
        self._handle = loop.call_at(self._due, self._tick, loop)

    def stop(self) -> None:
        """Measure no longer."""
        if self._handle:
            self._handle.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop calls up to its clock's resolution too soon.
        self.record(max(0.0, time.monotonic() - self._due))
        self.start()

    def record(self, lag: float) -> None:
        """
        Add a lag, and those of the moments that passed unasked while the loop stood still.

        Without them one stall of a second would weigh no more than one of its hundred moments.

        :param lag: seconds.
        """
        self.lags.extend(lag - passed * TICK for passed in range(max(1, math.ceil(lag / TICK))))

    @property
    def longest(self) -> float:
        """The longest stall, in seconds."""
        return max(self.lags, default=0.0)

    def percentile(self, percent: float) -> float:
        """
        Return the lag, in seconds, that so many of all moments do not exceed.

        :param percent: of the moments.
        """
        return percentile(self.lags, percent)


def percentile(values: array[float] | list[float], percent: float) -> float:
    """
    Return the value that so many of all do not exceed; 0.0 if there are none.

    :param values: in any order.
    :param percent: of the values.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0
