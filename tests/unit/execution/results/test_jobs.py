"""
What is read from the description of a job, whatever it has in place of what AWS
documents.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.execution.results import (
    JOB_KINDS,
    SPOT_SAVINGS,
    AutoMLJob,
    JobDescription,
    ProcessingJob,
    TrainingJob,
    TuningJob,
    job_of,
    seconds_by_instance_type,
    uncounted,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from tests.unit.execution.members import nested, paths

DESCRIPTIONS = sorted(
    {kind.description for kind in JOB_KINDS.values()}, key=lambda each: each.__name__
)
T0 = datetime(2026, 11, 1, tzinfo=UTC)
NOW = T0 + timedelta(seconds=100)
INVALID: tuple[Any, ...] = (
    *(None, True, "x", "\x00", -1, 10**40, float("nan")),
    *([], [1], [None], [{"MetricName": []}], {}),
    *({"a": "x"}, {"a": None}, {"a": [1]}, {"a": {"b": 1}}),
)


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_invalid_member_is_left_out(description: type[JobDescription]) -> None:
    """It raises no error, and what is read is JSON."""
    for path in paths(description):
        for value in INVALID:
            job = description.model_validate(nested(path, value))
            json.dumps(job.outputs, allow_nan=False)
            json.dumps(list(job.instance_seconds(NOW)), allow_nan=False)
            assert all(job.uncounted)


def test_training_jobs_are_counted_over_all_statuses() -> None:
    """A count that is none is left out."""
    counters = {"Completed": 3, "Stopped": 1, "Odd": "x"}

    job = TuningJob.model_validate({"TrainingJobStatusCounters": counters})
    assert job.training_jobs == 4


def test_entries_without_name_or_value_and_beyond_the_limit_are_left_out() -> None:
    """
    Entries without a name or a value are left out, and so are those beyond the limit.
    """

    metrics = [{"MetricName": f"m{n}", "Value": n} for n in range(101)]
    many = TrainingJob.model_validate({"FinalMetricDataList": metrics})
    assert many.metrics == {f"m{n}": n for n in range(100)}

    odd = [
        "x",
        {"MetricName": "none"},
        {"Value": 1},
        {"MetricName": "null", "Value": None},
        {"MetricName": "nan", "Value": float("nan")},
        {"MetricName": "auc", "Value": 0.9},
    ]
    training = TrainingJob.model_validate({"FinalMetricDataList": odd})
    assert training.outputs == {"metrics": {"auc": 0.9}}

    best = {"BestCandidate": {"FinalAutoMLJobObjectiveMetric": odd[-1]}}
    assert AutoMLJob.model_validate(best).objective == {"auc": 0.9}

    outputs = [
        {"OutputName": "model", "S3Output": {"S3Uri": "s3://bucket/model"}},
        {"OutputName": "app", "S3Output": "x", "AppManaged": True},
    ]
    config = {"ProcessingOutputConfig": {"Outputs": outputs}}
    processing = ProcessingJob.model_validate(config)
    assert processing.outputs == {"output_uris": {"model": "s3://bucket/model"}}


ARN = "arn:aws:sagemaker:us-east-1:123456789012"


PACKAGE = f"{ARN}:model-package/c/7"
CHECK = {"CheckType": "x", "CheckJobArn": f"{ARN}:processing-job/b"}


@pytest.mark.parametrize(
    ("metadata", "operation", "name"),
    [
        ({"TrainingJob": {"Arn": f"{ARN}:training-job/a"}}, "DescribeTrainingJob", "a"),
        ({"QualityCheck": CHECK}, "DescribeProcessingJob", "b"),
        ({"RegisterModel": {"Arn": PACKAGE}}, "DescribeModelPackage", PACKAGE),
        ({"Condition": {"Outcome": "True"}}, None, None),
        ({"TrainingJob": {}}, None, None),
        (None, None, None),
    ],
)
def test_job_of_a_step_is_told_by_its_metadata(
    metadata: Any, operation: str | None, name: str | None
) -> None:
    """A version of a model package has no name; steps that start no job have none."""
    response = {"StepName": "Step", "Metadata": metadata}
    job = job_of(StepDescription.model_validate(response))

    if operation is None:
        assert job is None
        return
    assert job is not None
    kind, job_name = job
    assert kind.operation == operation
    assert job_name == name


STEP = StepDescription(StepName="Step")
LARGE = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
XLARGE = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1}


def billed(seconds: float) -> dict[str, Any]:
    """Return what AWS says of a training job that has ended."""
    return {"TrainingEndTime": NOW, "BillableTimeInSeconds": seconds}


def test_seconds_are_summed_over_instances_and_jobs() -> None:
    """
    Each instance of each job is billed, of a running job up to now; the sum of many
    decimals has one.
    """
    groups = [LARGE, XLARGE, LARGE, {"InstanceType": "ml.m5.xlarge"}]
    responses: list[dict[str, Any]] = [
        {**billed(10.04), "ResourceConfig": {"InstanceGroups": groups}},
        {**billed(5), "ResourceConfig": LARGE},
        {"TrainingStartTime": T0, "ResourceConfig": XLARGE},
        {"ResourceConfig": LARGE},
    ]
    jobs = [TrainingJob.model_validate(response) for response in responses]

    assert seconds_by_instance_type([(STEP, job) for job in jobs], NOW) == {
        "ml.g5.xlarge": 110.0,
        "ml.m5.large": 50.2,
    }
    assert jobs[0].outputs == {"billable_seconds": 10.04, "instance_count": 5}
    resources = {"InstanceGroups": [LARGE, LARGE]}
    alike = TrainingJob.model_validate({"ResourceConfig": resources})
    assert alike.outputs == {"instance_count": 4, "instance_type": "ml.m5.large"}


def test_training_jobs_have_the_instances_of_their_definitions() -> None:
    """Of several types in the order of preference, the first one counts."""
    definitions = [
        {"DefinitionName": "a", "ResourceConfig": {"InstanceGroups": [LARGE, XLARGE]}},
        {
            "DefinitionName": "b",
            "HyperParameterTuningResourceConfig": {"InstanceConfigs": [XLARGE, LARGE]},
        },
        {"DefinitionName": "c", "HyperParameterTuningResourceConfig": LARGE},
        {"DefinitionName": "d", "EnableManagedSpotTraining": True},
    ]
    summaries = [
        {"TrainingJobDefinitionName": name, "TrainingStartTime": T0} for name in "abcd"
    ]
    job = TuningJob(
        TrainingJobDefinitions=definitions,
        TrainingJobStatusCounters={"InProgress": 5},
        summaries=summaries,
    )

    assert seconds_by_instance_type([(STEP, job)], NOW) == {
        "ml.g5.xlarge": 100 + 100,
        "ml.m5.large": 200 + 200,
    }
    assert list(job.uncounted) == [
        "training jobs that are not in AWS's list",
        "training jobs whose instances are not known",
        "other types of instances than the first one of several",
        SPOT_SAVINGS,
    ]


CHECK_OF_DATA = StepDescription(
    StepName="S", Metadata={"ClarifyCheck": {**CHECK, "CheckType": "DATA_BIAS"}}
)


def of_kind(kind: str, name: str = "S", attempt: int = 1) -> StepDescription:
    """Return a step of a kind, by the member of its metadata."""
    return StepDescription(
        StepName=name, AttemptCount=attempt, Metadata={kind: {"Arn": f"{ARN}:x/{name}"}}
    )


SPOT = TrainingJob(TrainingStartTime=T0, EnableManagedSpotTraining=True)
PLAN = f"{ARN}:training-plan/p"
PLANS = "jobs under a training plan, which is paid in advance"
VOLUMES = "storage volumes of"
POOLS = "warm pools of training jobs"
RULE = {"RuleEvaluatorImage": "rules:1", "InstanceType": "ml.t3.medium"}
OWN_RULES = TrainingJob(DebugRuleConfigurations=[{**RULE, "InstanceType": ""}])
RULES = TrainingJob(DebugRuleConfigurations=[RULE])
PROFILED = TrainingJob(ProfilerRuleConfigurations=[RULE])
CLARIFY = ProcessingJob(
    AppSpecification={"ImageUri": "1.dkr.ecr.x/sagemaker-clarify-processing:1.0"},
    ProcessingResources={"ClusterConfig": {"VolumeSizeInGB": 99}},
)
SERVERLESS = TrainingJob(ServerlessJobConfig={"JobType": "FineTuning"})


def training(**resources: Any) -> TrainingJob:
    """Return a training job that runs."""
    return TrainingJob(TrainingStartTime=T0, ResourceConfig=resources)


def tuning(**resources: Any) -> TuningJob:
    """Return a tuning job with one training job, which runs."""
    definition = {"ResourceConfig": resources}
    summaries = [{"TrainingStartTime": T0}]
    return TuningJob(TrainingJobDefinition=definition, summaries=summaries)


SELECTED = {"SelectedInstanceType": "ml.m5.large", "SelectedInstanceCount": 2}
PREPAID_LARGE = {**LARGE, "TrainingPlanArns": [PLAN]}
PREPAID_XLARGE = {**XLARGE, "TrainingPlanArns": [PLAN]}
EMPTY_PLAN = {**LARGE, "TrainingPlanArns": [""]}
LARGE_VOLUME = {**LARGE, "VolumeSizeInGB": 100}


@pytest.mark.parametrize(
    ("job", "seconds", "note"),
    [
        (training(**LARGE, TrainingPlanArn=PLAN, KeepAlivePeriodInSeconds=9), 0, PLANS),
        (training(**LARGE, TrainingPlanArn=""), 200, None),
        (training(**SELECTED, InstancePreferences=[XLARGE, PREPAID_LARGE]), 0, PLANS),
        (training(**LARGE, InstancePreferences=[PREPAID_XLARGE]), 200, None),
        (training(**LARGE, InstancePreferences=[EMPTY_PLAN]), 200, None),
        (training(**LARGE, VolumeSizeInGB=99), 200, None),
        (training(**LARGE, VolumeSizeInGB=999), 200, f"{VOLUMES} 100 GB and more"),
        (training(**LARGE, VolumeSizeInGB=1000), 200, f"{VOLUMES} 1,000 GB and more"),
        (tuning(InstanceGroups=[LARGE], TrainingPlanArn=PLAN), 0, PLANS),
        (tuning(InstancePreferences=[PREPAID_LARGE]), 0, PLANS),
        (tuning(**LARGE, KeepAlivePeriodInSeconds=9), 200, POOLS),
        (tuning(InstanceConfigs=[LARGE_VOLUME]), 200, f"{VOLUMES} 100 GB and more"),
    ],
)
def test_plans_count_nothing_and_large_volumes_are_named(
    job: JobDescription, seconds: float, note: str | None
) -> None:
    """What a plan has paid is not paid again, and neither is its warm pool."""
    jobs = [(of_kind("TrainingJob"), job)]

    assert sum(seconds_by_instance_type(jobs, NOW).values()) == seconds
    assert uncounted(jobs) == (note and f"Not counted: {note} (S).")


KEPT_FOR = {"Status": "Reused", "ResourceRetainedBillableTimeInSeconds": 7}


@pytest.mark.parametrize(
    ("pool", "seconds", "is_kept"),
    [
        (None, [60, 60, 60], False),
        ({"Status": "InUse"}, [60, 60 + 80, 60 + 90], True),
        ({"Status": "Available"}, [60, 60 + 80, 60 + 90], True),
        ({**KEPT_FOR, "Status": "Available"}, [60, 60 + 80, 60 + 90], True),
        (KEPT_FOR, [60 + 14, 60 + 14, 60 + 14], False),
        ({"Status": "Terminated"}, [60, 60, 60], False),
    ],
)
def test_warm_pool_counts_until_another_job_has_it(
    pool: Any, seconds: list[float], is_kept: bool
) -> None:
    """
    While AWS keeps it, up to now, whatever AWS says until then, and by no clock before
    its end; then for as long as AWS says.
    """
    job = TrainingJob(
        TrainingEndTime=NOW - timedelta(seconds=40),
        BillableTimeInSeconds=30,
        ResourceConfig={**LARGE, "KeepAlivePeriodInSeconds": 45},
        WarmPoolStatus=pool,
    )
    times = [NOW + timedelta(seconds=each) for each in (-60, 0, 3600)]
    found = [seconds_by_instance_type([(STEP, job)], now) for now in times]

    assert [each["ml.m5.large"] for each in found] == seconds
    assert job.keeps_instances is is_kept
    assert ("warm pools from now on" in job.uncounted) is is_kept


def test_what_is_not_counted_is_named_with_its_step() -> None:
    """Steps without a cost of their own are not named."""
    for step, job, nouns in (
        (of_kind("Condition"), None, None),
        (of_kind("RegisterModel"), None, None),
        (of_kind("TrainingJob"), OWN_RULES, None),
        (of_kind("Novel"), None, "steps of a newer type (S)"),
        (of_kind("TrainingJob"), None, "jobs that could not be described (S)"),
        (of_kind("TrainingJob"), SPOT, f"{SPOT_SAVINGS} (S)"),
        (of_kind("TrainingJob"), RULES, "instances of Debugger rules (S)"),
        (of_kind("TrainingJob"), PROFILED, "instances of Debugger rules (S)"),
        (of_kind("ProcessingJob"), CLARIFY, "endpoints that Clarify may make (S)"),
        (CHECK_OF_DATA, CLARIFY, None),
        (
            of_kind("TrainingJob", attempt=2),
            SERVERLESS,
            "serverless training, billed by tokens (S); earlier attempts (S)",
        ),
        (
            of_kind("TuningJob"),
            TuningJob(),
            "training jobs that are not in AWS's list (S)",
        ),
    ):
        assert uncounted([(step, job)]) == (nouns and f"Not counted: {nouns}.")


def test_of_many_steps_the_first_ones_are_named() -> None:
    """One sentence names each thing once."""
    steps = [(of_kind("Lambda", name), None) for name in "abcde"]

    assert uncounted([*steps, (of_kind("AutoMLJob"), AutoMLJob())]) == (
        "Not counted: Lambda functions (a, b, c and 2 more); AutoML jobs (S)."
    )
