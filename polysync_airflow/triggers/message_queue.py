"""Owns how other threads, and event loops, tell one thread something: messages, in order."""

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
    A queue with one reader. To put something in waits for nothing, not even for a lock.

    Not ``queue.SimpleQueue``: CPython's waits for ever if a short timeout runs out at the wrong moment (seen
    with 3.11). Not ``queue.Queue``: it has a lock, which an event loop would wait for.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        # Released: there may be something new.
        self._news = threading.Lock()

    def put(self, message: Message) -> None:
        """
        Put a message in, from any thread.

        :param message: the message.
        """
        self._messages.append(message)
        # If it is released already, the reader has not looked since.
        with suppress(RuntimeError):
            self._news.release()

    def get(self, timeout: float | None = None) -> Message:
        """
        Take the oldest message; wait for it if there is none.

        :param timeout: seconds; None for no limit.
        :raises queue.Empty: if there was none in that time.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._messages.popleft()
            except IndexError:
                pass
            left = -1.0 if until is None else max(0.0, until - time.monotonic())
            if not self._news.acquire(timeout=left):
                raise Empty

    def empty(self) -> bool:
        """Tell whether there is nothing to take."""
        return not self._messages
