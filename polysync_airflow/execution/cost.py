"""
What a task with ``max_cost`` has spent, by what AWS says of its steps and their jobs.

What counts is an attempt's own work: not what an earlier execution has made, and not
steps that ended before this attempt, which ``CostLimit.spent`` has. If AWS repeats a
step by its retry policy, it lists only the last job. So the record of the execution has
the names of all (``ExecutionRecord.step_jobs``): a trigger that moves, a retry, and
whoever comes after a process that has died, count the same. An XCom would not do, as
Airflow deletes those of a task when its next try begins.

The figure itself is in the XComs: in ``spending`` while the task waits, and in ``run``
since whoever has seen the end of the execution has added up. A record is no place for
it: a task that succeeds deletes its own, and people read XComs.

Everything here is pure; ``hooks/spending.py`` reads the jobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter

from polysync_airflow.execution import models, results
from polysync_airflow.execution.lifecycle.instructions import (
    MAX_JOBS_OF_STEP,
    StepJob,
    StepJobs,
)
from polysync_airflow.execution.parameters import DEFER_BUILD, is_valid
from polysync_airflow.execution.prices import (
    CostAndUsage,
    CostLimit,
    HourlyPrices,
    Spending,
)
from polysync_airflow.execution.results import (
    JobKind,
    JobOfStep,
    seconds_by_instance_type,
)
from polysync_airflow.execution.steps.descriptions import StepDescription


def is_own(limit: CostLimit, step: StepDescription) -> bool:
    """Return whether a step belongs to the attempt whose cost is estimated."""
    if step.is_reused:
        return False
    if limit.since is None or step.ended_at is None:
        return True
    return step.ended_at >= limit.since


_STEP_AND_JOB: Final[TypeAdapter[tuple[str, str]]] = TypeAdapter(
    tuple[models.StepName, StepJob], config=DEFER_BUILD
)
_KINDS: Final[Mapping[str, JobKind]] = {
    kind.resource: kind
    for kind in results.JOB_KINDS.values()
    if kind.description.is_counted
}


def _job_of(step: StepDescription) -> str | None:
    key = results.job_of(step)
    if key is None:
        return None
    kind, name = key
    job = f"{kind.resource}/{name}"
    if kind.resource in _KINDS and is_valid(_STEP_AND_JOB, (step.name, job)):
        return job
    return None


def with_jobs_of(known: StepJobs, steps: Sequence[StepDescription]) -> StepJobs:
    """
    Return the jobs that the steps have had, now that AWS has listed them again.

    :param known: the jobs that the earlier lists had.
    """
    jobs = dict(known)
    for step in steps:
        job = _job_of(step)
        of_step = jobs.get(step.name, ())
        has_room = len(of_step) < MAX_JOBS_OF_STEP and len(jobs) < models.MAX_STEP_ROWS
        if job and job not in of_step and has_room:
            jobs[step.name] = (*of_step, job)
    return jobs


def merged_jobs(first: StepJobs, second: StepJobs) -> StepJobs:
    """Return what two processes have seen, the jobs of the second one last."""
    jobs = dict(first)
    for name, of_step in second.items():
        earlier = [job for job in jobs.get(name, ()) if job not in of_step]
        jobs[name] = (*earlier, *of_step)[-MAX_JOBS_OF_STEP:]
    return jobs


def earlier_jobs(
    known: StepJobs, steps: Sequence[StepDescription]
) -> Iterator[tuple[StepDescription, tuple[JobKind, str]]]:
    """Yield the jobs that AWS no longer lists, as ``job_of`` returns them."""
    for step in steps:
        last = _job_of(step)
        for job in known.get(step.name, ()):
            resource, _, name = job.partition("/")
            kind = _KINDS.get(resource)
            if kind and job != last:
                yield step, (kind, name)


def with_all_attempts(known: StepJobs, steps: Sequence[StepDescription]) -> list[str]:
    """Return the names of the steps of which all jobs are known."""
    return [
        step.name
        for step in steps
        if len(known.get(step.name, ())) >= (step.attempt_count or 1)
    ]


def estimate(
    limit: CostLimit, jobs: Sequence[JobOfStep], now: datetime, known: StepJobs
) -> Spending:
    """
    Return what was spent, and what an hour costs from now on.

    :param jobs: the steps that ``is_own``, each with its job.
    :param known: the jobs that they have had.
    """
    steps = [step for step, _ in jobs]
    billed = seconds_by_instance_type(jobs, now)
    amount = limit.amount_of(billed)
    # What is still running costs more in an hour than now.
    in_an_hour = seconds_by_instance_type(jobs, now + timedelta(hours=1))
    dearest_step: str | None = None
    dearest_amount = 0.0
    for step, job in jobs:
        step_amount = limit.amount_of(seconds_by_instance_type([(step, job)], now))
        if step_amount > dearest_amount:
            dearest_step = step.name
            dearest_amount = step_amount
    counted = with_all_attempts(known, steps)
    if limit.since:
        # Earlier attempts, which were before a resume, are in ``spent``.
        counted = [step.name for step in steps]
    return Spending(
        at=now,
        amount=round(limit.spent + amount, 4),
        max_cost=limit.max_cost,
        currency=limit.currency,
        prices_date=limit.prices_date,
        spent_before=limit.spent,
        per_hour=round(limit.amount_of(in_an_hour) - amount, 4),
        dearest_step=dearest_step,
        dearest_amount=round(dearest_amount, 4),
        unpriced=tuple(sorted(in_an_hour.keys() - limit.prices.keys())),
        note=results.uncounted(jobs, counted),
    )


# ---- the end


@dataclass(frozen=True)
class Basis:
    """
    What a process that sees the end of an execution knows of its money.

    :param limit: what the attempt may cost; None without ``max_cost``.
    :param step_jobs: the jobs that its steps have had, as its record says.
    :param last: the last estimate of the wait; None if the wait made no estimate.
    """

    limit: CostLimit | None = None
    step_jobs: StepJobs = field(default_factory=dict)
    last: Spending | None = None

    def last_estimate(self) -> CostAndUsage | None:
        """
        Return what is known where AWS does not say what all jobs used, or the limit and
        its prices have gone; None if nothing is.

        An execution costs no less later than earlier, but for spot instances.
        """
        if self.last is None:
            return None
        note = (
            f"This is the last estimate, of {self.last.at:%H:%M:%S} UTC: what was spent"
            " until the end is not known."
        )
        note = " ".join(filter(None, (note, self.last.note)))
        spending = self.last.model_copy(update={"note": note})
        return CostAndUsage(added_up_at=self.last.at, spending=spending)


def add_up(
    jobs: Sequence[JobOfStep],
    earlier: Sequence[JobOfStep],
    basis: Basis,
    prices: HourlyPrices | None,
    region: str,
    now: datetime,
) -> tuple[CostAndUsage, str | None]:
    """
    Return what an execution has used and cost, and a sentence about the prices that are
    missing.

    :param jobs: all steps, each with its job.
    :param earlier: the ``earlier_jobs``, each with its step.
    :param prices: None if the deployment has none.
    """
    own = [(step, job) for step, job in jobs if not step.is_reused]
    added_up = CostAndUsage(added_up_at=now)
    note = None
    if any(job for _, job in (*jobs, *earlier)):
        billed = seconds_by_instance_type([*own, *earlier], now)
        cost = None
        if prices:
            counted = with_all_attempts(basis.step_jobs, [step for step, _ in own])
            uncounted = results.uncounted(own, counted)
            cost, note = prices.cost_of(billed, region, uncounted)
        added_up = CostAndUsage.of(billed, cost, now)
    if basis.limit is None:
        return basis.last_estimate() or added_up, note
    spending = _spending_at_end(basis.limit, own, earlier, basis.step_jobs, now)
    last = basis.last
    if last and last.amount > spending.amount and _lacks_jobs(own, earlier):
        return basis.last_estimate() or added_up, note
    return added_up.model_copy(update={"spending": spending}), note


def _spending_at_end(
    limit: CostLimit,
    own: Sequence[JobOfStep],
    earlier: Sequence[JobOfStep],
    known: StepJobs,
    now: datetime,
) -> Spending:
    before = limit.amount_of(seconds_by_instance_type(earlier, now))
    limit = limit.model_copy(update={"spent": limit.spent + before})
    jobs = [(step, job) for step, job in own if is_own(limit, step)]
    return estimate(limit, jobs, now, known)


def _lacks_jobs(own: Sequence[JobOfStep], earlier: Sequence[JobOfStep]) -> bool:
    if any(job is None for _, job in earlier):
        return True
    return any(job is None and _job_of(step) for step, job in own)
