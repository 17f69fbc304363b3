"""A queue by which event loops and threads send messages to one thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import Generic, TypeVar

Message = TypeVar("Message")


class MessageQueue(Generic[Message]):
    """
    An unbounded queue with one reader. ``put`` never blocks and is reentrant.

    ``queue.SimpleQueue`` is no replacement: its ``get`` can wait for ever if a short timeout ends at the
    wrong moment (seen with CPython 3.11). ``queue.Queue`` is none either: its ``put`` takes a lock, for which
    an event loop would wait, and which deadlocks if the garbage collector closes a trigger's generator in the
    thread that holds it.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        # Not held: there may be a new message.
        self._empty = threading.Lock()

    def put(self, message: Message) -> None:
        """
        Add a message, from any thread.

        :param message: the message.
        """
        self._messages.append(message)
        # The lock is not held if the reader has not read since the last message.
        with suppress(RuntimeError):
            self._empty.release()

    def get(self, timeout: float | None = None) -> Message:
        """
        Remove and return the oldest message; wait for one if there is none.

        :param timeout: seconds; None for no limit.
        :raises queue.Empty: if no message came in that time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._messages.popleft()
            except IndexError:
                pass
            remaining = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._empty.acquire(timeout=remaining):
                raise Empty

    def empty(self) -> bool:
        """Return whether the queue is empty."""
        return not self._messages
