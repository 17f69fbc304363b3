"""Threads in which triggers stop executions. They end when there is nothing left to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

# Not the event loop's own thread pool, which all triggers share: a stop that AWS throttles may take minutes.
MAX_THREADS: Final = 8


class StopThreads:
    """A thread pool that exists only while it has work, so that no idle thread is left in the triggerer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._running = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """
        Call a function in a thread.

        :param function: the function.
        :param arguments: its arguments.
        """
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="polysync-stop")
            self._running += 1
            future = self._pool.submit(function, *arguments)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: Future[Any]) -> None:
        with self._lock:
            self._running -= 1
            if not self._running and self._pool:
                self._pool.shutdown(wait=False)
                self._pool = None


_STOP_THREADS: Final = StopThreads()
submit_stop: Final = _STOP_THREADS.submit
