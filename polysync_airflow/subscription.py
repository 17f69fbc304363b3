"""Owns one wait's place in a poller: what is known of it, and the way to the event loop that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from polysync_airflow.channel import Channel
from polysync_airflow.rounds import Pipeline
from polysync_airflow.states import Finish, Wait, Watch


@dataclass(eq=False)
class Subscription:
    """
    One wait.

    :param watch: what is known of it.
    :param channel: the connection that it is looked at by.
    :param loop: the event loop that waits.
    """

    watch: Watch
    channel: Channel
    loop: asyncio.AbstractEventLoop
    pipeline: Pipeline = field(init=False)
    not_before: float = 0.0
    due: float = 0.0
    entry: int | None = None
    over: bool = False
    _news: asyncio.Queue[Wait | Finish | BaseException] = field(default_factory=asyncio.Queue)

    async def steps(self) -> AsyncIterator[Wait | Finish]:
        """Give every decision that has something to tell, the end last."""
        while True:
            step = await self._news.get()
            if isinstance(step, BaseException):
                raise step
            yield step
            if isinstance(step, Finish):
                return

    def tell(self, step: Wait | Finish | BaseException) -> None:
        """
        Pass on a decision, from any thread.

        :param step: the decision, or what went wrong.
        """
        try:
            self.loop.call_soon_threadsafe(self._news.put_nowait, step)
        except RuntimeError:
            # Its event loop has been closed without a word: nobody waits there any more.
            self.over = True
