"""How often the jobs of an execution are described while its task waits."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution import clock, results
from polysync_airflow.execution.prices import CostLimit
from polysync_airflow.execution.results import JobKind, TrainingJob
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.spending import SpendingReader, StepJobStore
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step
from tests.tasks import EmulatedTime
from tests.unit.events.conftest import client

pytestmark = pytest.mark.usefixtures("emulator")

# An instance costs 1 a second.
LIMIT = CostLimit(
    max_cost=1000,
    currency="USD",
    prices_date=date(2026, 1, 1),
    prices={"ml.m5.xlarge": 3600},
)

REPEATED = {
    "ExceptionType": ["SageMaker.CAPACITY_ERROR"],
    "IntervalSeconds": 120,
    "MaxAttempts": 3,
}


class FakeHook(PolysyncSageMakerHook):
    """
    Describes one training job, and counts how often.

    :param starts_at: when the job starts.
    :param described: what else the description has after the start.
    """

    def __init__(self, starts_at: float, **described: Any) -> None:
        super().__init__()
        self.starts_at = starts_at
        self.described = described
        self.gone = ""
        self.calls = 0

    def describe_job(self, kind: JobKind, name: str) -> TrainingJob:
        """Describe the job."""
        self.calls += 1
        if name == self.gone:
            raise SageMakerApiError(
                "no", error_code="Gone", operation="Describe", permanent=True
            )
        response: dict[str, Any] = {
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1}
        }
        if clock.time() >= self.starts_at:
            started_at = datetime.fromtimestamp(self.starts_at, UTC)
            response |= {"TrainingStartTime": started_at, **self.described}
        return TrainingJob.model_validate(response)


def reader_of(hook: PolysyncSageMakerHook) -> SpendingReader:
    """Return a reader that has seen no job."""
    return SpendingReader(hook, print, StepJobStore())


def step_of(status: str, job: str = "train", **members: Any) -> StepDescription:
    """Return the step of the training job."""
    metadata = {"TrainingJob": {"Arn": f"arn:aws:sagemaker:x:1:training-job/{job}"}}
    return StepDescription.model_validate(
        {"StepName": "Train", "StepStatus": status, "Metadata": metadata, **members}
    )


def test_job_is_described_once_and_counts_until_its_step_has_ended(
    emulated_time: EmulatedTime,
) -> None:
    """However long it runs."""
    hook = FakeHook(clock.time() - 10)
    reader = reader_of(hook)
    amounts = []
    for _ in range(5):
        amounts.append(reader.spending(LIMIT, [step_of("Executing")]).amount)
        emulated_time.sleep(60)
    ended = step_of("Succeeded", EndTime=clock.now())
    emulated_time.sleep(60)

    amounts.append(reader.spending(LIMIT, [ended]).amount)

    assert [round(amount) for amount in amounts] == [10, 70, 130, 190, 250, 310]
    assert hook.calls == 1


def test_job_that_has_not_started_is_described_again_before_a_stop(
    emulated_time: EmulatedTime,
) -> None:
    """Until then it counts from when it was described. A guess stops no execution."""
    hook = FakeHook(clock.time() + 1500)
    reader = reader_of(hook)
    amounts = []
    for _ in range(6):
        amounts.append(reader.spending(LIMIT, [step_of("Executing")]).amount)
        emulated_time.sleep(600)

    # At 1,200 s, AWS says that it has not started; at 2,400 s, when it has.
    assert [round(amount) for amount in amounts] == [0, 600, 0, 600, 900, 1500]
    assert hook.calls == 3


def test_spot_instances_are_described_again_before_a_stop(
    emulated_time: EmulatedTime,
) -> None:
    """AWS says after their end what they have saved."""
    hook = FakeHook(clock.time(), EnableManagedSpotTraining=True)
    reader = reader_of(hook)
    reader.spending(LIMIT, [step_of("Executing")])
    emulated_time.sleep(1200)
    hook.described |= {"TrainingEndTime": clock.now(), "BillableTimeInSeconds": 300}
    ended = step_of("Succeeded", EndTime=clock.now())

    spending = [reader.spending(LIMIT, [ended]) for _ in range(2)]

    assert [each.amount for each in spending] == [300, 300]
    assert hook.calls == 2


def test_job_that_cannot_be_described_again_counts_as_before(
    emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The execution is stopped then. Problems of earlier lists are not kept."""
    hook = FakeHook(clock.time() + 1_000_000)
    reader = reader_of(hook)
    reader.spending(LIMIT, [step_of("Executing")])
    emulated_time.sleep(1200)
    gone = SageMakerApiError(
        "no", error_code="ValidationException", operation="Describe", permanent=True
    )
    monkeypatch.setattr(hook, "describe_job", Mock(side_effect=gone))

    for _ in range(3):
        assert reader.spending(LIMIT, [step_of("Executing")]).amount == 1200
    assert len(reader.jobs.problems) == 1


def test_repeated_job_that_cannot_be_described_again_counts_as_seen(
    emulated_time: EmulatedTime,
) -> None:
    """Of a step that AWS repeats, it lists the last job only."""
    hook = FakeHook(clock.time())
    reader = reader_of(hook)
    reader.spending(LIMIT, [step_of("Executing", "first")])
    emulated_time.sleep(100)
    hook.starts_at = clock.time()
    hook.gone = "first"
    reader.spending(LIMIT, [step_of("Executing", "second")])
    emulated_time.sleep(50)

    spending = reader.spending(LIMIT, [step_of("Executing", "second")])

    assert (spending.amount, spending.spent_before) == (150, 100)


def test_instance_without_a_price_is_named_once(emulated_time: EmulatedTime) -> None:
    """It may cost any amount."""
    lines: list[str] = []
    reader = SpendingReader(FakeHook(clock.time() - 10), lines.append, StepJobStore())
    limit = LIMIT.model_copy(update={"prices": {"ml.other": 1.0}})

    for _ in range(3):
        assert reader.spending(limit, [step_of("Executing")]).amount == 0

    text = "max_cost does not count ml.m5.xlarge: hourly_prices has no price."
    assert lines == [text]


def test_training_jobs_of_a_tuning_job_are_listed_until_it_has_ended(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The tuning job itself is described once."""
    sagemaker: Any = client(emulator, "sagemaker")
    emulator.control.put_scenario({"steps": {"ChurnTune": {"duration": 1000}}})
    started = sagemaker.start_pipeline_execution(PipelineName="churn-tuning")
    arn = started["PipelineExecutionArn"]
    hook = PolysyncSageMakerHook()
    reader = reader_of(hook)
    limit = LIMIT.model_copy(update={"max_cost": 1_000_000})
    amounts = []
    for seconds in [*[60] * 20, 3600, 60, 60]:
        steps = hook.list_pipeline_execution_steps(arn)
        amounts.append(reader.spending(limit, steps).amount)
        emulated_time.sleep(seconds)

    calls = Counter(call["operation"] for call in emulator.control.calls())
    assert amounts == sorted(amounts)
    assert amounts[0] == 0
    assert len(set(amounts)) > 15
    assert amounts[-1] == amounts[-2]
    assert calls["DescribeHyperParameterTuningJob"] == 1
    assert 0 < calls[results.LIST_TRAINING_JOBS] < 20


def test_warm_pool_counts_once_until_another_job_has_it_or_aws_ends_it(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The sum is what AWS bills, also of a job that it has repeated. Each job is described
    until its pool is gone.
    """
    sagemaker: Any = client(emulator, "sagemaker")
    # Without a reason, it has all types, and leaves a healthy cluster.
    fails = {"times": 1}
    emulator.control.put_scenario(
        {"steps": {"First": {}, "Second": {"duration": 600, "fail": fails}}}
    )
    instances = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1}
    kept = {**instances, "VolumeSizeInGB": 30, "KeepAlivePeriodInSeconds": 900}
    members = {"Arguments": {"ResourceConfig": kept}, "RetryPolicies": [REPEATED]}
    first = step("First", "Training", **members)
    second = step("Second", "Training", "First", **members)
    sagemaker.create_pipeline(
        PipelineName="warm",
        PipelineDefinition=definition(first, second),
        RoleArn=ROLE,
    )
    started = sagemaker.start_pipeline_execution(PipelineName="warm")
    hook = PolysyncSageMakerHook()
    store = StepJobStore()
    reader = SpendingReader(hook, print, store)
    limit = LIMIT.model_copy(update={"max_cost": 1_000_000})
    spent = []
    for seconds in [10] * 10 + [100] * 34:
        steps = hook.list_pipeline_execution_steps(started["PipelineExecutionArn"])
        spent.append(reader.spending(limit, steps))
        emulated_time.sleep(seconds)

    calls = Counter(call["operation"] for call in emulator.control.calls())
    names = [job for jobs in store.read().values() for job in jobs]
    jobs = [
        sagemaker.describe_training_job(TrainingJobName=name.rpartition("/")[2])
        for name in names
    ]
    pools = [job["WarmPoolStatus"] for job in jobs]
    assert [pool["Status"] for pool in pools] == ["Reused", "Reused", "Terminated"]
    assert spent[-1].amount == sum(
        job["BillableTimeInSeconds"] + pool["ResourceRetainedBillableTimeInSeconds"]
        for job, pool in zip(jobs, pools, strict=True)
    )
    # The first job counts from before its start until it is described again.
    assert all(-40 < b.amount - a.amount <= 100 for a, b in pairwise(spent))
    assert "warm pools from now on (Second)" in str(spent[30].note)
    assert (spent[-1].note, spent[-1].per_hour) == (None, 0)
    # Twice each, and with each list of the 900 seconds after the second step.
    assert calls["DescribeTrainingJob"] == 2 * 3 + 9


def test_pool_of_a_repeated_job_counts_until_it_ends_if_another_one_was_taken(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The second attempt gets the instances of another execution, which waited longer."""
    sagemaker: Any = client(emulator, "sagemaker")
    emulator.control.put_scenario({"steps": {"Train": {"duration": 160}}}, "other")
    fails = {"duration": 300, "fail": {"times": 1}}
    emulator.control.put_scenario({"steps": {"Train": fails}}, "own")
    instances = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1}
    kept = {**instances, "VolumeSizeInGB": 30, "KeepAlivePeriodInSeconds": 900}
    members = {"Arguments": {"ResourceConfig": kept}, "RetryPolicies": [REPEATED]}
    arns = {}
    for name in ("other", "own"):
        sagemaker.create_pipeline(
            PipelineName=name,
            PipelineDefinition=definition(step("Train", "Training", **members)),
            RoleArn=ROLE,
        )
        started = sagemaker.start_pipeline_execution(PipelineName=name)
        arns[name] = started["PipelineExecutionArn"]
    hook = PolysyncSageMakerHook()
    reader = reader_of(hook)
    limit = LIMIT.model_copy(update={"max_cost": 1_000_000})
    for _ in range(40):
        emulated_time.sleep(50)
        steps = hook.list_pipeline_execution_steps(arns["own"])
        spent = reader.spending(limit, steps)

    # 240 and 240 seconds of the attempts, and a pool of 900 seconds of each.
    assert spent.amount == 240 + 900 + 240 + 900
