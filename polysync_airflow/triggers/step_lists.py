"""
Which wait has its steps listed next, and when.

Rules:

1. Steps for which a task waits are listed one after the other, ``PAUSE_SECONDS`` apart.
2. Steps that are only shown take at most so many lists a second in the long run, and
   up to ``MAX_BURST`` at once after a quiet time.
3. A wait whose steps were never shown comes first, as soon as their XCom may be stored.
4. The others are listed together: a burst follows on the one before after
   ``BURST_SECONDS``, so that their log lines reach Airflow together (``bursts``).

Everything here is pure: the time is an argument, in seconds of ``clock.monotonic``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Final, Generic, Protocol, TypeVar

PAUSE_SECONDS: Final = 0.02
MAX_BURST: Final = 40.0
BURST_SECONDS: Final = 10.0


class Listed(Protocol):
    """A wait whose steps are listed."""

    @property
    def ended(self) -> Any:
        """Whether it has ended."""


AnyListed = TypeVar("AnyListed", bound=Listed)


class StepLists(ABC, Generic[AnyListed]):
    """The waits whose steps are listed next, in turn."""

    @abstractmethod
    def add(self, wait: AnyListed, *, is_first: bool) -> None:
        """
        Let the steps of a wait be listed.

        :param is_first: whether they were not shown yet.
        """

    @abstractmethod
    def clear(self) -> None:
        """List nothing."""

    @abstractmethod
    def seconds_until_next(self, now: float, has_credit: bool) -> float | None:
        """
        Return the seconds until the next list, 0 or less for now; None if there is
        none.

        :param has_credit: whether an XCom may be stored for the first time.
        """

    @abstractmethod
    def begin(self, now: float) -> AnyListed:
        """Return the wait whose turn it is, and take it out."""


def _first(waits: dict[AnyListed, None]) -> AnyListed | None:
    """Return the first wait that has not ended; forget the others before it."""
    while waits:
        wait = next(iter(waits))
        if not wait.ended:
            return wait
        del waits[wait]
    return None


class AwaitedLists(StepLists[AnyListed]):
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


class ShownLists(StepLists[AnyListed]):
    """
    Steps that are only shown.

    :param per_second: how many lists begin in a second in the long run.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._new: dict[AnyListed, None] = {}
        self._others: dict[AnyListed, None] = {}
        self._due = -math.inf
        # How many lists may begin, and when that was known.
        self._allowed = 1.0
        self._allowed_at = math.inf
        # When the next burst may begin; and whether one goes on.
        self._burst_at = -math.inf
        self._is_burst = False
        self._next = self._new

    def add(self, wait: AnyListed, *, is_first: bool) -> None:
        """Let the steps of a wait be listed."""
        waits = self._others
        if is_first:
            waits = self._new
        waits[wait] = None

    def clear(self) -> None:
        """List nothing."""
        self._new.clear()
        self._others.clear()

    def seconds_until_next(self, now: float, has_credit: bool) -> float | None:
        """Return the seconds until the next list; None if there is none."""
        passed = max(0.0, now - self._allowed_at)
        self._allowed = min(MAX_BURST, self._allowed + passed * self.per_second)
        self._allowed_at = now
        if _first(self._others) is None or self._allowed < 1:
            self._is_burst = False
        is_new = _first(self._new) is not None
        allowed_in = max(self._due - now, (1 - self._allowed) / self.per_second)
        if is_new and has_credit:
            self._next = self._new
            return allowed_in
        if self._others:
            self._next = self._others
            if not self._is_burst:
                return max(allowed_in, self._burst_at - now)
            return allowed_in
        if is_new:
            # Until there may be credit again.
            return 1.0
        return None

    def begin(self, now: float) -> AnyListed:
        """Return the wait whose turn it is, and take it out."""
        waits = self._next
        if waits is self._others and not self._is_burst:
            self._is_burst = True
            self._burst_at = now + BURST_SECONDS
        wait = next(iter(waits))
        del waits[wait]
        self._due = now + PAUSE_SECONDS
        self._allowed -= 1
        return wait
