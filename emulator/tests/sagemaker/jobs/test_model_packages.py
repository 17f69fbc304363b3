"""Tests of the model packages that RegisterModel steps create, through boto3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.builders import chain, fail
from tests.sagemaker.test_pipelines import error_of

Steps = Callable[[str], dict[str, dict[str, Any]]]
GROUP = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn"
STATUS = {"Name": "Status", "Type": "String", "DefaultValue": "Approved"}


def register(name: str = "Register", **arguments: Any) -> dict[str, Any]:
    """Return a RegisterModel step."""
    model = {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
    specification = {
        "Containers": [{"Image": "image", "ModelDataUrl": model}],
        "SupportedContentTypes": ["text/csv"],
    }
    return {
        "Name": name,
        "Type": "RegisterModel",
        "Arguments": {
            "ModelPackageGroupName": "Churn",
            "ModelApprovalStatus": {"Get": "Parameters.Status"},
            "InferenceSpecification": specification,
            **arguments,
        },
    }


def job_of(row: dict[str, Any]) -> str:
    """Return the name of the job of a step."""
    (metadata,) = row["Metadata"].values()
    return str(metadata["Arn"]).rpartition("/")[2]


def test_model_package_can_be_described(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    The step shows the ARN of the package after its end, and the package has the
    evaluated arguments.
    """
    text = definition(
        step("Train", "Training"),
        register(ModelPackageDescription="Nightly"),
        parameters=(STATUS,),
    )
    create(text)
    arn = start()
    server.control.advance(605)
    assert steps_of(arn)["Register"]["Metadata"] == {"RegisterModel": {}}
    server.control.advance(3)
    shown = steps_of(arn)["Register"]
    assert shown["Metadata"] == {"RegisterModel": {"Arn": f"{GROUP}/1"}}
    described = sagemaker.describe_model_package(ModelPackageName=f"{GROUP}/1")
    assert (described["ModelPackageGroupName"], described["ModelPackageVersion"]) == (
        "Churn",
        1,
    )
    assert (described["ModelApprovalStatus"], described["ModelPackageStatus"]) == (
        "Approved",
        "Completed",
    )
    assert described["ModelPackageDescription"] == "Nightly"
    assert described["CreationTime"] == shown["EndTime"]
    (container,) = described["InferenceSpecification"]["Containers"]
    artifact = sagemaker.describe_training_job(
        TrainingJobName=job_of(steps_of(arn)["Train"])
    )["ModelArtifacts"]
    assert container["ModelDataUrl"] == artifact["S3ModelArtifacts"]
    listed = sagemaker.list_model_packages(ModelPackageGroupName="Churn")[
        "ModelPackageSummaryList"
    ]
    assert [package["ModelPackageArn"] for package in listed] == [f"{GROUP}/1"]


def test_versions_follow_the_ends_of_the_steps(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    Versions are counted in the group, in the order of the ends, no matter which
    execution is looked at first.
    """
    create(definition(register(InferenceSpecification=None), parameters=(STATUS,)))
    sagemaker.create_model_package_group(ModelPackageGroupName="Churn")
    sagemaker.create_model_package(ModelPackageGroupName="Churn")
    server.control.put_scenario({"steps": {"Register": {"duration": 30}}})
    slow = start()
    server.control.delete_scenario()
    quick = start()
    server.control.advance(60)
    arns = [
        steps_of(arn)["Register"]["Metadata"]["RegisterModel"]["Arn"]
        for arn in (slow, quick, slow)
    ]
    assert arns == [f"{GROUP}/3", f"{GROUP}/2", f"{GROUP}/3"]


def test_package_exists_before_its_steps_are_listed(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    A package can be described without a look at the execution, and not before its step
    has ended.
    """
    create(definition(register(InferenceSpecification=None), parameters=(STATUS,)))
    start("Demo", Status="Rejected")
    assert (
        error_of(sagemaker.describe_model_package, ModelPackageName=f"{GROUP}/1")[0]
        == "ValidationException"
    )
    server.control.advance(60)
    described = sagemaker.describe_model_package(ModelPackageName=f"{GROUP}/1")
    assert described["ModelApprovalStatus"] == "Rejected"


@pytest.mark.usefixtures("lenient")
def test_unknown_approval_status_needs_an_approval(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """A package whose approval status has no valid value waits for the approval."""
    create(definition(register(InferenceSpecification=None), parameters=(STATUS,)))
    start("Demo", Status="Perhaps")
    server.control.advance(60)
    described = sagemaker.describe_model_package(ModelPackageName=f"{GROUP}/1")
    assert described["ModelApprovalStatus"] == "PendingManualApproval"


@pytest.mark.usefixtures("lenient")
def test_package_without_a_group(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    A step that names a package instead of a group, which AWS refuses, creates it.
    """
    body = {
        "Name": "Register",
        "Type": "RegisterModel",
        "Arguments": {"ModelPackageName": "Single"},
    }
    create(definition(body))
    arn = start()
    server.control.advance(60)
    package = steps_of(arn)["Register"]["Metadata"]["RegisterModel"]["Arn"]
    assert package == "arn:aws:sagemaker:us-east-1:123456789012:model-package/single"
    assert (
        sagemaker.describe_model_package(ModelPackageName=package)["ModelPackageName"]
        == "Single"
    )


def test_definition_of_an_execution_does_not_change(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    An execution keeps its definition after the pipeline was updated, also when it is
    retried.
    """
    create(chain("A", "B"))
    created_at = sagemaker.describe_pipeline(PipelineName="Demo")["CreationTime"]
    server.control.put_scenario({"steps": {"B": {"fail": {"times": 1}}}})
    arn = start()
    server.control.advance(1000)
    sagemaker.update_pipeline(
        PipelineName="Demo", PipelineDefinition=chain("A", "B", "C")
    )
    sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(1000)
    described = sagemaker.describe_pipeline_definition_for_execution(
        PipelineExecutionArn=arn
    )
    assert described["PipelineDefinition"] == chain("A", "B")
    assert described["CreationTime"] == created_at
    steps = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)[
        "PipelineExecutionSteps"
    ]
    assert [entry["StepName"] for entry in steps] == ["B", "A"]


def test_properties_in_the_message_of_a_fail_step(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """
    The properties of a step are those that its Describe operation returns, also in a
    message.
    """
    properties = [
        {"Get": "Steps.Train.TrainingJobStatus"},
        {"Get": "Steps.Register.ModelApprovalStatus"},
        {"Get": "Steps.Register.ModelPackageGroupName"},
        {"Get": "Steps.Again.ModelApprovalStatus"},
        {"Get": "Steps.Train.FailureReason"},
    ]
    text = fail("Stop", {"Std:Join": {"On": ",", "Values": properties}})
    again = step("Again", "RegisterModel", Arguments={"ModelPackageGroupName": "Churn"})
    create(
        definition(
            step("Train", "Training"), register(), again, text, parameters=(STATUS,)
        )
    )
    execution = start()
    server.control.advance(700)
    message = steps_of(execution)["Stop"]["FailureReason"]
    assert (
        message
        == "Completed,Approved,Churn,PendingManualApproval,Steps.Train.FailureReason"
    )


def test_model_card_and_life_cycle(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    A package keeps the members that moto does not know, and an update replaces them.
    """
    card = {"ModelCardStatus": "Draft", "ModelCardContent": "{}"}
    cycle = {
        "Stage": "Development",
        "StageStatus": "In-Progress",
        "StageDescription": "Begun",
    }
    create(
        definition(
            register(ModelCard=card, ModelLifeCycle=cycle, InferenceSpecification=None),
            parameters=(STATUS,),
        )
    )
    start()
    server.control.advance(60)
    arn = f"{GROUP}/1"
    described = sagemaker.describe_model_package(ModelPackageName=arn)
    assert (described["ModelCard"], described["ModelLifeCycle"]) == (card, cycle)
    assert "SourceUri" not in described
    done = {"Stage": "Development", "StageStatus": "Done"}
    sagemaker.update_model_package(
        ModelPackageArn=arn, ModelLifeCycle=done, SourceUri="s3://b/m"
    )
    described = sagemaker.describe_model_package(ModelPackageName=arn)
    assert (described["ModelCard"], described["ModelLifeCycle"]) == (card, done)
    assert described["SourceUri"] == "s3://b/m"
