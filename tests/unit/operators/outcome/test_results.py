"""
What the jobs of steps have made and used, in both modes: each kind of step, and all
that can be missing.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from polysync_airflow.aws.rate_limiter import MAX_RATE, rate_limiter_for
from polysync_airflow.execution.results import JOB_KINDS, LIST_TRAINING_JOBS
from polysync_airflow.hooks import jobs
from tests.conftest import IN_BOTH_MODES
from tests.fakes.fake_sagemaker import Body
from tests.tasks import EmulatedTime
from tests.unit.operators.outcome.ended_account import (
    ACCOUNT,
    KINDS,
    OTHERS,
    PACKAGE,
    Account,
    error,
    start,
)


@IN_BOTH_MODES
def test_each_job_is_described_once_for_outputs(deferrable: bool, aws: Account) -> None:
    """
    Each job is described once; outputs has what AWS says of it, and run the seconds
    that AWS bills.
    """
    for kind in KINDS:
        aws.add(kind)
    aws.add("TrainingJob", "Again")
    aws.steps += [
        {"StepName": kind, "Metadata": {kind: metadata}}
        for kind, metadata in OTHERS.items()
    ]

    run = start(deferrable)

    assert run.error is None
    assert KINDS.keys() == JOB_KINDS.keys()
    outputs = run.xcoms["outputs"]
    for kind, (arn, _, expected) in KINDS.items():
        assert arn in outputs[kind].values()
        assert {
            n: v for n, v in outputs[kind].items() if not n.endswith("_arn")
        } == expected, kind
    assert outputs["Again"] == outputs["TrainingJob"]
    assert outputs["Model"] == {"model_arn": f"{ACCOUNT}:model/m"}
    assert outputs["Condition"] == {"outcome": "True"}
    jobs_by_name = "train tune tune-003 prepare quality clarify score auto churn"
    others = [PACKAGE, LIST_TRAINING_JOBS, LIST_TRAINING_JOBS]
    assert Counter(aws.asked) == Counter([*jobs_by_name.split(), *others])
    record = run.xcoms["run"]
    assert record["billable_seconds_by_instance_type"] == {
        "ml.g5.xlarge": 2 * (100 + 200 + 300),
        "ml.m5.large": 3 * 2 * 90.5 + 60,
        "ml.p3.2xlarge": 2 * 2 * 300,
    }
    assert record["billable_seconds"] == 1200 + 3 * 2 * 90.5 + 60 + 2 * 2 * 300
    assert record["steps_note"] is None


PRICES = {
    "currency": "USD",
    "date": "2026-11-01",
    "prices": {"us-east-1": {"ml.m5.large": 0.1}},
}


@pytest.mark.parametrize("is_file", [False, True], ids=["option", "file"])
def test_cost_follows_from_the_price_table_of_the_deployment(
    is_file: bool,
    deferrable: bool,
    aws: Account,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """By the table of the deployment. What it lacks is named, and fails no task."""
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    setting = str(tmp_path / "prices.json") if is_file else json.dumps(PRICES)
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", setting)
    aws.add("TrainingJob")
    aws.add("ProcessingJob")
    aws.steps.append({"StepName": "Notify", "Metadata": {"Lambda": OTHERS["Lambda"]}})
    unpriced = "The cost lacks ml.p3.2xlarge: hourly_prices has no price in us-east-1."

    run = start(deferrable)

    record = run.xcoms["run"]
    seconds = record["billable_seconds_by_instance_type"]
    amount = round(seconds["ml.m5.large"] / 36_000, 4)
    assert record["cost"] == {
        "amount": amount,
        "currency": "USD",
        "prices_date": "2026-11-01",
        "note": f"{unpriced} Not counted: Lambda functions (Notify).",
    }
    assert record["steps_note"] == unpriced


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ('{"currency": "USD"}', "date: Field required; prices: Field required."),
        ("/no/such/file", "[Errno 2] No such file or directory: '/no/such/file'."),
    ],
)
def test_prices_that_cannot_be_read(
    setting: str, problem: str, aws: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fail no task; a note names the option."""
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", setting)
    aws.add("TrainingJob")

    run = start(deferrable=False)

    assert run.error is None
    assert run.xcoms["run"]["cost"] is None
    note = f"The cost is not known: [polysync_sagemaker] hourly_prices: {problem}"
    assert run.xcoms["run"]["steps_note"] == note


def test_denied_action_is_asked_once(deferrable: bool, aws: Account) -> None:
    """One note names all missing actions; the jobs of other kinds are described."""
    for number in range(3):
        aws.add("TrainingJob", f"Train{number}")
        aws.steps[-1]["Metadata"]["TrainingJob"]["Arn"] += str(number)
    aws.add("ProcessingJob")
    aws.add("TuningJob")
    denied = error("AccessDeniedException")
    aws.errors = {"DescribeTrainingJob": denied, LIST_TRAINING_JOBS: denied}

    run = start(deferrable)

    assert run.error is None
    assert aws.asked == ["train0", "prepare", "tune", LIST_TRAINING_JOBS]
    outputs = run.xcoms["outputs"]
    assert outputs["Train1"] == {"training_job_arn": KINDS["TrainingJob"][0] + "1"}
    assert outputs["ProcessingJob"]["seconds"] == 90.5
    assert run.xcoms["run"]["steps_note"] == (
        "What jobs say of themselves, such as their billable time, is not known: allow"
        f" sagemaker:DescribeTrainingJob, sagemaker:{LIST_TRAINING_JOBS} in the IAM"
        " policy of the identity."
    )


@pytest.mark.parametrize(
    "response",
    [
        error("ValidationException"),
        Body(b'{"ResourceConfig": [1]}'),
        Body(b"<html>"),
        Body(b"[]"),
    ],
    ids=["not found", "another type", "proxy", "list"],
)
def test_failed_description_does_not_hide_the_others(
    deferrable: bool, response: Body, aws: Account
) -> None:
    """The note names the step and its job."""
    aws.add("TrainingJob")
    aws.add("TransformJob")
    aws.errors["train"] = response

    run = start(deferrable)

    assert run.error is None
    assert run.xcoms["outputs"]["TransformJob"]["output_uri"] == "s3://ml-bucket/scores"
    note = run.xcoms["run"]["steps_note"]
    assert note.startswith(
        "The job train of step TrainingJob could not be described: DescribeTrainingJob fail"
    )
    assert run.xcoms["run"]["billable_seconds"] == 60


def test_throttled_descriptions_are_spread_and_end_in_time(
    aws: Account, emulated_time: EmulatedTime
) -> None:
    """
    Each throttling halves the rate of the process; a throttling that lasts costs no
    more than the limit.
    """
    for number in range(20):
        aws.add("TrainingJob", f"Train{number}")
        aws.steps[-1]["Metadata"]["TrainingJob"]["Arn"] += str(number)
    aws.errors["DescribeTrainingJob"] = error("ThrottlingException")
    aws.add("TransformJob")

    before = emulated_time.time()
    limiter = rate_limiter_for(
        ("polysync_default", "us-east-1"), emulated_time.monotonic()
    )
    run = start(False)

    assert run.error is None
    assert limiter.rate < MAX_RATE / 4
    assert (
        jobs.TIMEOUT_SECONDS - 30
        < emulated_time.time() - before
        < jobs.TIMEOUT_SECONDS + 60
    )
    assert len(aws.asked) < 60
    note = run.xcoms["run"]["steps_note"]
    assert (
        "The job train0 of step Train0 could not be described: DescribeTrainingJob failed: Throttl"
        in note
    )
    assert "calls about jobs were not made within 120 s." in note
