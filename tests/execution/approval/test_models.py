"""What is read of AWS's answers about model packages, and which arguments are accepted."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.approval.models import (
    ModelPackageDescription,
    check_approval,
    check_model_package_arn,
    check_model_package_group,
    group_of,
)

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-2/17"
GROUP_ARN = "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:model-package-group/Churn-2"
RESPONSE = {"ModelPackageArn": ARN, "ModelPackageStatus": "Completed"}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"UserProfileName": "ada", "IamIdentity": {"Arn": "arn:x"}}, "ada"),
        ({"IamIdentity": {"Arn": "arn:x", "SourceIdentity": "ada@example.com"}}, "ada@example.com"),
        ({"IamIdentity": {"Arn": "arn:x", "PrincipalId": "AROA"}}, "arn:x"),
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
    wrong: Any
    for wrong in (ARN + "\n", ARN + "/1", ARN.replace("/17", "/x"), "", None, GROUP_ARN, b"x"):
        with pytest.raises(ParametersError, match=r"^model_package_arn = .* give arn:aws"):
            check_model_package_arn(wrong)
    for wrong in ("-a", "a" * 64, "a/b", "a_b", ARN, "", 7):
        with pytest.raises(ParametersError, match=r"^model_package_group = .* give its name"):
            check_model_package_group(wrong)


def test_approvals() -> None:
    """AWS's three statuses and descriptions of at most 1,024 characters in one line are accepted."""
    for status in ("Approved", "Rejected", "PendingManualApproval"):
        check_approval(status, None)
        check_approval(status, "é" * 1024)
    for wrong in ("approved", None, ["Approved"]):
        with pytest.raises(ParametersError, match=r"^status = .* give one of Approved, Rejected"):
            check_approval(wrong, None)
    for text in ("x" * 1025, "a\nb", "a\x00", "a\u2028b", 7):
        with pytest.raises(ParametersError, match=r"^description = .* use at most 1,024 characters"):
            check_approval("Approved", text)
