"""
Steps fail if the roles of the pipeline and of their jobs lack a right.

The tests of the provider's command ``polysync iam policy --pipeline-role`` try each
right of each type of step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.conftest import ClientOf
from tests.sign_in.policies import document, statement
from tests.sign_in.test_sts import ACCOUNT

PIPELINE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Pipeline"
JOB_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Job"
STEP = step("Train", "Training", Arguments={"RoleArn": JOB_ROLE})
EVERYTHING = statement("*", "*")
RETRIES = [{"ExceptionType": ["Step.SERVICE_FAULT"], "MaxAttempts": 5}]

Run = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture
def role(client_of: ClientOf) -> Callable[..., None]:
    """Create a role that SageMaker may assume for a source, with statements."""

    def make(name: str, *statements: dict[str, Any], source: str = "*") -> None:
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"ArnLike": {"aws:SourceArn": source}},
        }
        iam = client_of("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
        iam.put_role_policy(
            RoleName=name, PolicyName="p", PolicyDocument=document(*statements)
        )

    return make


@pytest.fixture
def run(server: EmulatorServer, client_of: ClientOf) -> Run:
    """
    Run a pipeline with one step, and return the status of the execution and the step.
    """

    def run_step(entry: dict[str, Any], seconds: float = 5000) -> Any:
        client = client_of("sagemaker")
        client.create_pipeline(
            PipelineName="p",
            PipelineDefinition=definition(entry),
            RoleArn=PIPELINE_ROLE,
        )
        server.control.set_sign_in(enforce_iam=True)
        arn = client.start_pipeline_execution(PipelineName="p")["PipelineExecutionArn"]
        server.control.advance(seconds)
        return state(client, arn)

    return run_step


def state(client: Any, arn: str) -> tuple[str, dict[str, Any]]:
    """Return the status of an execution, and its only step."""
    execution = client.describe_pipeline_execution(PipelineExecutionArn=arn)
    listed = client.list_pipeline_execution_steps(PipelineExecutionArn=arn)
    (entry,) = listed["PipelineExecutionSteps"]
    return execution["PipelineExecutionStatus"], entry


def execution_arn(client: Any) -> str:
    """Return the ARN of the only execution."""
    (entry,) = client.list_pipeline_executions(PipelineName="p")[
        "PipelineExecutionSummaries"
    ]
    arn: str = entry["PipelineExecutionArn"]
    return arn


@pytest.mark.parametrize(
    ("denied", "operation", "resource"),
    [
        ("sagemaker:CreateTrainingJob", "sagemaker:CreateTrainingJob", "training-job/"),
        ("sagemaker:AddTags", "sagemaker:CreateTrainingJob", "training-job/"),
        ("iam:PassRole", "sagemaker:CreateTrainingJob", "role/Job"),
        (
            "sagemaker:DescribeTrainingJob",
            "sagemaker:DescribeTrainingJob",
            "training-job/",
        ),
    ],
)
def test_step_fails_without_a_right_of_the_pipeline(
    role: Callable[..., None], run: Run, denied: str, operation: str, resource: str
) -> None:
    """It names the operation, the session of the role, the right and the resource."""
    deny = {"Effect": "Deny", "Action": denied, "Resource": "*"}
    role("Pipeline", EVERYTHING, deny)
    role("Job", EVERYTHING)

    status, entry = run({**STEP, "RetryPolicies": RETRIES})

    assert (status, entry["StepStatus"], entry["Metadata"]) == ("Failed", "Failed", {})
    reason = entry["FailureReason"]
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/Pipeline/sagemaker-pipeline-"
    start = f"ClientError: Failed to invoke {operation}. Error Details: User: {session}"
    assert reason.startswith(start)
    assert f"-Train is not authorized to perform: {denied} on resource: arn:" in reason
    assert resource in reason
    assert entry["EndTime"] == entry["StartTime"]


def test_step_fails_without_a_right_of_its_job(
    role: Callable[..., None], run: Run
) -> None:
    """The job signs in with its own role."""
    role("Pipeline", EVERYTHING)
    role("Job", EVERYTHING, {"Effect": "Deny", "Action": "s3:Put*", "Resource": "*"})

    status, entry = run(STEP)

    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/Job/SageMaker"
    denial = f"ClientError: User: {session} is not authorized to perform: s3:PutObject"
    assert status == "Failed"
    assert entry["FailureReason"].startswith(
        f"{denial} on resource: arn:aws:s3:::bucket/models/pipelines-"
    )


@pytest.mark.parametrize(
    ("source", "status"),
    [
        (f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/p/*", "Succeeded"),
        (f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/other/*", "Failed"),
        ("arn:aws:sagemaker:us-east-1:111122223333:*", "Failed"),
    ],
)
def test_sagemaker_assumes_the_role_only_for_its_sources(
    role: Callable[..., None], run: Run, source: str, status: str
) -> None:
    """The trust policy says for which executions."""
    role("Pipeline", EVERYTHING, source=source)
    role("Job", EVERYTHING)

    ended, entry = run(STEP)

    assert ended == status
    is_assumed = f"unable to assume the role '{PIPELINE_ROLE}'" not in str(entry)
    assert is_assumed is (status == "Succeeded")


def test_role_that_does_not_exist_cannot_be_assumed(
    role: Callable[..., None], run: Run
) -> None:
    """As in AWS, also that of a job."""
    role("Pipeline", EVERYTHING)

    _, entry = run(STEP)

    reason = f"ClientError: SageMaker was unable to assume the role '{JOB_ROLE}'"
    assert entry["FailureReason"] == reason


def test_step_that_may_not_be_stopped_ends_with_its_job(
    role: Callable[..., None], run: Run, client_of: ClientOf, server: EmulatorServer
) -> None:
    """Until then, the execution is stopping; then the step says why."""
    stop = "sagemaker:StopTrainingJob"
    role("Pipeline", EVERYTHING, {"Effect": "Deny", "Action": stop, "Resource": "*"})
    role("Job", EVERYTHING)
    client = client_of("sagemaker")
    run(STEP, 100)
    arn = execution_arn(client)

    client.stop_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(300)
    status, entry = state(client, arn)
    assert (status, entry["StepStatus"]) == ("Stopping", "Executing")

    server.control.advance(600)
    status, entry = state(client, arn)
    assert (status, entry["StepStatus"]) == ("Failed", "Failed")
    assert f"Failed to invoke {stop}. Error Details" in entry["FailureReason"]


def test_refused_step_can_be_repeated(
    role: Callable[..., None], run: Run, client_of: ClientOf, server: EmulatorServer
) -> None:
    """With RetryPipelineExecution, after the role has got its right."""
    role("Pipeline", {"Effect": "Deny", "Action": "*", "Resource": "*"})
    role("Job", EVERYTHING)
    run(STEP)
    client = client_of("sagemaker")
    arn = execution_arn(client)
    client_of("iam").put_role_policy(
        RoleName="Pipeline", PolicyName="p", PolicyDocument=document(EVERYTHING)
    )

    client.retry_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(5000)

    status, entry = state(client, arn)
    assert (status, entry["AttemptCount"]) == ("Succeeded", 1)
