"""
What a task with ``max_cost`` has spent, by what AWS says of its steps and their jobs.

What counts is an attempt's own work: not what an earlier execution has made, and not
steps that ended before this attempt, which ``CostLimit.spent`` has.

Everything here is pure; ``hooks/spending.py`` reads the jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from polysync_airflow.execution import results
from polysync_airflow.execution.prices import CostLimit, Spending
from polysync_airflow.execution.results import JobOfStep, seconds_by_instance_type
from polysync_airflow.execution.steps.descriptions import StepDescription


def is_own(limit: CostLimit, step: StepDescription) -> bool:
    """Return whether a step belongs to the attempt whose cost is estimated."""
    if step.is_reused:
        return False
    if limit.since is None or step.ended_at is None:
        return True
    return step.ended_at >= limit.since


def estimate(limit: CostLimit, jobs: Sequence[JobOfStep], now: datetime) -> Spending:
    """
    Return what was spent, and what an hour costs from now on.

    :param jobs: the steps that ``is_own``, each with its job.
    """
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
        note=results.uncounted(jobs),
    )
