"""What a task with ``max_cost`` has spent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.execution.cost import estimate, is_own
from polysync_airflow.execution.prices import CostLimit, Spending
from polysync_airflow.execution.results import TrainingJob
from polysync_airflow.execution.steps.descriptions import StepDescription

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMIT = CostLimit(
    max_cost=30,
    currency="EUR",
    prices_date=date(2026, 1, 1),
    prices={"ml.a": 12},
    spent=5,
    since=NOW - timedelta(hours=2),
)
REUSED = {"SelectiveExecutionResult": {"SourcePipelineExecutionArn": "arn:x/y"}}


def step_of(name: str, **members: Any) -> StepDescription:
    """Return a step of AWS's list."""
    metadata = {"TrainingJob": {"Arn": f"arn:aws:sagemaker:x:1:training-job/{name}"}}
    step = {"StepName": name, "Metadata": metadata, **members}
    return StepDescription.model_validate(step)


def job_of(hours: float, instance_type: str = "ml.a") -> TrainingJob:
    """Return a job that has begun some hours ago."""
    return TrainingJob.model_validate(
        {
            "TrainingStartTime": NOW - timedelta(hours=hours),
            "ResourceConfig": {"InstanceType": instance_type, "InstanceCount": 2},
        }
    )


def test_steps_before_the_attempt_and_reused_ones_do_not_count() -> None:
    """What ended before is in ``spent``."""
    for members, expected in (
        ({}, True),
        ({"EndTime": NOW}, True),
        ({"EndTime": NOW - timedelta(hours=2)}, True),
        ({"EndTime": NOW - timedelta(hours=3)}, False),
        ({"CacheHitResult": {"SourcePipelineExecutionArn": "arn:x/y"}}, False),
        (REUSED, False),
    ):
        assert is_own(LIMIT, step_of("Train", **members)) is expected


def test_estimate_has_ended_and_running_jobs() -> None:
    """With the rate of what runs, the dearest step, and what is not counted."""
    ended = step_of("Ended", StepStatus="Succeeded", EndTime=NOW - timedelta(hours=1))
    running = step_of("Running", StepStatus="Executing")
    other = step_of("Other", StepStatus="Executing")
    function = StepDescription.model_validate(
        {"StepName": "Notify", "Metadata": {"Lambda": {"Arn": "arn:x"}}}
    )
    jobs = [
        (ended, job_of(1.5)),
        (running, job_of(1.11111)),
        (other, job_of(1, "ml.b")),
        (function, None),
    ]

    spending = estimate(LIMIT, jobs, NOW, {})

    assert spending == Spending(
        at=NOW,
        amount=43.6667,
        max_cost=30,
        currency="EUR",
        prices_date=date(2026, 1, 1),
        spent_before=5,
        per_hour=24,
        dearest_step="Running",
        dearest_amount=26.6667,
        unpriced=("ml.b",),
        note="Not counted: Lambda functions (Notify).",
    )
    assert spending.text == (
        "An estimated 43.67 EUR are spent, of max_cost = 30.00, as of 12:00:00 UTC, by"
        " prices of 2026-01-01. 5.00 of it were spent by earlier attempts."
        " Dearest step: Running (26.67)."
        " Without a price: ml.b. Not counted: Lambda functions (Notify)."
    )


def test_limit_is_reached_with_its_last_cent() -> None:
    """Not before."""
    job = job_of(1, "ml.c")
    limit = LIMIT.model_copy(update={"prices": {"ml.c": 12.49996}})
    step = step_of("Train", StepStatus="Executing")

    spending = estimate(limit, [(step, job)], NOW, {})

    assert (spending.amount, spending.per_hour) == (29.9999, 24.9999)
    assert not spending.is_over
    assert estimate(limit, [(step, job)], NOW + timedelta(seconds=1), {}).is_over


@pytest.mark.parametrize("jobs", [[], [(step_of("Other"), job_of(1, "ml.b"))]])
def test_no_step_is_the_dearest_if_none_costs_anything(jobs: list[Any]) -> None:
    """What was spent before counts."""
    spending = estimate(LIMIT, jobs, NOW, {})

    assert (spending.amount, spending.dearest_step) == (5, None)
    assert spending.dearest_amount == 0
