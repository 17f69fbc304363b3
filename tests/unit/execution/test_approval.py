"""
Model packages: what a wait for an approval does after each poll, AWS's answers, and the
arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from polysync_airflow.exceptions import ParametersError, PolysyncError
from polysync_airflow.execution.approval import (
    ApprovalEvent,
    ApprovalWaiter,
    ModelPackageDescription,
    approval_message,
    check_approval,
    check_model_package_arn,
    check_model_package_group,
    group_of,
)
from polysync_airflow.execution.texts import shorten
from polysync_airflow.execution.waiter import Finish, Wait
from tests.unit.execution.lifecycle.builders import api_error

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"
LIMIT = "the limit of 1 h (timeout= or execution_timeout=) was reached"
WAIT = ApprovalWaiter(
    model_package_arn=ARN, poll_interval=60.0, since=1e9, deadline=1e9 + 3600
)
THROTTLED = api_error("ThrottlingException", "Rate exceeded")


def described(
    status: str = "Completed", approval: str | None = "Approved", **more: Any
) -> Any:
    """Return a description of the model package."""
    response = {
        "ModelPackageArn": ARN,
        "ModelPackageStatus": status,
        "ModelApprovalStatus": approval,
        **more,
    }
    return ModelPackageDescription.model_validate(response)


def outcome(step: Wait[Any] | Finish[Any]) -> str:
    """Return the outcome of a step, ``wait`` if the wait goes on."""
    return step.event.outcome if isinstance(step, Finish) else "wait"


# Those of the service model: tests/unit/aws/test_service_model_values.py.
STATUSES = ("Pending", "InProgress", "Completed", "Failed", "Deleting", "Archived")
APPROVALS = ("Approved", "Rejected", "PendingManualApproval", None, "Perhaps")


@pytest.mark.parametrize(("status", "approval"), list(product(STATUSES, APPROVALS)))
def test_only_approved_and_completed_together_succeed(
    status: str, approval: str | None
) -> None:
    """
    Only Approved and Completed together let the task succeed; only Failed, Deleting and
    Rejected end it else.
    """
    outcomes: dict[tuple[str, str | None], str] = {
        ("Completed", "Approved"): "approved",
        **{(each, "Rejected"): "rejected" for each in STATUSES},
        **dict.fromkeys(product(("Failed", "Deleting"), APPROVALS), "failed"),
    }
    expected = outcomes.get((status, approval), "wait")

    assert outcome(WAIT.decide(described(status, approval), 1e9)) == expected
    # The deadline ends the wait only in place of going on.
    late = outcome(WAIT.decide(described(status, approval), 1e9 + 3600))
    assert late == ("timed_out" if expected == "wait" else expected)


def test_each_change_is_logged_once() -> None:
    """A line for each change of status; a status that is not known is a warning."""
    lines: list[tuple[int, str]] = []
    wait = WAIT
    for answer in (
        described(approval="PendingManualApproval"),
        described(approval="PendingManualApproval"),
        described(approval="Perhaps"),
        described(approval="Perhaps"),
        THROTTLED,
        THROTTLED,
        described("InProgress"),
    ):
        step = wait.decide(answer, 1e9)
        assert isinstance(step, Wait)
        lines += [(line.level, line.text) for line in step.log_lines]
        wait = step.waiter

    assert [(level, text.split(":")[0]) for level, text in lines] == [
        (20, "PendingManualApproval"),
        (
            30,
            (
                "PendingManualApproval -> Perhaps (unknown to this version; the wait"
                " goes on, until its timeout)"
            ),
        ),
        (30, "Poll failed, retrying"),
        (20, "Polls succeed again"),
        (20, "Perhaps -> Approved, package InProgress"),
    ]


def test_refusals_have_no_approval_status() -> None:
    """AWS has said nothing yet; the rules of errors are those of all waits."""
    refused = WAIT.decide(PolysyncError("gone"), 1e9)
    late = WAIT.decide(THROTTLED, 1e9 + 3600)

    assert outcome(refused) == "refused"
    assert isinstance(late, Finish)
    assert late.event.outcome == "timed_out"
    assert late.event.error_code == "ThrottlingException"
    assert late.event.approval_status is None
    assert late.event.message == f"{LIMIT}; the last poll failed: Rate exceeded"


def test_event_has_what_aws_said() -> None:
    """The end of a wait has AWS's last answer, and the line of its change."""
    user = {"UserProfileName": "ada"}
    step = WAIT.decide(described(ApprovalDescription="good", LastModifiedBy=user), 1e9)
    assert isinstance(step, Finish)

    assert step.event == ApprovalEvent(
        outcome="approved",
        model_package_arn=ARN,
        approval_status="Approved",
        status="Completed",
        approval_description="good",
        modified_by="ada",
    )
    assert [line.text for line in step.log_lines] == [f"Approved: model package {ARN}"]
    late = WAIT.decide(described(approval=None), 1e9 + 3600)
    assert isinstance(late, Finish)
    assert late.event.message == LIMIT
    assert [line.text for line in late.log_lines] == [
        (
            "no approval status (unknown to this version; the wait goes on, until its"
            f" timeout): model package {ARN}"
        )
    ]


REGISTER = "-- What to do: register a new version of the model."
LONG = {"modified_by": "ada", "approval_description": "x" * 1025}
PENDING = {"message": "1 h", "approval_status": "PendingManualApproval"}
IN_TIME = "was not approved in time: 1 h. Its last known approval status is"
UNUSABLE = "cannot be used: its status is"


def test_each_end_of_a_wait_is_one_line() -> None:
    """Each end of a wait is one line."""
    for outcome, members, message in (
        ("approved", {}, "is approved"),
        ("rejected", LONG, f"is rejected (last changed by ada): {'x' * 1021}..."),
        ("failed", {"status": "Failed"}, f"{UNUSABLE} Failed. {REGISTER}"),
        (
            "failed",
            {"status": "Deleting", "message": "x" * 2049},
            f"{UNUSABLE} Deleting: {'x' * 2045}.... {REGISTER}",
        ),
        ("timed_out", PENDING, f"{IN_TIME} PendingManualApproval."),
        ("timed_out", {"message": "1 h"}, f"{IN_TIME} unknown."),
    ):
        event = ApprovalEvent(outcome=outcome, model_package_arn=ARN, **members)

        assert approval_message(event) == f"Model package {ARN} {message}"


def test_message_of_a_refusal_knows_nothing_of_the_package() -> None:
    """Nothing is known of the model package."""
    event = ApprovalEvent(outcome="refused", model_package_arn=ARN, message="no")

    message = f"The wait for the approval of {ARN} has ended: no"
    assert approval_message(event) == message


@pytest.mark.parametrize(
    ("status", "approval"),
    [("Failed", None), ("Completed", "Approved"), ("Completed", "Rejected")],
)
def test_event_has_the_reason_that_aws_gives(status: str, approval: str | None) -> None:
    """Of a package that will not complete, and of one that was approved or rejected."""
    details = {"ValidationStatuses": [{"FailureReason": "no image"}]}
    last = described(status, approval, ModelPackageStatusDetails=details)
    step = WAIT.decide(last, 1e9)

    assert isinstance(step, Finish)
    assert step.event.message == "no image"


def test_texts_of_others_begin_no_line() -> None:
    """
    The reason of a rejection, and the name of who did it, cannot look like lines of
    Airflow's log.
    """
    reason = "no\n::endgroup::\n[2026-01-01] INFO - Task succeeded\x1b[2J"
    user = {"UserProfileName": "eve\n::group::"}
    texts: Any = {"ApprovalDescription": reason, "LastModifiedBy": user}
    step = WAIT.decide(described(approval="Rejected", **texts), 1e9)

    assert isinstance(step, Finish)
    message = approval_message(step.event)
    assert "\n" not in message
    assert "\x1b" not in message
    assert "::group::" not in message
    assert "(last changed by eve" in message


# ---- AWS's answers, and arguments

GROUP_ARN = (
    "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:model-package-group/Churn"
)


def test_clearest_name_of_who_changed_it_counts() -> None:
    """
    The clearest name counts; anything of another form is no name, and the answer stays
    valid.
    """
    for context, expected in (
        ({"UserProfileName": "ada", "IamIdentity": {"Arn": "arn:x"}}, "ada"),
        ({"IamIdentity": {"Arn": "arn:x", "SourceIdentity": "a@b.org"}}, "a@b.org"),
        ({"IamIdentity": {"Arn": "arn:x", "PrincipalId": "AROA"}}, "arn:x"),
        ({"UserProfileName": "x" * 3000}, "x" * 2045 + "..."),
        ({"IamIdentity": "x", "UserProfileName": 7}, None),
        (None, None),
    ):
        assert described(LastModifiedBy=context).modified_by == expected


NO_IMAGE = {"ValidationStatuses": [{"Name": "a"}, {"FailureReason": "no image"}]}
DAMAGED = {"ValidationStatuses": "x"}


def test_first_reason_of_a_failure_is_read() -> None:
    """The first reason is read, cut to the length of AWS's other reasons."""
    for details, expected in (
        ({**NO_IMAGE, "ImageScanStatuses": []}, "no image"),
        ({"ImageScanStatuses": [{"FailureReason": "x" * 5000}]}, "x" * 1297 + "..."),
        ({**DAMAGED, "ImageScanStatuses": [7, {"FailureReason": 7}]}, None),
        ([], None),
    ):
        assert described(ModelPackageStatusDetails=details).failure_reason == expected


def test_description_is_cleaned() -> None:
    """
    It keeps its line breaks as data, without control characters, and at most as long as
    AWS allows.
    """
    description = described(ApprovalDescription="a\nb\x00" + "c" * 5000)

    text = description.approval_description
    assert text.startswith("a\nb\ufffd")
    assert len(text) == 1024


def test_answer_without_arn_or_status_is_not_valid() -> None:
    """A status that is no name, and the ARN of something else, are not AWS's."""
    for changes in (
        {"ModelPackageArn": ARN.replace("/churn/1", "/single")},
        {"ModelPackageStatus": "<b>Completed</b>"},
        {"ModelPackageStatus": None},
        {"ModelApprovalStatus": "Approved\n"},
    ):
        with pytest.raises(ValidationError):
            described(**changes)


def test_versions_and_groups_are_accepted_in_each_form() -> None:
    """
    ARNs of versions, and names and ARNs of groups, are accepted; the group of each is
    compared in lower case.
    """
    assert check_model_package_arn(ARN) == ARN
    assert check_model_package_group("C") == "C"
    assert check_model_package_group(GROUP_ARN) == GROUP_ARN
    assert {group_of(each) for each in (ARN, GROUP_ARN, "Churn")} == {"churn"}


def raised(check: Callable[..., object], *values: Any) -> str:
    """Return the text of the error for values that are not valid."""
    with pytest.raises(ParametersError) as caught:
        check(*values)
    return str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [f"{ARN}\n", f"{ARN}/1", f"{ARN}x", "", None, GROUP_ARN, b"x"],
    ids=ascii,
)
def test_value_that_is_no_arn_of_a_version_is_refused(wrong: Any) -> None:
    """The error says which ARN is meant, and where to find it."""
    assert raised(check_model_package_arn, wrong) == (
        f"model_package_arn = {shorten(wrong)} is not the ARN of a version of a model"
        " package group, and nothing else has an approval status: give"
        " arn:aws:sagemaker:<region>:<account>:model-package/<group>/<version>, such"
        " as model_package_arn in the XCom 'outputs' of the task that trained it."
    )


@pytest.mark.parametrize("wrong", ["-a", "a" * 64, "a/b", "a_b", ARN, "", 7])
def test_value_that_is_no_group_is_refused(wrong: Any) -> None:
    """The error says what a name is, and what an ARN."""
    assert raised(check_model_package_group, wrong) == (
        f"model_package_group = {shorten(wrong)} is not a model package group: give"
        " its name (1 to 63 letters, digits and hyphens, beginning and ending with a"
        " letter or digit) or its ARN,"
        " arn:aws:sagemaker:<region>:<account>:model-package-group/<name>."
    )


def test_only_statuses_and_short_descriptions_are_accepted() -> None:
    """
    AWS's three statuses and descriptions of at most 1,024 characters in one line are
    accepted.
    """
    for status in ("Approved", "Rejected", "PendingManualApproval"):
        check_approval(status, None)
        check_approval(status, "é" * 1024)
    wrong: Any
    for wrong in ("approved", None, ["Approved"]):
        assert raised(check_approval, wrong, None) == (
            f"status = {shorten(wrong)} is not valid: give one of Approved, Rejected,"
            " PendingManualApproval."
        )
    for wrong in ("x" * 1025, "a\nb", "a\x00", "a\u2028b", 7):
        assert raised(check_approval, "Approved", wrong) == (
            f"description = {shorten(wrong)} is not valid: use at most 1,024"
            " characters without line breaks and control characters, or leave it out."
        )
