"""A memory of limited size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Memory:
    """
    Knows what was added last.

    :param limit: how many entries it keeps. Those that were added or found longest ago are forgotten.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, None] = OrderedDict()

    def __contains__(self, entry: Hashable) -> bool:
        if entry not in self._entries:
            return False
        self._entries.move_to_end(entry)
        return True

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Hashable) -> bool:
        """Add an entry, and return whether it is new."""
        is_new = entry not in self
        self._entries.setdefault(entry)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
        return is_new
