"""Owns what is due when: the next of many things, each with one time that may change."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

Item = TypeVar("Item")


class DueQueue(Generic[Item]):
    """Things by the time that they are due at. Not safe to share between threads."""

    def __init__(self) -> None:
        # Numbers, not the things themselves: tuples of numbers are none that the garbage collector keeps in
        # view, and thousands of them are made anew in each round.
        self._heap: list[tuple[float, int]] = []
        self._items: dict[int, Item] = {}
        self._numbers: dict[Item, int] = {}
        self._count = itertools.count()

    def put(self, item: Item, due: float) -> None:
        """
        Have something due at a time; it no longer is at the time of before.

        :param item: the thing.
        :param due: its time.
        """
        self.drop(item)
        number = self._numbers[item] = next(self._count)
        self._items[number] = item
        heapq.heappush(self._heap, (due, number))

    def drop(self, item: Item) -> None:
        """
        Have it due no longer, if it is.

        :param item: the thing.
        """
        number = self._numbers.pop(item, None)
        if number is not None:
            del self._items[number]

    @property
    def next_due(self) -> float | None:
        """When the first thing is due; None if there is none."""
        while self._heap and self._heap[0][1] not in self._items:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Item:
        """
        Take out what is due first; of things due at the same time the one that was put in first.

        :raises IndexError: if there is nothing.
        """
        if self.next_due is None:
            raise IndexError("nothing is due")
        item = self._items[self._heap[0][1]]
        self.drop(item)
        heapq.heappop(self._heap)
        return item

    def __contains__(self, item: Item) -> bool:
        return item in self._numbers
