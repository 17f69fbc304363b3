"""Owns the lag of an event loop: how much later than due it calls what it was asked to call."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from typing import Final

# Seconds between two moments at which the loop is asked to call.
TICK: Final = 0.01
# Seconds in which it is measured what asking costs.
CALIBRATION: Final = 2.0


class LagProbe:
    """Measures the event loop that it is started in."""

    def __init__(self) -> None:
        # Seconds, one for each moment at which the loop was late or in time.
        self.lags = array("d")
        # How often it was asked.
        self.ticks = 0
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
        self.ticks += 1
        # The loop calls up to its clock's resolution too soon.
        self.record(max(0.0, loop.time() - self._due))
        self.start()

    def record(self, lag: float) -> None:
        """
        Add a lag, and those of the moments that passed unasked while the loop stood still.

        Without them one stall of a second would weigh no more than one of its hundred moments.

        :param lag: seconds.
        """
        self.lags.append(lag)
        if lag > TICK:
            self.lags.extend(lag - passed * TICK for passed in range(1, math.ceil(lag / TICK)))

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


async def cost_of_a_tick() -> float:
    """Return the CPU seconds that asking an idle loop once takes, so that they are not taken for the triggers'."""
    probe, began = LagProbe(), time.process_time()
    probe.start()
    await asyncio.sleep(CALIBRATION)
    probe.stop()
    return (time.process_time() - began) / max(1, probe.ticks)


def percentile(values: array[float] | list[float], percent: float) -> float:
    """
    Return the value that so many of all do not exceed; 0.0 if there are none.

    :param values: in any order.
    :param percent: of the values.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0
