"""
Estimates what tasks with ``max_cost`` have spent, and adds up what executions that have
ended have cost, by what AWS says of their jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock, cost, results
from polysync_airflow.execution.cost import Basis
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord, StepJobs
from polysync_airflow.execution.prices import (
    CostAndUsage,
    CostLimit,
    HourlyPrices,
    Spending,
)
from polysync_airflow.execution.results import JobDescription, JobOfStep
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.get_provider_info import CONFIG_SECTION
from polysync_airflow.hooks.jobs import Job, JobMethods, JobReader
from polysync_airflow.hooks.prices import read_prices
from polysync_airflow.states import has_ended


class StepJobStore:
    """
    Keeps the jobs that the steps of an attempt have had. This one does so for the
    process only.

    :param jobs: the jobs that the steps have had until now.
    """

    def __init__(self, jobs: StepJobs | None = None) -> None:
        self._jobs = jobs or {}

    def read(self) -> StepJobs:
        """Return the jobs that are known."""
        return self._jobs

    def write(self, jobs: StepJobs) -> None:
        """Keep the jobs."""
        self._jobs = jobs


class SpendingReader:
    """
    Estimates what a task has spent, by each list of its steps.

    A job is described once. If it has not started then, it counts from that moment. It
    is described again only before the execution would be stopped: so are spot
    instances, as AWS says after their end what they have saved. But one with a warm
    pool is described with each list from its end until AWS keeps the pool no longer:
    only that tells whether another job, which counts itself, has taken it over.

    :param hook: the hook for the execution's region.
    :param warn: called with a message about a call that fails, and about a type of
        instance without a price.
    :param store: keeps the jobs of the steps, for whoever estimates later.
    """

    def __init__(
        self, hook: JobMethods, warn: Callable[[str], object], store: StepJobStore
    ) -> None:
        self._store = store
        self.jobs = JobReader(hook, warn)
        self._warn = warn
        # What AWS has last said of each job, and whether its cost is final.
        self._read: dict[Job, tuple[JobDescription | None, bool]] = {}
        # The jobs that may cost less than what was described.
        self._uncertain: set[Job] = set()
        # The seconds of jobs that AWS no longer lists, by type of instance.
        self._earlier: dict[Job, dict[str, float]] = {}
        self._unpriced: set[str] = set()

    def spending(self, limit: CostLimit, steps: Sequence[StepDescription]) -> Spending:
        """Return what the task has spent, by a new list of the steps."""
        now = clock.now()
        # The problems of the earlier lists are in the log already.
        self.jobs.problems.clear()
        own_steps = [step for step in steps if cost.is_own(limit, step)]
        known = self._store.read()
        jobs = cost.with_jobs_of(known, own_steps)
        if jobs != known:
            self._store.write(jobs)
        with self.jobs.in_time():
            earlier = self._cost_of_earlier_jobs(limit, jobs, own_steps, now)
            limit = limit.model_copy(update={"spent": limit.spent + earlier})
            estimate = partial(self._estimate, limit, own_steps, jobs, now)
            spending = estimate(again=set())
            if spending.is_over and self._uncertain:
                again = set(self._uncertain)
                spending = estimate(again=again)
        unpriced = set(spending.unpriced) - self._unpriced
        if unpriced:
            self._unpriced |= unpriced
            names = ", ".join(sorted(unpriced))
            self._warn(f"max_cost does not count {names}: hourly_prices has no price.")
        return spending

    def _cost_of_earlier_jobs(
        self,
        limit: CostLimit,
        jobs: StepJobs,
        steps: Sequence[StepDescription],
        now: datetime,
    ) -> float:
        """Return what the jobs have cost that AWS no longer lists: they have ended."""
        amount = 0.0
        for step, key in cost.earlier_jobs(jobs, steps):
            billed = self._earlier.get(key)
            if billed is None:
                described = self.jobs.read_job(step, key)
                job = described or self._read.get(key, (None, False))[0]
                if job is None:
                    # The note says so. It is described again at the next list.
                    continue
                self._read[key] = (job, True)
                billed = results.seconds_by_instance_type([(step, job)], now)
                # A job of any execution may get its warm pool.
                if not (described and described.keeps_instances):
                    self._earlier[key] = billed
            amount += limit.amount_of(billed)
        return amount

    def _estimate(
        self,
        limit: CostLimit,
        steps: Sequence[StepDescription],
        known: StepJobs,
        now: datetime,
        *,
        again: Collection[Job],
    ) -> Spending:
        """
        Estimate what the steps have cost.

        :param again: the jobs that are described again.
        """
        jobs = [(step, self._job_of(step, now, again)) for step in steps]
        return cost.estimate(limit, jobs, now, known)

    def _job_of(
        self, step: StepDescription, now: datetime, again: Collection[Job]
    ) -> JobDescription | None:
        key = results.job_of(step)
        if key is None or not key[0].description.is_counted:
            return None
        job, is_final = self._read.get(key, (None, False))
        if is_final and key not in again:
            return job
        step_has_ended = has_ended(step.status)
        keeps_instances = step_has_ended and job is not None and job.keeps_instances
        if job is None or keeps_instances or key in again:
            job = self._describe(step, key, now) or job
        if isinstance(job, results.TuningJob):
            job = self.jobs.with_training_jobs(step, key[1], job)
        is_final = step_has_ended and not (job and job.keeps_instances)
        self._read[key] = (job, is_final)
        return job

    def _describe(
        self, step: StepDescription, key: Job, now: datetime
    ) -> JobDescription | None:
        job = self.jobs.describe(step, *key)
        if job is None:
            return None
        self._uncertain.discard(key)
        if has_ended(step.status):
            return job
        if not job.started_at or results.SPOT_SAVINGS in job.uncounted:
            self._uncertain.add(key)
        return job.model_copy(update={"started_at": job.started_at or now})


def add_up(reader: JobReader, jobs: Sequence[JobOfStep], basis: Basis) -> CostAndUsage:
    """
    Return what an execution has used and cost. Whoever sees its end calls this, in the
    block of ``reader.in_time()`` in which the jobs were read. The notes of the reader
    say what could not be read.

    :param jobs: all steps, each with its job.
    """
    steps = [step for step, _ in jobs if not step.is_reused]
    earlier = [
        (step, reader.read_job(step, key))
        for step, key in cost.earlier_jobs(basis.step_jobs, steps)
    ]
    region = reader.hook.client_region
    if basis.limit:
        prices: HourlyPrices | None = HourlyPrices.of_limit(basis.limit, region)
    else:
        prices = _prices_of_deployment(reader.problems)
    added_up, note = cost.add_up(jobs, earlier, basis, prices, region, clock.now())
    if note:
        reader.problems.append(note)
    return added_up


def add_up_steps(
    hook: JobMethods,
    steps: Sequence[StepDescription] | PolysyncError,
    basis: Basis,
    warn: Callable[[str], object],
) -> tuple[CostAndUsage | None, tuple[str, ...]]:
    """
    Describe the jobs of an execution that has ended, and return what it has used and
    cost, with what is missing and why, as sentences.

    :param steps: the error if they cannot be listed.
    :param warn: called with a message about a call that fails.
    """
    if isinstance(steps, PolysyncError):
        return basis.last_estimate(), (steps_unknown(steps),)
    reader = JobReader(hook, warn)
    with reader.in_time():
        added_up = add_up(reader, reader.read(steps), basis)
    return added_up, reader.notes()


def steps_unknown(error: PolysyncError) -> str:
    """Return the note about steps that cannot be listed."""
    return f"The steps of the execution could not be listed: {error}"


def basis_of(
    record: ExecutionRecord | None, spending: object, limit: CostLimit | None
) -> Basis:
    """
    Return what a process knows of the money of an execution that it has not waited for.

    :param record: the record of the execution; None without a record.
    :param spending: the XCom ``spending`` of its task.
    :param limit: what the attempt may cost; None if that is not known but by the XCom.
    """
    last = Spending.or_none(spending)
    jobs = record.step_jobs if record else None
    if limit or last is None:
        return Basis(limit, jobs or {}, last)
    problems: list[str] = []
    table = _prices_of_deployment(problems)
    if record and table and table.currency == last.currency:
        limit = record.limit_of_attempt(
            CostLimit(
                max_cost=last.max_cost,
                currency=table.currency,
                prices_date=table.date,
                prices=table.prices.get(record.region_name, {}),
            )
        )
    return Basis(limit, jobs or {}, last)


def _prices_of_deployment(problems: list[str]) -> HourlyPrices | None:
    try:
        return read_prices()
    except (OSError, ValueError) as error:
        problems.append(
            f"The cost is not known: [{CONFIG_SECTION}] hourly_prices: {error}."
        )
        return None
