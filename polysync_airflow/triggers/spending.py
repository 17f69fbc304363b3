"""Estimates what tasks with ``max_cost`` have spent, in the threads of a poller."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from polysync_airflow.airflow_compat import supervisor, task_instances
from polysync_airflow.auth.base_hook import LiveConnection
from polysync_airflow.auth.iam_policies import JOB_OPERATIONS
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.execution import cost, prices, waiter
from polysync_airflow.execution.lifecycle.ending import Owner, owner_at_end_of_wait
from polysync_airflow.execution.lifecycle.instructions import StepJobs, TryOfTask
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.spending import SpendingReader, StepJobStore
from polysync_airflow.records.store import RecordStore, read_record

log = logging.getLogger(__name__)


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
    :param is_stored: whether the XComs are stored now: ``bursts`` decides.
    """

    steps: Sequence[StepDescription] | BaseException
    log_lines: Sequence[waiter.LogLine] = ()
    spending: prices.Spending | None = None
    is_news: bool = False
    is_stored: bool = True

    @property
    def has_steps(self) -> bool:
        """Whether AWS has listed the steps."""
        return not isinstance(self.steps, BaseException)

    @property
    def has_failure(self) -> bool:
        """Whether a step has failed."""
        return any(line.level >= logging.ERROR for line in self.log_lines)


class RecordedStepJobs(StepJobStore):
    """
    Keeps the jobs of the steps in the record of the execution of a deferred task, where
    the trigger finds them in another triggerer. Its methods block.

    If Airflow does not respond, the process goes on with what it knows, and asks again
    with the next list of the steps.
    """

    def __init__(self, ti: TryOfTask, execution_arn: str) -> None:
        super().__init__()
        self._ti = ti
        self._arn = execution_arn
        self._is_read = False
        # The jobs that the record has, as far as this process knows.
        self._recorded: StepJobs = {}

    def read(self) -> StepJobs:
        """Return the jobs that are known."""
        if not self._is_read or self._recorded != self._jobs:
            self._exchange()
        return self._jobs

    def write(self, jobs: StepJobs) -> None:
        """Keep the jobs, and store them in the record."""
        super().write(jobs)
        self._exchange()

    def _exchange(self) -> None:
        try:
            supervisor.call_airflow(self._merge)
        except Exception as error:
            log.warning(
                "The jobs of the steps cannot be kept in the record, retrying: %s: %s."
                " Execution: %s",
                type(error).__name__,
                error,
                self._arn,
            )

    def _merge(self) -> None:
        """Learn what the record has, and store what it lacks."""
        record = read_record(self._ti)
        if record is None or record.execution_arn != self._arn:
            # Without a record, what was seen is known to this process only.
            self._recorded = self._jobs
            self._is_read = True
            return
        recorded = record.step_jobs or {}
        self._jobs = cost.merged_jobs(recorded, self._jobs)
        self._is_read = True
        if self._jobs != recorded:
            state = task_instances.read_state(self._ti)
            owner = owner_at_end_of_wait(state, record, self._arn, self._ti.try_number)
            if owner is Owner.THIS_TRY:
                changed = record.model_copy(update={"step_jobs": self._jobs})
                RecordStore.outside(self._ti).write_unconfirmed(changed)
        self._recorded = self._jobs


class WaitSpending:
    """
    What the task of one wait has spent.

    :param limit: its ``CostLimit``, as JSON: thousands of tables of prices would need
        much memory.
    :param client: what describes jobs, for all waits with this connection.
    :param store: keeps the jobs of the steps; None for this process only.
    """

    def __init__(
        self,
        limit: str,
        client: LiveConnection[PolysyncSageMakerHook],
        store: StepJobStore | None,
    ) -> None:
        self._limit = limit
        self._client = client
        self._store = store or StepJobStore()
        # A list may be read while the next one is made.
        self._lock = threading.Lock()
        self._warnings: list[str] = []
        self._reader: SpendingReader | None = None
        # What an hour cost at the last list; None before the first.
        self._per_hour: float | None = None

    def estimate(self, steps: Sequence[StepDescription]) -> StepChanges:
        """Return a new list of the steps with what was spent."""
        with self._lock:
            if self._client.seconds_until_read <= 0:
                self._client.read()
            hook = self._client.hook
            if self._reader is None:
                self._reader = SpendingReader(hook, self._warnings.append, self._store)
            self._reader.jobs.hook = hook
            limit = prices.CostLimit.parse(self._limit)
            spending = self._reader.spending(limit, steps)
            lines = [waiter.LogLine(logging.WARNING, text) for text in self._warnings]
            self._warnings.clear()
            is_news = spending.is_over or spending.per_hour != self._per_hour
            self._per_hour = spending.per_hour
            return StepChanges(steps, lines, spending, is_news)
