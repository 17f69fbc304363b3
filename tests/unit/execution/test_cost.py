"""What a task with ``max_cost`` has spent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.execution.cost import (
    Basis,
    add_up,
    earlier_jobs,
    estimate,
    is_own,
    merged_jobs,
    with_all_attempts,
    with_jobs_of,
)
from polysync_airflow.execution.lifecycle.instructions import MAX_JOBS_OF_STEP
from polysync_airflow.execution.models import MAX_STEP_ROWS
from polysync_airflow.execution.prices import (
    CostAndUsage,
    CostLimit,
    HourlyPrices,
    Spending,
)
from polysync_airflow.execution.results import TRAINING, TrainingJob
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


REGION = "eu-west-1"
PRICES = HourlyPrices.of_limit(LIMIT, REGION)
KEPT = step_of("Kept", EndTime=NOW - timedelta(hours=3))
RAN = step_of("Ran", EndTime=NOW - timedelta(hours=1), AttemptCount=2)
# Two instances ran for half an hour, for an hour, and in the first attempt of the step.
JOBS: list[Any] = [
    (KEPT, job_of(3.5)),
    (RAN, job_of(2)),
    (step_of("Reused", **REUSED), job_of(9)),
]
EARLIER: list[Any] = [(RAN, job_of(3))]
RAN_JOBS = {"Ran": ("training-job/Ran-1", "training-job/Ran")}


def ended(basis: Basis, jobs: Any = JOBS, earlier: Any = EARLIER) -> CostAndUsage:
    """Add up what an execution has cost that has ended."""
    added_up, note = add_up(jobs, earlier, basis, PRICES, REGION, NOW)
    assert note is None
    assert added_up.added_up_at in (NOW, getattr(basis.last, "at", None))
    return added_up


def test_end_has_all_jobs_of_the_execution_but_reused_ones() -> None:
    """Also those that AWS no longer lists."""
    added_up = ended(Basis(step_jobs=RAN_JOBS))
    unknown = ended(Basis(), earlier=[])

    assert added_up.billable_seconds_by_instance_type == {"ml.a": 7 * 3600}
    assert added_up.billable_seconds == 7 * 3600
    assert added_up.spending is None
    assert added_up.cost
    assert (added_up.cost.amount, added_up.cost.note) == (84, None)
    assert unknown.cost
    assert unknown.cost.amount == 36
    assert unknown.cost.note == "Not counted: earlier attempts (Ran)."


def test_end_without_prices_and_without_jobs() -> None:
    """The time is known without prices. Instances of a type may have none."""
    unpriced, _ = add_up(JOBS, [], Basis(), None, REGION, NOW)
    other = [(RAN, job_of(2, "ml.b")), *JOBS[:1]]

    _, note = add_up(other, [], Basis(), PRICES, REGION, NOW)

    assert note == f"The cost lacks ml.b: hourly_prices has no price in {REGION}."
    assert (unpriced.cost, unpriced.billable_seconds) == (None, 3 * 3600)
    nothing = ended(Basis(), [(RAN, None)], [])
    assert nothing == CostAndUsage(added_up_at=NOW)
    assert ended(Basis(), [(RAN, None)]).billable_seconds == 4 * 3600


def spent(amount: float, note: str | None = None) -> Spending:
    """Return what the wait has estimated last."""
    limit = LIMIT.model_copy(update={"spent": amount})
    spending = estimate(limit, [], NOW - timedelta(minutes=1), {})
    return spending.model_copy(update={"note": note})


LACKING: list[Any] = [*JOBS[:1], (RAN, None)]


@pytest.mark.parametrize(
    ("jobs", "earlier", "last", "amount"),
    [
        # Of the own attempt: 5 were spent, 48 by the first job of the step, 24 by its
        # last one.
        (JOBS, EARLIER, None, 77),
        (JOBS, EARLIER, 99, 77),
        (LACKING, EARLIER, None, 53),
        (LACKING, EARLIER, 53, 53),
        (JOBS, [(RAN, None)], 28, 29),
    ],
)
def test_end_has_what_was_spent(
    jobs: Any, earlier: Any, last: float | None, amount: float
) -> None:
    """By the limit of the attempt, which has what was spent before."""
    estimated = None if last is None else spent(last)
    added_up = ended(Basis(LIMIT, RAN_JOBS, estimated), jobs, earlier)

    assert added_up.billable_seconds
    assert added_up.spending
    assert (added_up.spending.at, added_up.spending.amount) == (NOW, amount)


@pytest.mark.parametrize(
    ("limit", "jobs", "earlier"),
    [
        (LIMIT, LACKING, EARLIER),
        (LIMIT, JOBS, [(RAN, None)]),
        # Its prices have gone.
        (None, JOBS, EARLIER),
    ],
)
def test_end_has_a_higher_last_estimate_if_jobs_or_the_limit_are_missing(
    limit: Any, jobs: Any, earlier: Any
) -> None:
    """With its time, and a note in place of the billable time."""
    last = spent(53.1, note="Not counted: a.")

    added_up = ended(Basis(limit, RAN_JOBS, last), jobs, earlier)

    note = (
        "This is the last estimate, of 11:59:00 UTC: what was spent until the end is"
        " not known. Not counted: a."
    )
    spending = last.model_copy(update={"note": note})
    assert added_up == CostAndUsage(added_up_at=last.at, spending=spending)


def test_what_runs_counts_until_now_and_earlier_jobs_of_its_step_with_it() -> None:
    """Attempts before a resume are in what was spent before, so no note names them."""
    step = step_of("Train", AttemptCount=2)
    unlimited = LIMIT.model_copy(update={"since": None})
    jobs = [(step, job_of(1))]

    added_up = ended(Basis(LIMIT), jobs, [(step, job_of(2))])
    other = ended(Basis(unlimited), jobs, [])

    assert added_up.billable_seconds == 6 * 3600
    assert added_up.spending
    assert (added_up.spending.amount, added_up.spending.note) == (77, None)
    assert other.spending
    assert other.spending.note == "Not counted: earlier attempts (Train)."
    # One that AWS lists without a number of attempts has had one.
    once = step_of("Train")
    assert with_all_attempts({}, [once]) == []
    assert with_all_attempts({"Train": ("training-job/Train",)}, [once]) == ["Train"]


def test_nothing_is_the_last_estimate_of_a_wait_without_one() -> None:
    """As of a task that was marked before the first list of its steps."""
    assert Basis().last_estimate() is None


def test_jobs_of_steps_are_kept_from_list_to_list() -> None:
    """Only of kinds that are counted, with valid names, and up to a bound."""
    package = {"RegisterModel": {"Arn": "arn:aws:sagemaker:x:1:model-package/a/1"}}
    steps = [
        step_of("Train"),
        step_of("Kept"),
        step_of("Bad name\n"),
        step_of("Register", Metadata=package),
    ]
    known = {"Train": ("training-job/Old",), "Kept": ("training-job/Kept",)}
    full = {"Train": tuple(f"training-job/{n}" for n in range(MAX_JOBS_OF_STEP))}
    many = {str(n): ("training-job/a",) for n in range(MAX_STEP_ROWS)}

    assert with_jobs_of({}, steps[:1]) == {"Train": ("training-job/Train",)}
    assert with_jobs_of(known, steps) == {
        "Train": ("training-job/Old", "training-job/Train"),
        "Kept": ("training-job/Kept",),
    }
    assert with_jobs_of(full, steps[:1]) == full
    assert with_jobs_of(many, steps) == many


def test_jobs_that_two_processes_have_seen_are_merged() -> None:
    """In their order, and the newest ones if there are too many."""
    first = {"A": ("t/1", "t/2"), "B": ("t/3",)}
    many = {"A": tuple(f"t/{n}" for n in range(3, MAX_JOBS_OF_STEP + 2))}

    merged = merged_jobs(first, {"A": ("t/2", "t/4"), "C": ("t/5",)})

    assert merged == {"A": ("t/1", "t/2", "t/4"), "B": ("t/3",), "C": ("t/5",)}
    assert merged_jobs(first, many)["A"] == ("t/2", *many["A"])


def test_earlier_jobs_are_those_that_aws_no_longer_lists() -> None:
    """Of a kind that this version counts."""
    train = step_of("Train")
    jobs = ("training-job/Old/1", "new-job/a", "training-job/Train")

    earlier = earlier_jobs({"Train": jobs}, [step_of("Other"), train])

    assert [*earlier] == [(train, (TRAINING, "Old/1"))]
