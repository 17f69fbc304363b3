"""
Event loop lag: how much later than scheduled an asyncio event loop runs a callback.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from typing import Final

# Seconds between two scheduled callbacks.
TICK: Final = 0.01
# Seconds in which the CPU cost of the probe itself is measured.
CALIBRATION: Final = 2.0


class EventLoopLagProbe:
    """Measures the lag of the event loop in which it is started."""

    def __init__(self) -> None:
        # Lag in seconds, one value per tick, including the ticks that the loop missed.
        self.lags = array("d")
        # Number of callbacks that ran.
        self.ticks = 0
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start measuring. Must be called in the event loop."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + TICK
        self._handle = loop.call_at(self._due, self._tick, loop)

    def stop(self) -> None:
        """Stop measuring."""
        if self._handle:
            self._handle.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ticks += 1
        # The loop may run a callback too early, by up to the resolution of its clock.
        self.record(max(0.0, loop.time() - self._due))
        self.start()

    def record(self, lag: float) -> None:
        """
        Add a lag, and the lags of the ticks that the loop missed during a stall.

        Without the missed ticks, a stall of one second would have the weight of one
        tick instead of a hundred.

        :param lag: the lag in seconds.
        """
        self.lags.append(lag)
        if lag > TICK:
            self.lags.extend(
                lag - missed * TICK for missed in range(1, math.ceil(lag / TICK))
            )

    @property
    def longest(self) -> float:
        """The longest stall, in seconds."""
        return max(self.lags, default=0.0)

    def percentile(self, percent: float) -> float:
        """
        Return a percentile of the lag, in seconds.

        :param percent: for example 99.
        """
        return percentile(self.lags, percent)


async def cpu_per_tick() -> float:
    """
    Return the CPU seconds that one tick takes in an idle loop, to subtract them from
    the measured CPU time.
    """
    probe, start = EventLoopLagProbe(), time.process_time()
    probe.start()
    await asyncio.sleep(CALIBRATION)
    probe.stop()
    return (time.process_time() - start) / max(1, probe.ticks)


def percentile(values: array[float] | list[float], percent: float) -> float:
    """
    Return a percentile by the nearest-rank method; 0.0 if there are no values.

    :param values: the values, in any order.
    :param percent: for example 99.
    """
    ordered = sorted(values)
    return (
        ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0
    )
