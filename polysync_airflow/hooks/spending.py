"""Estimates what tasks with ``max_cost`` have spent, by what AWS says of their jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from polysync_airflow.execution import clock, cost, results
from polysync_airflow.execution.prices import CostLimit, Spending
from polysync_airflow.execution.results import JobDescription, JobKind
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.hooks.jobs import JobMethods, JobReader
from polysync_airflow.states import has_ended


class SpendingReader:
    """
    Estimates what a task has spent, by each list of its steps.

    A job is described once. If it has not started then, it counts from that moment. It
    is described again only before the execution would be stopped: so are spot
    instances, as AWS says after their end what they have saved.

    :param hook: the hook for the execution's region.
    :param warn: called with a message about a call that fails, and about a type of
        instance without a price.
    """

    def __init__(self, hook: JobMethods, warn: Callable[[str], object]) -> None:
        self.reader = JobReader(hook, warn)
        self._warn = warn
        # Each job as it was read last, and whether its step had ended before.
        self._jobs: dict[tuple[JobKind, str], tuple[JobDescription | None, bool]] = {}
        # The jobs that may cost less than what was described.
        self._uncertain: set[tuple[JobKind, str]] = set()
        self._unpriced: set[str] = set()

    def spending(self, limit: CostLimit, steps: Sequence[StepDescription]) -> Spending:
        """Return what the task has spent, by a new list of the steps."""
        now = clock.now()
        # Those of the lists before, which the log has.
        self.reader.problems.clear()
        own_steps = [step for step in steps if cost.is_own(limit, step)]
        with self.reader.in_time():
            spending = self._estimate(limit, own_steps, now)
            if spending.is_over and self._uncertain:
                for kind_and_name in self._uncertain:
                    del self._jobs[kind_and_name]
                self._uncertain.clear()
                spending = self._estimate(limit, own_steps, now)
        unpriced = set(spending.unpriced) - self._unpriced
        if unpriced:
            self._unpriced |= unpriced
            names = ", ".join(sorted(unpriced))
            self._warn(f"max_cost does not count {names}: hourly_prices has no price.")
        return spending

    def _estimate(
        self, limit: CostLimit, steps: Sequence[StepDescription], now: datetime
    ) -> Spending:
        jobs = [(step, self._job_of(step, now)) for step in steps]
        return cost.estimate(limit, jobs, now)

    def _job_of(self, step: StepDescription, now: datetime) -> JobDescription | None:
        kind_and_name = results.job_of(step)
        if kind_and_name is None or not kind_and_name[0].description.is_counted:
            return None
        job, is_final = self._jobs.get(kind_and_name, (None, False))
        if is_final:
            return job
        step_has_ended = has_ended(step.status)
        if job is None:
            job = self.reader.describe(step, *kind_and_name)
            if job and not step_has_ended:
                if not job.started_at or results.SPOT_SAVINGS in job.uncounted:
                    self._uncertain.add(kind_and_name)
                job = job.model_copy(update={"started_at": job.started_at or now})
        if isinstance(job, results.TuningJob):
            job = self.reader.with_training_jobs(step, job)
        self._jobs[kind_and_name] = (job, step_has_ended)
        return job
