"""Owns the lag of an event loop: how much later than due it calls what it was asked to call."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from typing import Final

# Seconds between two moments at which the loop is asked to call.
TICK: Final = 0.005


@dataclass
class LagProbe:
    """
    Measures the loop that ``watch`` runs in.

    :param lags: seconds, one for each moment at which the loop was late or in time.
    """

    lags: list[float] = field(default_factory=list)

    async def watch(self) -> None:
        """Measure until it is cancelled."""
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            self.record(max(0.0, time.perf_counter() - due))

    def record(self, lag: float) -> None:
        """
        Add a lag, and those of the moments that passed unasked while the loop stood still.

        Without them one stall of a second would weigh no more than one of its two hundred moments.

        :param lag: seconds.
        """
        self.lags += [lag - passed * TICK for passed in range(max(1, math.ceil(lag / TICK)))]

    @property
    def longest(self) -> float:
        """The longest stall, in seconds."""
        return max(self.lags, default=0.0)

    def percentile(self, percent: float) -> float:
        """
        Return the lag, in seconds, that so many of all moments do not exceed.

        :param percent: of the moments.
        """
        ordered = sorted(self.lags)
        return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0
