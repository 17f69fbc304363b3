"""A trigger's subscription to a poller: the state of its wait, and the steps for the trigger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.waiter import Finish, LogLine, Wait, Waiter


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


@dataclass(eq=False, slots=True)
class Pipeline:
    """
    What a poller knows of a pipeline while it polls executions of it.

    :param pages: the number of calls that the last listing took.
    :param next_poll: when one of its executions is polled next, in seconds since the epoch.
    """

    arn: str
    subscriptions: set[Subscription] = field(default_factory=set)
    pages: int = 1
    can_list: bool = True
    next_poll: float | None = None


# A triggerer may hold thousands of subscriptions, and the garbage collector goes through all of their objects
# while every thread of the process stands still. So there are few: slots, a future that is awaited as it is,
# and no ``asyncio.Queue``, which has seven objects.
@dataclass(eq=False, slots=True)
class Subscription:
    """
    One wait. Its event loop only may use it.

    :param progress: when the steps are listed; None for never.
    :param number: its place in the order of all subscriptions.
    :param due: when it is polled next, in seconds since the epoch; None while a poll runs.
    """

    waiter: Waiter
    progress: Progress | None = None
    pipeline: Pipeline = field(init=False)
    number: int = 0
    earliest_poll: float = 0.0
    due: float | None = None
    ended: bool = False
    _steps: tuple[Step | BaseException, ...] = ()
    _future: asyncio.Future[Step] | None = None

    def next_step(self) -> asyncio.Future[Step]:
        """Return a future of the next step that has log lines, or the end."""
        self._future = future = asyncio.get_running_loop().create_future()
        self._deliver()
        return future

    def send(self, step: Step | BaseException) -> None:
        """Send a step, or an error of the poller, to the trigger."""
        self._steps = (*self._steps, step)
        self._deliver()

    def _deliver(self) -> None:
        future = self._future
        if not self._steps or future is None or future.done():
            return
        (step, *later), self._future = self._steps, None
        self._steps = tuple(later)
        if isinstance(step, BaseException):
            future.set_exception(step)
        else:
            future.set_result(step)
