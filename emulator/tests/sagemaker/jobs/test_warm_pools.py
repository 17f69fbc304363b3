"""Tests of the warm pools of training jobs, through boto3."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.warm_pools import WarmPools

DAY = 24 * 3600
KEPT = {
    "InstanceType": "ml.m5.2xlarge",
    "InstanceCount": 2,
    "VolumeSizeInGB": 50,
    "KeepAlivePeriodInSeconds": 600,
}
TRAINING: dict[str, Any] = {
    "AlgorithmSpecification": {"TrainingInputMode": "File", "TrainingImage": "image:1"},
    "ResourceConfig": KEPT,
    "OutputDataConfig": {"S3OutputPath": "s3://ml/models/"},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    "RoleArn": "arn:aws:iam::123456789012:role/Training",
}

Describe = Callable[[str], dict[str, Any]]


@pytest.fixture
def describe(
    sagemaker: Any, steps_of: Callable[[str], dict[str, dict[str, Any]]]
) -> Describe:
    """Describe the job of the only step of an execution."""

    def read(arn: str) -> dict[str, Any]:
        job = steps_of(arn)["Train"]["Metadata"]["TrainingJob"]["Arn"]
        response: dict[str, Any] = sagemaker.describe_training_job(
            TrainingJobName=job.rpartition("/")[2]
        )
        return response

    return read


@pytest.fixture
def create_training(create: Callable[..., str]) -> Callable[..., str]:
    """Create a pipeline with one training step."""

    def make(name: str, arguments: dict[str, Any] = TRAINING) -> str:
        return create(definition(step("Train", "Training", Arguments=arguments)), name)

    return make


def pool_of(job: dict[str, Any]) -> tuple[str, int | None] | None:
    """Return the status of the warm pool of a job, and the seconds it was kept."""
    pool = job.get("WarmPoolStatus")
    if pool is None:
        return None
    return pool["Status"], pool.get("ResourceRetainedBillableTimeInSeconds")


def seconds_to_start(job: dict[str, Any]) -> float:
    """Return how long a job has waited for its instances."""
    waited = job["TrainingStartTime"] - job["CreationTime"]
    return float(waited.total_seconds())


def test_next_execution_starts_with_the_instances_of_the_last_one(
    create_training: Callable[..., str],
    start: Callable[..., str],
    describe: Describe,
    server: EmulatorServer,
) -> None:
    """
    Also after the first execution has ended. The idle time is that from the end of the
    one job to the creation of the other one, which runs as long as without a pool.
    """
    create_training("Demo")
    first = start()
    seen = []
    for seconds in (30, 300, 400, 0):
        server.control.advance(seconds)
        seen.append(pool_of(describe(first)))
    second = start()
    server.control.advance(20)
    seen += [pool_of(describe(first)), pool_of(describe(second))]
    server.control.advance(580)
    seen.append(pool_of(describe(second)))
    server.control.advance(3600)
    seen.append(pool_of(describe(second)))

    assert seen == [
        None,
        ("InUse", None),
        ("Available", 128),
        ("Available", 128),
        ("Reused", 130),
        ("InUse", None),
        ("Available", 43),
        ("Terminated", 600),
    ]
    jobs = [describe(arn) for arn in (first, second)]
    assert jobs[0]["WarmPoolStatus"]["ReusedByJob"] == jobs[1]["TrainingJobName"]
    assert [seconds_to_start(job) for job in jobs] == [60, 15]
    assert [job["BillableTimeInSeconds"] for job in jobs] == [540, 540]


@pytest.mark.parametrize(
    ("path", "value", "is_match"),
    [
        (("HyperParameters",), {"epochs": "2"}, True),
        (("AlgorithmSpecification", "TrainingImage"), "image:2", True),
        (("ResourceConfig", "KeepAlivePeriodInSeconds"), 0, True),
        (("EnableNetworkIsolation",), False, True),
        (("ResourceConfig", "InstanceCount"), 1, False),
        (("ResourceConfig", "InstanceType"), "ml.m5.xlarge", False),
        (("ResourceConfig", "VolumeSizeInGB"), 60, False),
        (("ResourceConfig", "VolumeKmsKeyId"), "key", False),
        (("RoleArn",), "arn:aws:iam::123456789012:role/Other", False),
        (("VpcConfig",), {"SecurityGroupIds": ["sg-1"], "Subnets": ["s-1"]}, False),
        (("EnableInterContainerTrafficEncryption",), True, False),
        (("EnableNetworkIsolation",), True, False),
        (("SessionChainingConfig",), {"EnableSessionTagChaining": True}, False),
    ],
)
def test_job_matches_if_what_aws_names_is_identical(
    path: tuple[str, ...],
    value: Any,
    is_match: bool,
    create_training: Callable[..., str],
    start: Callable[..., str],
    describe: Describe,
    server: EmulatorServer,
) -> None:
    """A job of another pipeline, too. The image and the hyperparameters may differ."""
    other = deepcopy(TRAINING)
    place = other
    for member in path[:-1]:
        place = place[member]
    place[path[-1]] = value
    create_training("First")
    create_training("Second", other)
    first = start("First")
    server.control.advance(700)
    second = start("Second")
    server.control.advance(100)

    status, _ = pool_of(describe(first)) or (None, None)
    assert (status == "Reused") is is_match
    assert seconds_to_start(describe(second)) == (15 if is_match else 60)


@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        ({"reason": "AlgorithmError: no data"}, ("Available", 96)),
        ({"reason": "ClientError: no file"}, ("Available", 96)),
        ({"reason": "InternalServerError: try again"}, ("Terminated", 0)),
        ({"reason": "CapacityError: none"}, ("Terminated", 0)),
    ],
)
def test_failed_job_leaves_a_pool_unless_the_cluster_may_be_broken(
    fail: dict[str, Any],
    expected: tuple[str, int],
    create_training: Callable[..., str],
    start: Callable[..., str],
    describe: Describe,
    server: EmulatorServer,
) -> None:
    """The failure of an algorithm or of a request has left it healthy."""
    scenario = {"duration": 502, "fail": {**fail, "times": 9}}
    server.control.put_scenario({"steps": {"Train": scenario}})
    create_training("Demo")
    arn = start()
    server.control.advance(600)

    job = describe(arn)

    assert (job["TrainingJobStatus"], pool_of(job)) == ("Failed", expected)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(100, ("Available", 80)), (20, ("Terminated", 0))]
)
def test_stopped_job_leaves_a_pool_if_its_instances_were_launched(
    seconds: float,
    expected: tuple[str, int],
    create_training: Callable[..., str],
    start: Callable[..., str],
    describe: Describe,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """A job that still waits for them has none to leave."""
    create_training("Demo")
    arn = start()
    server.control.advance(seconds)
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(100)

    job = describe(arn)

    assert (job["TrainingJobStatus"], pool_of(job)) == ("Stopped", expected)


def test_spot_instances_are_not_kept(
    create_training: Callable[..., str],
    start: Callable[..., str],
    describe: Describe,
    server: EmulatorServer,
) -> None:
    """Nor does a spot job get a pool."""
    create_training("First")
    spot = {
        "EnableManagedSpotTraining": True,
        "ResourceConfig": {**KEPT, "KeepAlivePeriodInSeconds": 0},
        "StoppingCondition": {
            "MaxRuntimeInSeconds": 3600,
            "MaxWaitTimeInSeconds": 3600,
        },
    }
    create_training("Second", {**TRAINING, **spot})
    first = start("First")
    server.control.advance(700)
    second = start("Second")
    server.control.advance(100)

    assert pool_of(describe(first)) == ("Available", 198)
    assert pool_of(describe(second)) is None


@pytest.mark.parametrize("polled", ["nobody", "First", "Second", "Third"])
def test_one_job_gets_the_pool_however_often_executions_are_looked_at(
    polled: str,
    create_training: Callable[..., str],
    start: Callable[..., str],
    describe: Describe,
    server: EmulatorServer,
    status_of: Callable[[str], str],
) -> None:
    """
    Of two jobs that start at the same time, that of the execution which has started
    first. The other one gets what this one leaves to a third job, and to no other.
    """
    without = {**KEPT, "KeepAlivePeriodInSeconds": 0}
    create_training("First")
    create_training("Second", {**TRAINING, "ResourceConfig": without})
    create_training("Third")
    arns = {"First": start("First")}
    server.control.advance(700)
    arns |= {name: start(name) for name in ("Second", "Third")}
    for _ in range(100):
        server.control.advance(20)
        if polled in arns:
            status_of(arns[polled])

    jobs = [describe(arn) for arn in arns.values()]
    assert [seconds_to_start(job) for job in jobs] == [60, 15, 60]
    assert [pool_of(job) for job in jobs] == [
        ("Reused", 100),
        ("Terminated", 0),
        ("Terminated", 600),
    ]
    assert jobs[0]["WarmPoolStatus"]["ReusedByJob"] == jobs[1]["TrainingJobName"]


def test_pools_move_although_the_last_execution_is_looked_at_first(
    create: Callable[..., str],
    start: Callable[..., str],
    describe: Describe,
    server: EmulatorServer,
) -> None:
    """Nobody has looked while three executions ran, one after the other."""
    train = step("Train", "Training", "Prepare", Arguments=TRAINING)
    create(definition(step("Prepare"), train))
    arns = []
    for seconds in (700, 700, 3600):
        arns.append(start())
        server.control.advance(seconds)

    jobs = [describe(arn) for arn in reversed(arns)]

    assert [seconds_to_start(job) for job in jobs] == [15, 15, 60]
    assert [pool_of(job) for job in jobs] == [
        ("Terminated", 600),
        ("Reused", 145),
        ("Reused", 100),
    ]


def test_pool_moves_from_job_to_job_for_28_days_at_most() -> None:
    """Its last job is the one that begins on the 28th. The next one has new instances."""
    pools = WarmPools()
    for number in range(30):
        at = number * DAY
        last = pools.pool_of(f"job-{number}", "key", 600, at, at + 60)
        assert last is not None
        assert last.is_reused is (number not in (0, 29)), number
        last.keep(at + DAY - 300, None)
