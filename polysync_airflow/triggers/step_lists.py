"""
Which executions' steps a poller lists, and when.

Rules:

1. Steps are listed only for executions whose last poll said Executing, and at most once in
   ``progress_interval``.
2. Polls come first. Lists are made one after another with a pause, so that they do not delay the threads of
   the process.
3. When AWS throttles a call, no steps are listed for a minute.

Used by the schedule's thread of a poller only.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.rows import StepDescription
from polysync_airflow.execution.waiter import LogLine
from polysync_airflow.triggers.subscription import StepChanges, Subscription

MAX_RUNNING: Final = 4
PAUSE_SECONDS: Final = 0.02
THROTTLING_PAUSE_SECONDS: Final = 60.0


class StepLists:
    """The executions whose steps are due to be listed."""

    def __init__(self) -> None:
        self._waiting: deque[Subscription] = deque()
        self._earliest = 0.0
        self._running = 0

    def after_poll(
        self, subscription: Subscription, response: ExecutionDescription | PolysyncError, now: float
    ) -> None:
        """
        Note the response of a poll.

        :param subscription: the subscription to the execution that was polled.
        :param response: the response.
        :param now: seconds since the epoch.
        """
        progress = subscription.progress
        if isinstance(response, PolysyncError):
            if is_throttling(response):
                self._pause(now)
        elif progress and progress.is_due(response.status, now) and now >= self._earliest - PAUSE_SECONDS:
            progress.postpone(now)
            self._waiting.append(subscription)

    def seconds_until_next(self, now: float) -> float | None:
        """
        Return the seconds until the next list, 0.0 if one is due; None to wait for a message.

        :param now: seconds since the epoch.
        """
        while self._waiting and self._waiting[0].ended:
            self._waiting.popleft()
        if not self._waiting or self._running >= MAX_RUNNING:
            return None
        return max(0.0, self._earliest - now)

    def take(self, now: float) -> Subscription:
        """
        Return the subscription whose steps are listed now. ``done`` must follow.

        :param now: seconds since the epoch.
        """
        self._running += 1
        self._earliest = now + PAUSE_SECONDS
        return self._waiting.popleft()

    def done(
        self, subscription: Subscription, result: Sequence[StepDescription] | PolysyncError, now: float
    ) -> StepChanges | None:
        """
        Note the result of a list, and return what the task must learn; None if nothing has changed.

        :param subscription: the subscription.
        :param result: the steps, or the error.
        :param now: seconds since the epoch.
        """
        self._running -= 1
        progress = subscription.progress
        if subscription.ended or progress is None:
            return None
        if isinstance(result, PolysyncError):
            if is_throttling(result):
                self._pause(now)
            if result.transient or is_throttling(result):
                return None
            # For example, the permission is missing. The wait does not need it.
            subscription.progress = None
            line = LogLine(logging.WARNING, f"The log has no lines about steps: {result}")
            return StepChanges((), (line,))
        lines = progress.update(result)
        return StepChanges(result, lines) if lines else None

    def _pause(self, now: float) -> None:
        self._waiting.clear()
        self._earliest = now + THROTTLING_PAUSE_SECONDS
