"""
The runs of a test case that go through an outage together, so that one outage is enough
for all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator


class Group:
    """Runs that wait for each other."""

    def __init__(self) -> None:
        self._members: set[str] = set()
        self._arrived: dict[str, set[str]] = defaultdict(set)
        self._passed: set[str] = set()

    def join(self, member: str) -> None:
        """Add a run, before any run waits for the others."""
        self._members.add(member)

    def leave(self, member: str) -> None:
        """Remove a run that has ended, or that cannot go on."""
        self._members.discard(member)

    def meet(
        self, member: str, point: str, then: Callable[[], None] | None = None
    ) -> Generator[None, None, None]:
        """
        Wait until all runs have arrived at a point.

        :param member: the run that arrives.
        :param point: the name of the point.
        :param then: an action that only one of the runs takes, when all have arrived.
        """
        self._arrived[point].add(member)
        while point not in self._passed:
            if self._arrived[point] >= self._members:
                self._passed.add(point)
                if then:
                    then()
            else:
                yield
