"""
What all waits of an event loop have for Airflow goes out in bursts: lines for the logs
of their tasks, XComs, ends.

For each request of its triggers, and for each 4 KiB of their log lines, Airflow's
supervisor makes a whole pass of its loop, with about eight SQL statements (``run_once``
in airflow/jobs/triggerer_job_runner.py). What comes together shares passes.

Rules:

1. What comes goes out at once if nothing has for ``PAUSE_SECONDS``; otherwise, at the
   end of these seconds, together with all else that has come. So a wait alone is never
   delayed.
2. The XCom ``steps`` takes a pass of its own, and more CPU than all else of a wait. One
   with a failed step is stored at once.
3. Any other is stored while there is credit, which grows with time. Of those that come
   together, the waits come first whose XCom is the oldest. A wait that was left out is
   owed its XCom: it gets one with a later list, whether that has changes or not.
4. Half of the credit is kept for the first XComs of waits. Once it is used up, those
   whose turn it is are listed ``MIN_CREDIT`` at a time, so that they share passes.

The time is an argument, in seconds of ``clock.monotonic``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from polysync_airflow.triggers.spending import StepChanges

PAUSE_SECONDS: Final = 1.0
# How many XComs ``steps`` are stored in a second in the long run, and how many at once
# after a quiet time.
XCOMS_PER_SECOND: Final = 1.0
MAX_CREDIT: Final = 60.0
# Credit that is used up is used again from here on.
MIN_CREDIT: Final = 5.0


class Receiver(Protocol):
    """
    Whoever waits: a ``Subscription``.

    :param stored_at: when its XCom ``steps`` was stored last; infinitely long ago if it
        was not.
    :param is_owed: whether its steps have changed since.
    """

    stored_at: float
    is_owed: bool

    def send(self, result: Any) -> None:
        """Pass a result on to the trigger."""


@dataclass
class Bursts:
    """
    Holds the results of waits until the next burst: those of a second at most.

    :param credit: how many XComs ``steps`` may be stored now.
    """

    credit: float = MAX_CREDIT
    _credit_at: float = math.inf
    _is_used_up: bool = False
    _burst_at: float = -math.inf
    _held: list[tuple[Receiver, Any]] = field(default_factory=list)

    def add(self, receiver: Receiver, result: Any) -> None:
        """Hold a result until the next burst."""
        self._held.append((receiver, result))

    def withdraw(self, receiver: Receiver) -> list[Any]:
        """Return the results that a wait will not receive, and forget them."""
        results = [result for each, result in self._held if each is receiver]
        self._held = [held for held in self._held if held[0] is not receiver]
        return results

    def send_due(self, now: float) -> float | None:
        """
        Send what is due; return the seconds until the next burst, None if nothing is
        held.
        """
        if not self._held:
            return None
        seconds = self._burst_at + PAUSE_SECONDS - now
        if seconds > 0:
            return seconds
        self.send_all(now)
        return None

    def send_all(self, now: float) -> None:
        """Send all that is held."""
        held = self._held
        self._held = []
        self._burst_at = now
        stored = self._stored(held, now)
        for number, (receiver, result) in enumerate(held):
            sent = result
            if isinstance(result, StepChanges) and result.has_steps:
                is_stored = number in stored
                receiver.is_owed = not is_stored
                sent = replace(result, is_stored=is_stored)
            receiver.send(sent)

    def has_credit(self, now: float) -> bool:
        """Return whether waits may be listed whose XCom was never stored."""
        self._grow(now)
        if self.credit < 1:
            self._is_used_up = True
        elif self.credit >= MIN_CREDIT:
            self._is_used_up = False
        return not self._is_used_up

    def _grow(self, now: float) -> None:
        # The clock of a process that was frozen goes on.
        self.credit += max(0.0, now - self._credit_at) * XCOMS_PER_SECOND
        self.credit = min(self.credit, MAX_CREDIT)
        self._credit_at = now

    def _stored(self, held: Sequence[tuple[Receiver, Any]], now: float) -> set[int]:
        """Return the places of the results whose XCom is stored."""
        self._grow(now)
        candidates = [
            (number, receiver, result)
            for number, (receiver, result) in enumerate(held)
            if isinstance(result, StepChanges) and result.has_steps
        ]
        candidates.sort(key=lambda each: each[1].stored_at)
        stored = set()
        for number, receiver, result in candidates:
            kept = MAX_CREDIT / 2
            if receiver.stored_at == -math.inf:
                kept = 0.0
            if result.has_failure or self.credit >= kept + 1:
                stored.add(number)
                receiver.stored_at = now
                self.credit -= 1
        return stored


# By event loop.
_BURSTS: Final[dict[asyncio.AbstractEventLoop, Bursts]] = {}


def bursts_of_loop() -> Bursts:
    """Return what the waits of the running event loop share."""
    for other in list(_BURSTS):
        if other.is_closed():
            _BURSTS.pop(other, None)
    return _BURSTS.setdefault(asyncio.get_running_loop(), Bursts())
