"""Estimates what tasks with ``max_cost`` have spent, in the threads of a poller."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from polysync_airflow.auth.base_hook import LiveConnection
from polysync_airflow.auth.iam_policies import JOB_OPERATIONS
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.execution.prices import CostLimit, Spending
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.waiter import LogLine
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.spending import SpendingReader


def job_connection(
    connection_id: str, region_name: str | None
) -> LiveConnection[PolysyncSageMakerHook]:
    """Return a connection whose client has the operations that describe jobs."""

    def make_hook() -> PolysyncSageMakerHook:
        hook = PolysyncSageMakerHook(
            connection_id, region_name, config=RATE_LIMITED_CONFIG
        )
        hook.client_operations = tuple(JOB_OPERATIONS)
        return hook

    return LiveConnection(connection_id, make_hook)


@dataclass(frozen=True, slots=True)
class StepChanges:
    """
    Steps of the execution have changed.

    :param steps: AWS's list of its steps; the error if it cannot be listed.
    :param log_lines: lines for the task's log.
    :param spending: what the task has spent; None without ``max_cost``.
    :param is_news: whether that grows faster or slower than at the list before, or is
        too much.
    """

    steps: Sequence[StepDescription] | BaseException
    log_lines: Sequence[LogLine] = ()
    spending: Spending | None = None
    is_news: bool = False


class WaitSpending:
    """
    What the task of one wait has spent.

    :param limit: its ``CostLimit``, as JSON: thousands of tables of prices would need
        much memory.
    :param client: what describes jobs, for all waits with this connection.
    """

    def __init__(
        self, limit: str, client: LiveConnection[PolysyncSageMakerHook]
    ) -> None:
        self._limit = limit
        self._client = client
        # A list may be read while the next one is made.
        self._lock = threading.Lock()
        self._warnings: list[str] = []
        self._reader: SpendingReader | None = None
        # What an hour cost at the last list; None before the first.
        self._per_hour: float | None = None

    def estimate(self, steps: Sequence[StepDescription]) -> StepChanges:
        """Return a new list of the steps with what was spent."""
        with self._lock:
            return self._estimate(steps)

    def _estimate(self, steps: Sequence[StepDescription]) -> StepChanges:
        if self._client.seconds_until_read <= 0:
            self._client.read()
        hook = self._client.hook
        if self._reader is None:
            self._reader = SpendingReader(hook, self._warnings.append)
        self._reader.jobs.hook = hook
        spending = self._reader.spending(CostLimit.parse(self._limit), steps)
        lines = [LogLine(logging.WARNING, text) for text in self._warnings]
        self._warnings.clear()
        is_news = spending.is_over or spending.per_hour != self._per_hour
        self._per_hour = spending.per_hour
        return StepChanges(steps, lines, spending, is_news)
