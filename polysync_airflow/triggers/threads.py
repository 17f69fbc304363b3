"""The threads of a triggerer in which code runs that blocks."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

Result = TypeVar("Result")

# The threads of a connection. Not the event loop's own pool, which all triggers share,
# and not one pool for all connections: a call that AWS throttles, or whose endpoint
# does not respond, may take minutes.
MAX_THREADS: Final = 8


class ThreadPools:
    """
    Thread pools, one for each connection, that exist only while they have work.

    :param name: how the names of the threads begin.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._running: dict[str, int] = {}

    def submit(
        self, connection_id: str, function: Callable[..., Result], *arguments: object
    ) -> Future[Result]:
        """
        Call a function in a thread, in the context of the caller: by that, Airflow
        writes the lines of a trigger to the log of its task.

        :param connection_id: the connection that the function uses. It waits for
            functions with the same connection only.
        """
        with self._lock:
            if connection_id not in self._pools:
                self._pools[connection_id] = ThreadPoolExecutor(
                    MAX_THREADS, thread_name_prefix=self._name
                )
            self._running[connection_id] = self._running.get(connection_id, 0) + 1
            call = partial(contextvars.copy_context().run, function, *arguments)
            future: Future[Result] = self._pools[connection_id].submit(call)
        future.add_done_callback(partial(self._done, connection_id))
        return future

    def _done(self, connection_id: str, _: Future[object]) -> None:
        with self._lock:
            self._running[connection_id] -= 1
            if not self._running[connection_id]:
                del self._running[connection_id]
                self._pools.pop(connection_id).shutdown(wait=False)


async def result_of(future: Future[Result]) -> Result:
    """Return the result of a thread, which is not cancelled with the coroutine."""
    return await asyncio.shield(asyncio.wrap_future(future))
