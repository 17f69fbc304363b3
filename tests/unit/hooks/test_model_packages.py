"""The methods of the hook for model packages, at the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.stub import Stubber

from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import CALLER

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012:model-package"
ARN = f"{PREFIX}/churn/1"


@pytest.fixture
def hook(emulator: EmulatorServer) -> PolysyncSageMakerHook:
    """Return a hook whose account has a group with a version."""
    hook = PolysyncSageMakerHook()
    client: Any = hook.conn
    client.create_model_package_group(ModelPackageGroupName="Churn")
    client.create_model_package(
        ModelPackageGroupName="Churn", ModelApprovalStatus="PendingManualApproval"
    )
    return hook


def test_approval_has_what_aws_returns_after_a_change(
    hook: PolysyncSageMakerHook, emulator: EmulatorServer
) -> None:
    """
    The status, its description and who has set it are those that AWS returns
    afterwards.
    """
    assert hook.describe_model_package(ARN).approval_status == "PendingManualApproval"

    hook.update_model_approval(ARN, "Rejected", "Bias in group B")
    hook.update_model_approval(ARN, "Rejected")

    described = hook.describe_model_package(ARN)
    assert described.approval_status == "Rejected"
    assert described.approval_description == "Bias in group B"
    assert described.modified_by == CALLER
    assert described.modified_at
    assert described.modified_at.timestamp() == pytest.approx(
        emulator.control.clock()["now"], abs=5
    )


def test_newest_version_is_found_with_one_call(
    hook: PolysyncSageMakerHook, emulator: EmulatorServer
) -> None:
    """
    One call finds the version that was registered last, by the name of the group or its
    ARN.
    """
    client: Any = hook.conn
    for _ in range(3):
        client.create_model_package(ModelPackageGroupName="Churn")
    client.create_model_package_group(ModelPackageGroupName="Empty")
    emulator.control.clear_calls()

    for group in ("Churn", f"{PREFIX}-group/Churn"):
        newest = hook.newest_model_package(group)
        assert newest
        assert newest.arn == f"{PREFIX}/churn/4"
    assert hook.newest_model_package("Empty") is None
    assert [call["operation"] for call in emulator.control.calls()] == [
        "ListModelPackages"
    ] * 3


def test_arguments_that_are_not_valid_are_refused_before_a_call(
    hook: PolysyncSageMakerHook, emulator: EmulatorServer
) -> None:
    """They are refused before a call."""
    emulator.control.clear_calls()
    calls: tuple[Callable[[], Any], ...] = (
        lambda: hook.describe_model_package("churn"),
        lambda: hook.newest_model_package("a/b"),
        lambda: hook.update_model_approval("churn", "Approved"),
        lambda: hook.update_model_approval(ARN, "approved"),  # type: ignore[arg-type]
        lambda: hook.update_model_approval(ARN, "Approved", "x" * 1025),
    )
    for call in calls:
        with pytest.raises(ParametersError):
            call()

    assert emulator.control.calls() == []


def test_missing_package_or_group_is_named(hook: PolysyncSageMakerHook) -> None:
    """The error says what does not exist and where, and is permanent."""
    calls: tuple[tuple[Callable[[], Any], str], ...] = (
        (
            lambda: hook.describe_model_package(f"{PREFIX}/churn/9"),
            f"model package {PREFIX}/churn/9",
        ),
        (
            lambda: hook.update_model_approval(f"{PREFIX}/a/1", "Approved"),
            f"model package {PREFIX}/a/1",
        ),
        (lambda: hook.newest_model_package("Chrun"), "model package group Chrun"),
    )
    for call, subject in calls:
        with pytest.raises(SageMakerApiError, match="does not exist") as caught:
            call()
        assert f"there is no {subject} in region us-east-1" in str(caught.value)
        assert caught.value.permanent


DESCRIBE = "describe_model_package"
LIST = "list_model_packages"
IN_OTHER_REGION = f"{PREFIX}/churn/1".replace("us-east-1", "eu-west-1")


@pytest.mark.parametrize(
    ("operation", "arn", "status"),
    [
        (DESCRIBE, f"{PREFIX}/churn/2", "Completed"),
        (DESCRIBE, f"{PREFIX}/churn/1", ""),
        (LIST, f"{PREFIX}/another/1", "Completed"),
        (LIST, IN_OTHER_REGION, "Completed"),
    ],
)
def test_answers_about_something_else_approve_nothing(
    operation: str, arn: str, status: str, hook: PolysyncSageMakerHook
) -> None:
    """
    An answer about another model package, or without a status, is no answer of AWS's.
    """
    answer = {
        "ModelPackageName": "x",
        "CreationTime": 1e9,
        "ModelPackageStatus": status,
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "ModelApprovalStatus": "Approved",
        "ModelPackageArn": arn,
    }
    if operation == "list_model_packages":
        del answer["ModelPackageStatusDetails"]
        answer = {"ModelPackageSummaryList": [answer]}

    calls: dict[str, Any] = {
        DESCRIBE: lambda: hook.describe_model_package(ARN),
        LIST: lambda: hook.newest_model_package("Churn"),
    }

    with Stubber(hook.conn) as stubber:
        stubber.add_response(operation, answer)
        with pytest.raises(SageMakerApiError, match="not one of AWS's") as caught:
            calls[operation]()

    assert caught.value.transient
