"""Owns one wait's place in a poller: what is known of it, and the way to the event loop that waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from polysync_airflow.execution.waiter import Finish, Wait, Waiter
from polysync_airflow.triggers.schedule import Pipeline
from polysync_airflow.triggers.shared_client import SharedClient


@dataclass(eq=False)
class Subscription:
    """
    One wait.

    :param watch: what is known of it.
    :param channel: the connection that it is looked at by.
    :param loop: the event loop that waits.
    """

    watch: Waiter
    channel: SharedClient
    loop: asyncio.AbstractEventLoop
    pipeline: Pipeline = field(init=False)
    earliest_poll: float = 0.0
    due: float = 0.0
    over: bool = False
    # Not an ``asyncio.Queue``: seven objects for each of thousands of waits, through all of which the garbage
    # collector goes while the event loop stands still.
    _news: list[Wait | Finish | BaseException] = field(default_factory=list)
    _arrival: asyncio.Future[None] | None = None

    async def next_step(self) -> Wait | Finish:
        """Wait for the next decision that has something to tell; the end is the last one."""
        while not self._news:
            self._arrival = self.loop.create_future()
            await self._arrival
        step = self._news.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step

    def tell(self, step: Wait | Finish | BaseException) -> bool:
        """
        Pass on a decision, from any thread.

        :param step: the decision, or what went wrong.
        :return: False if its event loop has been closed without a word: nobody waits there any more.
        """
        try:
            self.loop.call_soon_threadsafe(self._arrive, step)
        except RuntimeError:
            return False
        return True

    def _arrive(self, step: Wait | Finish | BaseException) -> None:
        self._news.append(step)
        if self._arrival and not self._arrival.done():
            self._arrival.set_result(None)
