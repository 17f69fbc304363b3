"""What is read of AWS's answers about model packages, and which arguments are accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from polysync_airflow.exceptions import ParametersError, TriggerEventError
from polysync_airflow.execution.approval.models import (
    ModelPackageDescription,
    check_approval,
    check_model_package_arn,
    check_model_package_group,
    group_of,
    parse_approval_event,
)
from polysync_airflow.execution.texts import shorten

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-2/17"
GROUP_ARN = "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:model-package-group/Churn-2"
RESPONSE = {"ModelPackageArn": ARN, "ModelPackageStatus": "Completed"}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"UserProfileName": "ada", "IamIdentity": {"Arn": "arn:x"}}, "ada"),
        ({"IamIdentity": {"Arn": "arn:x", "SourceIdentity": "ada@example.com"}}, "ada@example.com"),
        ({"IamIdentity": {"Arn": "arn:x", "PrincipalId": "AROA"}}, "arn:x"),
        ({"UserProfileName": "x" * 3000}, "x" * 2045 + "..."),
        ({"IamIdentity": "x", "UserProfileName": 7}, None),
        ("ada", None),
        (None, None),
    ],
)
def test_who_changed_it(context: Any, expected: str | None) -> None:
    """The clearest name counts; anything of another form is no name, and the answer stays valid."""
    response = {**RESPONSE, "LastModifiedBy": context}

    assert ModelPackageDescription.model_validate(response).modified_by == expected


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (
            {"ValidationStatuses": [{"Name": "a"}, {"FailureReason": "no image"}], "ImageScanStatuses": []},
            "no image",
        ),
        ({"ImageScanStatuses": [{"FailureReason": "x" * 5000}]}, "x" * 1297 + "..."),
        ({"ValidationStatuses": "x", "ImageScanStatuses": [7, {"FailureReason": 7}]}, None),
        ([], None),
    ],
)
def test_why_it_failed(details: Any, expected: str | None) -> None:
    """The first reason is read, cut to the length of AWS's other reasons."""
    response = {**RESPONSE, "ModelPackageStatusDetails": details}

    assert ModelPackageDescription.model_validate(response).failure_reason == expected


def test_description_is_cleaned() -> None:
    """It keeps its line breaks as data, without control characters, and at most as long as AWS allows."""
    response = {**RESPONSE, "ApprovalDescription": "a\nb\x00" + "c" * 5000}

    text = ModelPackageDescription.model_validate(response).approval_description or ""

    assert text.startswith("a\nb\ufffd")
    assert len(text) == 1024


@pytest.mark.parametrize(
    "changes",
    [
        {"ModelPackageArn": "arn:aws:sagemaker:us-east-1:123456789012:model-package/single"},
        {"ModelPackageStatus": "<b>Completed</b>"},
        {"ModelPackageStatus": None},
        {"ModelApprovalStatus": "Approved\n"},
    ],
)
def test_other_answers_are_not_valid(changes: dict[str, Any]) -> None:
    """A status that is no name, and the ARN of something else, are not AWS's."""
    with pytest.raises(ValidationError):
        ModelPackageDescription.model_validate({**RESPONSE, **changes})


def test_arns_and_groups() -> None:
    """ARNs of versions, and names and ARNs of groups, are accepted; the group of each is compared in lower case."""
    assert check_model_package_arn(ARN) == ARN
    assert [check_model_package_group(each) for each in ("C", GROUP_ARN)] == ["C", GROUP_ARN]
    assert [group_of(each) for each in (ARN, GROUP_ARN, "Churn-2")] == ["churn-2"] * 3


def raised(check: Callable[..., object], *values: Any) -> str:
    """Return the text of the error for values that are not valid."""
    with pytest.raises(ParametersError) as caught:
        check(*values)
    return str(caught.value)


@pytest.mark.parametrize(
    "wrong", [ARN + "\n", ARN + "/1", ARN.replace("/17", "/x"), "", None, GROUP_ARN, b"x"]
)
def test_not_the_arn_of_a_version(wrong: Any) -> None:
    """The error says which ARN is meant, and where to find it."""
    assert raised(check_model_package_arn, wrong) == (
        f"model_package_arn = {shorten(wrong)} is not the ARN of a version of a model package group, and nothing else "
        "has an approval status: give arn:aws:sagemaker:<region>:<account>:model-package/<group>/<version>, such as "
        "model_package_arn in the XCom 'outputs' of the task that trained it."
    )


@pytest.mark.parametrize("wrong", ["-a", "a" * 64, "a/b", "a_b", ARN, "", 7])
def test_not_a_group(wrong: Any) -> None:
    """The error says what a name is, and what an ARN."""
    assert raised(check_model_package_group, wrong) == (
        f"model_package_group = {shorten(wrong)} is not a model package group: give its name (1 to 63 letters, digits "
        "and hyphens, beginning and ending with a letter or digit) or its ARN, "
        "arn:aws:sagemaker:<region>:<account>:model-package-group/<name>."
    )


def test_approvals() -> None:
    """AWS's three statuses and descriptions of at most 1,024 characters in one line are accepted."""
    for status in ("Approved", "Rejected", "PendingManualApproval"):
        check_approval(status, None)
        check_approval(status, "é" * 1024)
    wrong: Any
    for wrong in ("approved", None, ["Approved"]):
        assert raised(check_approval, wrong, None) == (
            f"status = {shorten(wrong)} is not valid: give one of Approved, Rejected, PendingManualApproval."
        )
    for wrong in ("x" * 1025, "a\nb", "a\x00", "a\u2028b", 7):
        assert raised(check_approval, "Approved", wrong) == (
            f"description = {shorten(wrong)} is not valid: use at most 1,024 characters without line breaks and "
            "control characters, or leave it out."
        )


def test_event_is_parsed() -> None:
    """An event of the trigger is accepted; another one is an error that names its members, not their values."""
    event = {"outcome": "approved", "model_package_arn": ARN}

    assert parse_approval_event(event).outcome == "approved"
    with pytest.raises(TriggerEventError) as caught:
        parse_approval_event({**event, "outcome": "s3cret"})
    assert str(caught.value) == (
        "Airflow resumed the task with an event that is not one of PolysyncModelApprovalTrigger: outcome: "
        "Input should be 'approved', 'rejected', 'failed', 'timed_out' or 'refused'"
    )
