"""
Calls AWS for the triggers of an event loop, in a few threads.

It is one asyncio task in the event loop of its triggers. The task begins the calls that are due; their
results are handled in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Final

from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution import clock
from polysync_airflow.triggers.shared_client import SharedClient

log = logging.getLogger(__name__)

# After an error of the schedule: the first backoff, and the longest.
RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 60.0


class CallLoop(ABC):
    """
    Base of what calls AWS with one connection in one region. Only its event loop may use it.

    :param threads: one more than there are calls at a time: however slow AWS is, the connection is read in
        time.
    """

    def __init__(self, client: SharedClient, *, threads: int, name: str) -> None:
        self.client = client
        client.activity.waits = self._waits
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._calls: set[asyncio.Future[Any]] = set()
        self._reads: set[asyncio.Future[Any]] = set()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # In the context of the trigger that happens to be the first, Airflow would write the log lines to the
        # log of its task.
        self._task = self._loop.create_task(self._run(), context=Context())

    @abstractmethod
    def _waits(self) -> Mapping[str, int]:
        """Return how many wait, by pipeline. Also for other threads."""

    @abstractmethod
    def _begin_calls(self) -> float | None:
        """Begin the calls that are due; return the seconds until the next one, None to wait for a change."""

    @abstractmethod
    def _end_all(self, error: BaseException) -> None:
        """Let all that wait end with an error."""

    @abstractmethod
    def _handle_deletion(self, error: CredentialsError) -> None:
        """Handle that the connection was deleted."""

    async def _run(self) -> None:
        backoff = RETRY_SECONDS
        try:
            while True:
                self._changed.clear()
                try:
                    await self._wait(self._begin_calls())
                    backoff = RETRY_SECONDS
                except Exception:
                    log.exception("The schedule of the calls failed; it goes on in %.0f s", backoff)
                    await asyncio.sleep(clock.timeout(backoff, idle=True) or 0)
                    backoff = min(2 * backoff, MAX_RETRY_SECONDS)
        except BaseException as error:
            # For example, the last wait has ended, or the event loop ends: no wait may go on without this
            # task. If the loop is closed already, there is none.
            if not self._loop.is_closed():
                self._end_all(error)
            raise
        finally:
            # The threads end after the calls that they are in.
            self._pool.shutdown(wait=False)
            # From now on, nothing waits.
            self.client.report(is_last=True)
            self.client.activity.waits = dict

    async def _wait(self, seconds: float | None) -> None:
        idle = not self._calls and not self._reads
        with suppress(TimeoutError):
            async with asyncio.timeout(clock.timeout(seconds, idle=idle)):
                await self._changed.wait()

    def _begin_read(self) -> float | None:
        """Read the connection if that is due; return the seconds until then, None while it is read."""
        if self._reads:
            return None
        wait = self.client.seconds_until_read
        if wait > 0:
            return wait
        self._begin(self._reads, self.client.read_connection, self._handle_read)
        return None

    def _handle_read(self, deletion: CredentialsError | BaseException | None) -> None:
        if isinstance(deletion, CredentialsError):
            self._handle_deletion(deletion)
        elif deletion:
            log.error("Connection %r could not be read", self.client.key[0], exc_info=deletion)

    def _begin(
        self, running: set[asyncio.Future[Any]], call: Callable[[], Any], handle: Callable[[Any], None]
    ) -> None:
        """Call a function in a thread; then handle its result, or its error, in the event loop."""
        future = self._loop.run_in_executor(self._pool, call)
        running.add(future)
        future.add_done_callback(partial(self._end_call, running, handle))

    def _end_call(
        self, running: set[asyncio.Future[Any]], handle: Callable[[Any], None], future: asyncio.Future[Any]
    ) -> None:
        running.discard(future)
        self._changed.set()
        handle(future.exception() or future.result())
