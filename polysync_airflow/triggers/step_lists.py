"""
Which wait has its steps listed next, and when.

Rules:

1. Steps for which a task waits are listed one after the other, ``PAUSE_SECONDS`` apart.
2. Steps that are only shown take at most so many lists a second in the long run, and
   up to ``MAX_BURST`` at once after a quiet time.
3. A wait whose steps were never shown comes first if their XCom may be stored.
4. All others are listed together, in turn: a burst follows on the one before after
   ``BURST_SECONDS``, so that their log lines reach Airflow together (``bursts``).

Everything here is pure: the time is an argument, in seconds of ``clock.monotonic``.
"""

from __future__ import annotations

import math
from typing import Any, Final, Generic, Protocol, TypeVar, cast

PAUSE_SECONDS: Final = 0.02
MAX_BURST: Final = 40.0
BURST_SECONDS: Final = 10.0


class Listed(Protocol):
    """A wait whose steps are listed."""

    @property
    def ended(self) -> Any:
        """Whether it has ended."""


AnyListed = TypeVar("AnyListed", bound=Listed)


def _first(waits: dict[AnyListed, None]) -> AnyListed | None:
    """Return the first wait that has not ended; forget the others before it."""
    while waits:
        wait = next(iter(waits))
        if not wait.ended:
            return wait
        del waits[wait]
    return None


class AwaitedLists(Generic[AnyListed]):
    """Steps for which a task waits."""

    def __init__(self) -> None:
        self._waits: dict[AnyListed, None] = {}
        self._due = -math.inf

    def add(self, wait: AnyListed, *, is_first: bool) -> None:
        """Let the steps of a wait be listed."""
        self._waits[wait] = None

    def clear(self) -> None:
        """List nothing."""
        self._waits.clear()

    def seconds_until_next(self, now: float, has_credit: bool) -> float | None:
        """Return the seconds until the next list; None if there is none."""
        if _first(self._waits) is None:
            return None
        return self._due - now

    def begin(self, now: float) -> AnyListed:
        """Return the wait whose turn it is, and take it out."""
        wait = next(iter(self._waits))
        del self._waits[wait]
        self._due = now + PAUSE_SECONDS
        return wait


class ShownLists(AwaitedLists[AnyListed]):
    """
    Steps that are only shown.

    :param per_second: how many lists begin in a second in the long run.
    """

    def __init__(self, per_second: float) -> None:
        super().__init__()
        self.per_second = per_second
        # The waits whose steps were never shown.
        self._new: dict[AnyListed, None] = {}
        # How many lists may begin, and when that was known.
        self._allowed = 1.0
        self._allowed_at = math.inf
        # When the next burst may begin; and whether one goes on.
        self._burst_at = -math.inf
        self._is_burst = False
        # Whose turn it is, and whether it comes before its turn.
        self._next: AnyListed | None = None
        self._comes_first = False

    def add(self, wait: AnyListed, *, is_first: bool) -> None:
        """
        Let the steps of a wait be listed.

        :param is_first: whether they were not shown yet.
        """
        super().add(wait, is_first=is_first)
        if is_first:
            self._new[wait] = None

    def clear(self) -> None:
        """List nothing."""
        super().clear()
        self._new.clear()

    def seconds_until_next(self, now: float, has_credit: bool) -> float | None:
        """
        Return the seconds until the next list, 0 or less for now; None if there is
        none.

        :param has_credit: whether waits may come first whose steps were never shown.
        """
        passed = max(0.0, now - self._allowed_at)
        self._allowed = min(MAX_BURST, self._allowed + passed * self.per_second)
        self._allowed_at = now
        in_turn = _first(self._waits)
        new = _first(self._new)
        if in_turn is None or self._allowed < 1:
            self._is_burst = False
        self._comes_first = has_credit and new is not None
        self._next = in_turn
        if self._comes_first:
            self._next = new
        if self._next is None:
            return None
        allowed_in = max(self._due - now, (1 - self._allowed) / self.per_second)
        if self._comes_first or self._is_burst:
            return allowed_in
        return max(allowed_in, self._burst_at - now)

    def begin(self, now: float) -> AnyListed:
        """Return the wait whose turn it is, and take it out."""
        wait = cast("AnyListed", self._next)
        if not self._comes_first and not self._is_burst:
            self._is_burst = True
            self._burst_at = now + BURST_SECONDS
        self._waits.pop(wait, None)
        self._new.pop(wait, None)
        self._due = now + PAUSE_SECONDS
        self._allowed -= 1
        return wait
