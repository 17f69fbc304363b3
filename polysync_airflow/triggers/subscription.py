"""A trigger's subscription to a poller: the state of its wait, and the way into its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.steps.rows import StepDescription
from polysync_airflow.execution.waiter import Finish, LogLine, Wait, Waiter
from polysync_airflow.triggers.schedule import Pipeline
from polysync_airflow.triggers.shared_client import SharedClient


@dataclass(frozen=True, slots=True)
class StepChanges:
    """
    Steps of the execution have changed.

    :param steps: AWS's list of its steps; empty if it cannot be listed.
    :param log_lines: lines for the task's log.
    """

    steps: Sequence[StepDescription]
    log_lines: Sequence[LogLine]


Step = Wait | Finish | StepChanges


class Publisher(Protocol):
    """The part of a poller that a subscriber uses."""

    client: SharedClient

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""


# A triggerer may hold thousands of subscriptions, and the garbage collector goes through all of their objects
# while every thread of the process stands still. So there are few: slots, a future that is awaited as it is,
# and no ``asyncio.Queue``, which has seven objects.
@dataclass(eq=False, slots=True)
class Subscription:
    """
    One wait.

    :param waiter: the state of the wait.
    :param poller: the poller.
    :param loop: the subscriber's event loop.
    :param progress: when the steps are listed; None for never.
    """

    waiter: Waiter
    poller: Publisher
    loop: asyncio.AbstractEventLoop
    progress: Progress | None = None
    pipeline: Pipeline = field(init=False)
    earliest_poll: float = 0.0
    due: float = 0.0
    ended: bool = False
    # Steps that came while nobody awaited one.
    _steps: list[Step | BaseException] | None = None
    _future: asyncio.Future[Step] | None = None

    def next_step(self) -> asyncio.Future[Step]:
        """Return a future of the next step that has log lines, or the end. Call it in the event loop."""
        self._future = future = self.loop.create_future()
        if self._steps:
            self._resolve(self._steps.pop(0))
        return future

    def send(self, step: Step | BaseException) -> bool:
        """
        Send a step to the subscriber, from any thread.

        :param step: the step, or an error of the poller.
        :return: False if the event loop is closed, so that no subscriber exists any more.
        """
        try:
            self.loop.call_soon_threadsafe(self._receive, step)
        except RuntimeError:
            return False
        return True

    def _receive(self, step: Step | BaseException) -> None:
        if self._future and not self._future.done():
            self._resolve(step)
        else:
            self._steps = [*(self._steps or ()), step]

    def _resolve(self, step: Step | BaseException) -> None:
        future, self._future = self._future, None
        if future is None:
            return
        if isinstance(step, BaseException):
            future.set_exception(step)
        else:
            future.set_result(step)
