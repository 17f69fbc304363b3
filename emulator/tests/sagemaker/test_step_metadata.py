"""
Tests of the metadata of steps in ListPipelineExecutionSteps, for every step type,
through boto3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.builders import condition, fail

Steps = Callable[[str], dict[str, dict[str, Any]]]
ACCOUNT = "arn:aws:sagemaker:us-east-1:123456789012"
JOB = r"pipelines-[a-z0-9]{12}-S-[a-z0-9]{10}"
KNOWN = (
    botocore.session.get_session()
    .get_service_model("sagemaker")
    .shape_for("PipelineExecutionStepMetadata")
)


CHECK_TYPES = {"QualityCheck": "DATA_QUALITY", "ClarifyCheck": "DATA_BIAS"}


def check_step(kind: str) -> dict[str, Any]:
    """Return a check step with a supplied baseline."""
    location = {"S3Uri": "s3://checks/out", "S3UploadMode": "EndOfJob"}
    outputs = [{"OutputName": "result", "S3Output": location}]
    members = {
        "CheckType": CHECK_TYPES[kind],
        "ModelPackageGroupName": "Churn",
        "SkipCheck": False,
        "RegisterNewBaseline": True,
        "SuppliedBaselineConstraints": "s3://baseline/constraints.json",
    }
    arguments = {"ProcessingOutputConfig": {"Outputs": outputs}}
    return step("S", kind, Arguments=arguments, **members)


LINEAGE = {
    "Actions": [{"ActionName": "act"}],
    "Artifacts": [{"ArtifactName": "art"}],
    "Contexts": [{"ContextName": "con"}],
    "Associations": [{"Source": {"Arn": "arn:1"}, "Destination": {"Arn": "arn:2"}}],
}
CASES: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    (step("S"), "ProcessingJob", {"Arn": f"{ACCOUNT}:processing-job/{JOB}"}),
    (step("S", "Training"), "TrainingJob", {"Arn": f"{ACCOUNT}:training-job/{JOB}"}),
    (step("S", "Transform"), "TransformJob", {"Arn": f"{ACCOUNT}:transform-job/{JOB}"}),
    (
        step("S", "Tuning"),
        "TuningJob",
        {
            "Arn": rf"{ACCOUNT}:hyper-parameter-tuning-job/[a-z0-9]{{12}}-S-[a-z0-9]{{10}}"
        },
    ),
    (
        step("S", "AutoML"),
        "AutoMLJob",
        {"Arn": rf"{ACCOUNT}:automl-job/[a-z0-9]{{12}}-S-[a-z0-9]{{10}}"},
    ),
    (step("S", "Model"), "Model", {"Arn": f"{ACCOUNT}:model/{JOB}"}),
    (
        step("S", "RegisterModel"),
        "RegisterModel",
        {"Arn": f"{ACCOUNT}:model-package/emulated/1"},
    ),
    (
        step("S", "EndpointConfig"),
        "EndpointConfig",
        {"Arn": f"{ACCOUNT}:endpoint-config/{JOB}"},
    ),
    (step("S", "Endpoint"), "Endpoint", {"Arn": f"{ACCOUNT}:endpoint/{JOB}"}),
    (
        step("S", "InferenceComponent"),
        "InferenceComponent",
        {"Arn": f"{ACCOUNT}:inference-component/{JOB}"},
    ),
    (
        step("S", "BedrockModelImport"),
        "BedrockModelImport",
        {
            "Arn": r"arn:aws:bedrock:us-east-1:123456789012:model-import-job/[a-z0-9]{12}"
        },
    ),
    (condition("S", [], [], []), "Condition", {"Outcome": "True"}),
    (fail("S", "Too low"), "Fail", {"ErrorMessage": "Too low"}),
    (
        {
            "Name": "S",
            "Type": "EMR",
            "Arguments": {
                "ClusterId": "j-ABC",
                "StepConfig": {"HadoopJarStep": {"Jar": "s3://a.jar"}},
            },
        },
        "EMR",
        {"ClusterId": "j-ABC", "StepId": "s-[A-Z0-9]{13}", "StepName": JOB},
    ),
    (
        {
            "Name": "S",
            "Type": "EMR",
            "Arguments": {
                "ClusterConfig": {"Instances": {"InstanceGroups": []}},
                "StepConfig": {"HadoopJarStep": {"Jar": "s3://a.jar"}},
            },
        },
        "EMR",
        {"ClusterId": "j-[A-Z0-9]{13}", "StepId": "s-[A-Z0-9]{13}", "StepName": JOB},
    ),
    (
        step(
            "S",
            "EMRServerless",
            Arguments={"ApplicationId": "00app", "JobConfig": {"name": "nightly"}},
        ),
        "EMRServerless",
        {
            "ApplicationId": "00app",
            "JobRunId": "00[a-z0-9]{14}",
            "JobRunName": "nightly",
        },
    ),
    (
        check_step("QualityCheck"),
        "QualityCheck",
        {
            "CheckType": "DATA_QUALITY",
            "BaselineUsedForDriftCheckConstraints": "s3://checks/out/constraints.json",
            "BaselineUsedForDriftCheckStatistics": "s3://checks/out/statistics.json",
            "CalculatedBaselineConstraints": "s3://checks/out/constraints.json",
            "CalculatedBaselineStatistics": "s3://checks/out/statistics.json",
            "ModelPackageGroupName": "Churn",
            "CheckJobArn": f"{ACCOUNT}:processing-job/{JOB}",
            "SkipCheck": False,
            "RegisterNewBaseline": True,
        },
    ),
    (
        check_step("ClarifyCheck"),
        "ClarifyCheck",
        {
            "CheckType": "DATA_BIAS",
            "BaselineUsedForDriftCheckConstraints": "s3://checks/out/analysis.json",
            "CalculatedBaselineConstraints": "s3://checks/out/analysis.json",
            "ModelPackageGroupName": "Churn",
            "CheckJobArn": f"{ACCOUNT}:processing-job/{JOB}",
            "SkipCheck": False,
            "RegisterNewBaseline": True,
        },
    ),
    (
        {"Name": "S", "Type": "Lineage", "Arguments": LINEAGE},
        "Lineage",
        {
            "ActionArns": {"act": f"{ACCOUNT}:action/act"},
            "ArtifactArns": {"art": rf"{ACCOUNT}:artifact/[a-z0-9]{{32}}"},
            "ContextArns": {"con": f"{ACCOUNT}:context/con"},
            "Associations": [{"SourceArn": "arn:1", "DestinationArn": "arn:2"}],
        },
    ),
    (
        step("S", "Athena"),
        "Athena",
        {"QueryExecutionId": r"[a-z0-9]{8}(-[a-z0-9]{4}){3}-[a-z0-9]{12}"},
    ),
    (
        {
            "Name": "S",
            "Type": "Cleanup",
            "Arguments": {"Resources": {"S3": [{"StepName": "Train"}]}},
        },
        "Cleanup",
        {"CleanedSteps": ["Train"]},
    ),
]


def assert_matches(value: Any, pattern: Any) -> None:
    """
    Assert that a value has the same members as a pattern, and that each text matches
    its regular expression.
    """
    if isinstance(pattern, dict):
        assert value.keys() == pattern.keys()
        for name, item in pattern.items():
            assert_matches(value[name], item)
    elif isinstance(pattern, str):
        assert re.fullmatch(pattern, value), (value, pattern)
    else:
        assert value == pattern


@pytest.mark.parametrize(
    ("body", "member", "pattern"), CASES, ids=[f"{c[0]['Type']}" for c in CASES]
)
def test_metadata_of_a_step(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    body: dict[str, Any],
    member: str,
    pattern: dict[str, Any],
) -> None:
    """
    A step that has ended shows what it created. A botocore that does not know the
    member shows nothing.
    """
    create(definition(body))
    arn = start()
    server.control.advance(24 * 3600)
    metadata = steps_of(arn)["S"]["Metadata"]
    if member in getattr(KNOWN, "members", {}):
        assert_matches(metadata, {member: pattern})
    else:
        assert metadata == {}


def test_cases_are_complete() -> None:
    """
    Every member that botocore knows has a case, except those without a documented step
    definition.
    """
    in_other_tests = {"Callback", "Lambda", "ForEach"}
    undocumented = {"Job", "HubContent"}
    same_as_model_import = {
        name for name in getattr(KNOWN, "members", {}) if name.startswith("Bedrock")
    }
    tested = (
        {member for _, member, _ in CASES}
        | in_other_tests
        | undocumented
        | same_as_model_import
    )
    assert set(getattr(KNOWN, "members", {})) <= tested


def test_metadata_of_a_failed_step(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """A failed step shows where its log is, and no results."""
    create(definition(step("S", "EMR"), step("T", "QualityCheck")))
    server.control.put_scenario(
        {"steps": {name: {"fail": {}} for name in "ST"}, "end_as": "Failed"}
    )
    arn = start()
    server.control.advance(24 * 3600)
    steps = steps_of(arn)
    assert re.fullmatch(
        r"s3://aws-logs-123456789012-us-east-1/elasticmapreduce/j-\w+/steps/s-\w+/stderr\.gz",
        steps["S"]["Metadata"]["EMR"]["LogFilePath"],
    )
    results = [
        name
        for name in steps["T"]["Metadata"]["QualityCheck"]
        if name.startswith("Calculated")
    ]
    assert results == []


def test_output_parameters_of_a_lambda_step(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """A Lambda step shows its function, and its output parameters after its end."""
    function = "arn:aws:lambda:us-east-1:123456789012:function:notify"
    create(definition(step("S", "Lambda", FunctionArn=function)))
    server.control.put_scenario({"steps": {"S": {"outputs": {"ticket": "T-1"}}}})
    arn = start()
    server.control.advance(10)
    assert steps_of(arn)["S"]["Metadata"]["Lambda"] == {
        "Arn": function,
        "OutputParameters": [],
    }
    server.control.advance(10)
    outputs = [{"Name": "ticket", "Value": "T-1"}]
    assert steps_of(arn)["S"]["Metadata"]["Lambda"] == {
        "Arn": function,
        "OutputParameters": outputs,
    }


@pytest.mark.skipif(
    "ForEach" not in getattr(KNOWN, "members", {}),
    reason="this botocore has no ForEach steps",
)
def test_metadata_of_a_for_each_step(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """A ForEach step shows its counts, and each iteration shows its item."""
    arguments = {
        "IterableItems": {"Get": "Parameters.Items"},
        "MaxConcurrency": 1,
        "ForEachBody": [step("Body")],
    }
    loop = {"Name": "Loop", "Type": "ForEach", "Arguments": arguments}
    create(definition(loop, parameters=({"Name": "Items", "Type": "String"},)))
    arn = start("Demo", Items='["a", {"b": 1}]')
    server.control.advance(300)
    counts = {
        "InputItemCount": 2,
        "TotalStepCount": 2,
        "FailedStepCount": 0,
        "StoppedStepCount": 0,
    }
    running = steps_of(arn)["Loop"]
    assert running["Metadata"]["ForEach"] == {**counts, "SucceededStepCount": 1}
    server.control.advance(300)
    steps = steps_of(arn)
    expected = {**counts, "SucceededStepCount": 2, "Status": "Succeeded"}
    assert steps["Loop"]["Metadata"]["ForEach"] == expected
    contexts = [steps[f"Body-{index}"]["IterationContext"] for index in range(2)]
    assert contexts == [
        {"ParentStepName": "Loop", "Index": 0, "Item": "a"},
        {"ParentStepName": "Loop", "Index": 1, "Item": '{"b": 1}'},
    ]
    assert "ProcessingJob" in steps["Body-0"]["Metadata"]


def test_attempts_of_a_step_with_a_retry_policy(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """
    Each attempt has a job of its own; the step has one entry, with the number of the
    current attempt.
    """
    policy = {"ExceptionType": ["SageMaker.CAPACITY_ERROR"], "IntervalSeconds": 60}
    create(definition(step("S", RetryPolicies=[policy])))
    failure = {"reason": "CapacityError: no instance", "times": 1}
    server.control.put_scenario({"steps": {"S": {"duration": 100, "fail": failure}}})
    arn = start()
    server.control.advance(110)
    first = steps_of(arn)["S"]
    server.control.advance(60)
    second = steps_of(arn)["S"]
    assert [entry["AttemptCount"] for entry in (first, second)] == [1, 2]
    assert first["Metadata"] != second["Metadata"]
    assert first["StartTime"] == second["StartTime"]
    assert "FailureReason" not in second
    server.control.advance(100)
    assert steps_of(arn)["S"]["StepStatus"] == "Succeeded"


def test_selective_execution_shows_the_jobs_of_its_source(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    A step whose results come from a source execution shows the job and the model
    package of that execution.
    """
    create(
        definition(
            step("A"), step("B", "RegisterModel", "A"), step("C", "Processing", "B")
        )
    )
    first = start()
    server.control.advance(1000)
    config = {"SourcePipelineExecutionArn": first, "SelectedSteps": [{"StepName": "C"}]}
    second = sagemaker.start_pipeline_execution(
        PipelineName="Demo", SelectiveExecutionConfig=config
    )
    server.control.advance(60)
    before, after = steps_of(first), steps_of(second["PipelineExecutionArn"])
    for name in ("A", "B"):
        assert after[name]["Metadata"] == before[name]["Metadata"]
        assert after[name]["AttemptCount"] == 0
    assert before["B"]["Metadata"]["RegisterModel"]["Arn"].endswith(
        ":model-package/emulated/1"
    )
    assert after["C"]["Metadata"] != before["C"]["Metadata"]


@pytest.mark.parametrize(
    ("order", "reverse"), [(None, True), ("Descending", True), ("Ascending", False)]
)
def test_order_of_the_steps(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
    order: str | None,
    reverse: bool,
) -> None:
    """
    Steps are listed newest first unless the request has another order, also over
    several pages.
    """
    names = [f"S{index}" for index in range(7)]
    create(definition(*(step(name) for name in names)))
    arn = start()
    server.control.advance(60)
    request = {"PipelineExecutionArn": arn, **({"SortOrder": order} if order else {})}
    pages = list(
        sagemaker.get_paginator("list_pipeline_execution_steps").paginate(
            **request, PaginationConfig={"PageSize": 3}
        )
    )
    listed = [
        entry["StepName"] for page in pages for entry in page["PipelineExecutionSteps"]
    ]
    assert listed == sorted(names, reverse=reverse)
    assert [len(page["PipelineExecutionSteps"]) for page in pages] == [3, 3, 1]
