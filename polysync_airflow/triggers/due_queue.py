"""A priority queue of items by due time, in which the due time of an item can change."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

Item = TypeVar("Item")


class DueQueue(Generic[Item]):
    """
    Items by due time. Not thread-safe.

    ``sched.scheduler`` and ``queue.PriorityQueue`` are no replacement: the former needs linear time to cancel
    an entry, the latter cannot. This is the recipe of heapq's documentation: a removed entry stays in the
    heap until it comes to the front.
    """

    def __init__(self) -> None:
        # Entries are pairs of numbers. The garbage collector does not track these, as it does tuples that
        # hold the item, and a poller with thousands of executions makes thousands of entries in each poll
        # interval.
        self._heap: list[tuple[float, int]] = []
        self._items: dict[int, Item] = {}
        self._numbers: dict[Item, int] = {}
        self._counter = itertools.count()

    def put(self, item: Item, due: float) -> None:
        """
        Add an item, or change its due time.

        :param item: the item; hashable.
        :param due: its due time.
        """
        self.discard(item)
        number = self._numbers[item] = next(self._counter)
        self._items[number] = item
        heapq.heappush(self._heap, (due, number))

    def discard(self, item: Item) -> None:
        """
        Remove an item if it is in the queue.

        :param item: the item.
        """
        number = self._numbers.pop(item, None)
        if number is not None:
            del self._items[number]

    @property
    def next_due(self) -> float | None:
        """The due time of the first item; None if the queue is empty."""
        while self._heap and self._heap[0][1] not in self._items:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Item:
        """
        Remove and return the item that is due first; of items with the same due time, the one that was put
        first.

        :raises IndexError: if the queue is empty.
        """
        if self.next_due is None:
            raise IndexError("the queue is empty")
        item = self._items[self._heap[0][1]]
        self.discard(item)
        heapq.heappop(self._heap)
        return item

    def __contains__(self, item: Item) -> bool:
        return item in self._numbers
