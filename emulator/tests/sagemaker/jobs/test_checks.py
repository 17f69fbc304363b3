"""
Tests of the violations that QualityCheck and ClarifyCheck steps find, through boto3.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.builders import execution
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of

VIOLATION = {
    "feature_name": "age",
    "constraint_check_type": "completeness_check",
    "description": "Less complete",
}
SCENARIO: dict[str, Any] = {"steps": {"Check": {"violations": [VIOLATION]}}}
FAILED = "ClientError: Quality check failed. See violation report."
REPORT = {"Bucket": "checks", "Key": "out/constraint_violations.json"}
CALCULATED = "s3://checks/out/constraints.json"


def check(kind: str = "QualityCheck", **members: Any) -> dict[str, Any]:
    """Return a check step that writes to s3://checks/out."""
    location = {"S3Uri": "s3://checks/out/", "S3UploadMode": "EndOfJob"}
    outputs = [{"OutputName": "result", "S3Output": location}]
    arguments = {"ProcessingOutputConfig": {"Outputs": outputs}}
    return step("Check", kind, Arguments=arguments, **members)


@pytest.mark.parametrize(
    ("members", "status", "reason"),
    [
        ({}, "Failed", FAILED),
        ({"FailOnViolation": True}, "Failed", FAILED),
        ({"FailOnViolation": None}, "Failed", FAILED),
        ({"FailOnViolation": "true"}, "Failed", FAILED),
        ({"FailOnViolation": {"Get": "Parameters.Strict"}}, "Failed", FAILED),
        ({"FailOnViolation": False}, "Succeeded", None),
        ({"FailOnViolation": {"Get": "Parameters.Lenient"}}, "Succeeded", None),
        ({"SkipCheck": True}, "Succeeded", None),
        (
            {"SkipCheck": {"Get": "Parameters.Strict"}, "FailOnViolation": True},
            "Succeeded",
            None,
        ),
        ({"SkipCheck": False}, "Failed", FAILED),
    ],
)
def test_flags(members: dict[str, Any], status: str, reason: str | None) -> None:
    """
    Violations fail a step unless the definition says otherwise; a skipped check finds
    none.
    """
    parameters = (
        {"Name": "Strict", "Type": "Boolean"},
        {"Name": "Lenient", "Type": "String"},
    )
    engine = execution(
        definition(check(**members), parameters=parameters),
        SCENARIO,
        Strict=True,
        Lenient="False",
    )
    engine.advance(24 * 3600)
    run = engine.runs["Check"]
    assert (run.status, engine.status, run.failure_reason) == (status, status, reason)


@pytest.mark.parametrize(
    ("kind", "fail", "version"),
    [
        ("QualityCheck", True, {}),
        ("ClarifyCheck", True, {"version": "1.0"}),
        ("QualityCheck", False, {}),
    ],
)
def test_report(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Callable[..., Any],
    server: EmulatorServer,
    client_of: ClientOf,
    kind: str,
    fail: bool,
    version: dict[str, str],
) -> None:
    """
    The report is in S3 when the check has ended, and the step shows where; so does one
    that succeeds.
    """
    create(definition(check(kind, FailOnViolation=fail)))
    server.control.put_scenario(SCENARIO)
    arn = start()
    server.control.advance(100)
    assert "ViolationReport" not in steps_of(arn)["Check"]["Metadata"][kind]
    assert error_of(client_of("s3").get_object, **REPORT)[0] == "NoSuchBucket"
    server.control.advance(1000)

    entry = steps_of(arn)["Check"]

    assert entry["StepStatus"] == ("Failed" if fail else "Succeeded")
    metadata = entry["Metadata"][kind]
    assert metadata["ViolationReport"] == "s3://{Bucket}/{Key}".format(**REPORT)
    assert "CalculatedBaselineConstraints" in metadata
    report = json.loads(client_of("s3").get_object(**REPORT)["Body"].read())
    assert report == {**version, "violations": [VIOLATION]}
    client_of("s3").delete_object(**REPORT)
    assert error_of(client_of("s3").get_object, **REPORT)[0] == "NoSuchKey"


def test_check_without_violations(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Callable[..., Any],
    server: EmulatorServer,
    client_of: ClientOf,
) -> None:
    """
    There is no report, neither if the check succeeds nor if it fails for another
    reason.
    """
    create(definition(check()))
    for scenario in ({}, {"steps": {"Check": {"fail": {}, "violations": [VIOLATION]}}}):
        server.control.put_scenario(scenario)
        arn = start()
        server.control.advance(1000)
        assert (
            "ViolationReport" not in steps_of(arn)["Check"]["Metadata"]["QualityCheck"]
        )
    assert client_of("s3").list_buckets()["Buckets"] == []


@pytest.mark.parametrize(
    ("members", "used"),
    [
        ({}, CALCULATED),
        ({"SuppliedBaselineConstraints": ""}, CALCULATED),
        (
            {"SuppliedBaselineConstraints": "s3://old/constraints.json"},
            "s3://old/constraints.json",
        ),
        (
            {
                "SuppliedBaselineConstraints": "s3://old/constraints.json",
                "RegisterNewBaseline": True,
            },
            CALCULATED,
        ),
    ],
)
def test_baselines(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Callable[..., Any],
    server: EmulatorServer,
    members: dict[str, Any],
    used: str,
) -> None:
    """
    A check calculates a baseline, and shows this one or the supplied one as the one
    that it has used.
    """
    create(definition(check(**members)))
    arn = start()
    server.control.advance(1000)
    metadata = steps_of(arn)["Check"]["Metadata"]["QualityCheck"]
    assert metadata["CalculatedBaselineConstraints"] == CALCULATED
    assert metadata["BaselineUsedForDriftCheckConstraints"] == used


def test_reused_check(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Callable[..., Any],
    server: EmulatorServer,
) -> None:
    """A step that reuses the results of another one shows the report of that one."""
    cache = {"Enabled": True, "ExpireAfter": "P1D"}
    create(definition(check(FailOnViolation=False, CacheConfig=cache), step("Other")))
    server.control.put_scenario(SCENARIO)
    start()
    server.control.advance(1000)
    server.control.put_scenario({})
    arn = start()
    server.control.advance(1000)

    entry = steps_of(arn)["Check"]

    assert entry["CacheHitResult"]["SourcePipelineExecutionArn"]
    assert entry["Metadata"]["QualityCheck"][
        "ViolationReport"
    ] == "s3://{Bucket}/{Key}".format(**REPORT)
