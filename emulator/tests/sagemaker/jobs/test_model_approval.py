"""Tests of the operations on model packages: list, approve, delete; through boto3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import CALLER, definition
from tests.sagemaker.jobs.test_model_packages import GROUP, STATUS, register
from tests.sagemaker.test_pipelines import error_of

PENDING = "PendingManualApproval"
SUMMARIES = "ModelPackageSummaryList"


@pytest.fixture
def versions(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
) -> list[str]:
    """
    Register three versions a minute apart, the second of which is approved; return
    their ARNs.
    """
    create(definition(register(InferenceSpecification=None), parameters=(STATUS,)))
    for status in ("PendingManualApproval", "Approved", "Rejected"):
        start("Demo", Status=status)
        server.control.advance(60)
    return [f"{GROUP}/{number}" for number in (1, 2, 3)]


def listed(sagemaker: Any, **request: Any) -> list[str]:
    """Return the ARNs of one page."""
    return [
        each["ModelPackageArn"]
        for each in sagemaker.list_model_packages(**request)[SUMMARIES]
    ]


def test_lists(versions: list[str], sagemaker: Any) -> None:
    """The order, the filters and the pages are those of ListModelPackages."""
    one, two, three = versions
    group = {"ModelPackageGroupName": "Churn"}
    times = [
        sagemaker.describe_model_package(ModelPackageName=arn)["CreationTime"]
        for arn in versions
    ]

    assert listed(sagemaker, **group) == versions
    assert listed(sagemaker, **group, SortOrder="Descending") == [three, two, one]
    assert listed(sagemaker, **group, SortBy="Name", SortOrder="Descending") == [
        three,
        two,
        one,
    ]
    assert listed(sagemaker, **group, ModelApprovalStatus="Approved") == [two]
    assert listed(
        sagemaker, **group, CreationTimeAfter=times[0], CreationTimeBefore=times[2]
    ) == [two]
    assert listed(sagemaker, **group, NameContains="hur") == versions
    assert listed(sagemaker, **group, NameContains="x") == []
    arn = GROUP.replace("model-package/churn", "model-package-group/Churn")
    assert listed(sagemaker, ModelPackageGroupName=arn) == versions
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        **group, PaginationConfig={"PageSize": 2}
    )
    assert [
        [each["ModelPackageVersion"] for each in page[SUMMARIES]] for page in pages
    ] == [[1, 2], [3]]
    assert error_of(sagemaker.list_model_packages, ModelPackageGroupName="Chrun") == (
        "ValidationException",
        f"ModelPackageGroup {GROUP.rpartition(':')[0]}:model-package-group/Chrun does not exist.",
    )


def test_lists_without_a_group(versions: list[str], sagemaker: Any) -> None:
    """
    Without a group, packages without one are listed, unless the request says otherwise.
    """
    sagemaker.create_model_package(ModelPackageName="single")
    single = GROUP.replace("churn", "single")

    assert listed(sagemaker) == [single]
    assert listed(sagemaker, ModelPackageType="Versioned") == versions
    assert set(listed(sagemaker, ModelPackageType="Both")) == {single, *versions}


@pytest.mark.parametrize("skipped", ["All", "None"])
def test_skipped_validation(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
    skipped: str,
) -> None:
    """
    A package that a step or a client registers keeps SkipModelValidation, as any other
    member.
    """
    create(
        definition(
            register(SkipModelValidation=skipped, InferenceSpecification=None),
            parameters=(STATUS,),
        )
    )
    start()
    server.control.advance(60)
    arns = [f"{GROUP}/1"]
    for request in ({"ModelPackageGroupName": "Churn"}, {"ModelPackageName": "single"}):
        response = sagemaker.create_model_package(
            SkipModelValidation=skipped, **request
        )
        arns.append(response["ModelPackageArn"])

    described = [sagemaker.describe_model_package(ModelPackageName=arn) for arn in arns]

    assert [each["SkipModelValidation"] for each in described] == [skipped] * 3
    assert arns == [f"{GROUP}/1", f"{GROUP}/2", GROUP.replace("churn", "single")]
    assert [each.get("ModelApprovalStatus") for each in described] == [
        "Approved",
        PENDING,
        None,
    ]
    now = server.control.clock()["now"]
    assert described[1]["CreationTime"].timestamp() == pytest.approx(now, abs=1)


def test_refused_packages(versions: list[str], sagemaker: Any) -> None:
    """A package has a name or a group, and the group exists."""
    for request, message in (
        ({}, "Specify either ModelPackageName or ModelPackageGroupName."),
        (
            {"ModelPackageName": "a", "ModelPackageGroupName": "Churn"},
            "Specify either ModelPackageName or ModelPackageGroupName.",
        ),
        (
            {"ModelPackageGroupName": "Chrun"},
            f"ModelPackageGroup {GROUP.rpartition(':')[0]}:model-package-group/Chrun does not exist.",
        ),
    ):
        assert error_of(sagemaker.create_model_package, **request) == (
            "ValidationException",
            message,
        )


def test_approval(versions: list[str], server: EmulatorServer, sagemaker: Any) -> None:
    """
    An update changes what it names only, at the emulated time, and says who made it.
    """
    arn = versions[0]
    server.control.advance(1000)

    response = sagemaker.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Approved",
        ApprovalDescription="Checked",
        CustomerMetadataProperties={"a": "1", "b": "2"},
    )
    sagemaker.update_model_package(
        ModelPackageArn=arn, CustomerMetadataPropertiesToRemove=["a"]
    )

    described = sagemaker.describe_model_package(ModelPackageName=arn)
    assert response["ModelPackageArn"] == arn
    assert (described["ModelApprovalStatus"], described["ApprovalDescription"]) == (
        "Approved",
        "Checked",
    )
    assert described["CustomerMetadataProperties"] == {"b": "2"}
    assert described["LastModifiedTime"].timestamp() == pytest.approx(
        server.control.clock()["now"], abs=1
    )
    assert described["LastModifiedBy"]["IamIdentity"]["Arn"] == CALLER
    assert (
        listed(sagemaker, ModelPackageGroupName="Churn", ModelApprovalStatus="Approved")
        == versions[:2]
    )


def test_refused_updates(versions: list[str], sagemaker: Any) -> None:
    """
    A wrong status, a long description and a package that does not exist are refused as
    by AWS.
    """
    for request in (
        {"ModelPackageArn": versions[0], "ModelApprovalStatus": "Perhaps"},
        {"ModelPackageArn": versions[0], "ApprovalDescription": "x" * 1025},
    ):
        assert (
            error_of(sagemaker.update_model_package, **request)[0]
            == "ValidationException"
        )
    missing = {"ModelPackageArn": f"{GROUP}/9", "ModelApprovalStatus": "Approved"}
    assert error_of(sagemaker.update_model_package, **missing) == (
        "ValidationException",
        f"ModelPackage {GROUP}/9 does not exist.",
    )


def test_deletion(versions: list[str], sagemaker: Any) -> None:
    """A deleted package is gone, and its number is not given to another one."""
    sagemaker.delete_model_package(ModelPackageName=versions[2])

    missing = ("ValidationException", f"ModelPackage {versions[2]} does not exist.")
    assert (
        error_of(sagemaker.describe_model_package, ModelPackageName=versions[2])
        == missing
    )
    assert (
        error_of(sagemaker.delete_model_package, ModelPackageName=versions[2])
        == missing
    )
    assert listed(sagemaker, ModelPackageGroupName="Churn") == versions[:2]
    created = sagemaker.create_model_package(ModelPackageGroupName="Churn")
    assert created["ModelPackageArn"] == f"{GROUP}/4"
