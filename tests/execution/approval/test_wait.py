"""What a wait for an approval does after each poll, without AWS and Airflow."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution.approval.models import ApprovalEvent, ApprovalOutcome, ModelPackageDescription
from polysync_airflow.execution.approval.wait import ApprovalWait, Finish, Wait, approval_message
from polysync_airflow.execution.waiter import THROTTLING_BACKOFF_SECONDS, Failures

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"
LIMIT = "the limit of 1 h (timeout or execution_timeout) was reached"
WAIT = ApprovalWait(ARN, poll_interval=60.0, since=1e9, deadline=1e9 + 3600)
THROTTLED = SageMakerApiError(
    "Rate exceeded", error_code="ThrottlingException", operation="DescribeModelPackage", permanent=False
)


def described(status: str = "Completed", approval: str | None = "Approved", **more: Any) -> Any:
    """Return a description of the model package."""
    response = {"ModelPackageArn": ARN, "ModelPackageStatus": status, "ModelApprovalStatus": approval, **more}
    return ModelPackageDescription.model_validate(response)


def outcome(step: Wait | Finish) -> str:
    """Return the outcome of a step, ``wait`` if the wait goes on."""
    return step.event.outcome if isinstance(step, Finish) else "wait"


STATUSES = ("Pending", "InProgress", "Completed", "Failed", "Deleting", "Archived")
APPROVALS = ("Approved", "Rejected", "PendingManualApproval", None, "Perhaps")


@pytest.mark.parametrize(("status", "approval"), list(product(STATUSES, APPROVALS)))
def test_every_pair_of_statuses(status: str, approval: str | None) -> None:
    """Only Approved and Completed together let the task succeed; only Failed, Deleting and Rejected end it else."""
    outcomes: dict[tuple[str, str | None], str] = {
        ("Completed", "Approved"): "approved",
        **{(each, "Rejected"): "rejected" for each in STATUSES},
        **{(each, one): "failed" for each in ("Failed", "Deleting") for one in APPROVALS},
    }
    expected = outcomes.get((status, approval), "wait")

    assert outcome(WAIT.decide(described(status, approval), 1e9)) == expected
    # The deadline ends the wait only in place of going on.
    late = outcome(WAIT.decide(described(status, approval), 1e9 + 3600))
    assert late == ("timed_out" if expected == "wait" else expected)


def test_statuses_are_those_of_the_service_model() -> None:
    """A new status of AWS's fails this test."""
    from sagemaker_emulator.sagemaker.validation import service_model

    enums = {
        name: set(service_model().shape_for(name).metadata["enum"])
        for name in ("ModelPackageStatus", "ModelApprovalStatus")
    }

    assert enums["ModelPackageStatus"] == set(STATUSES) - {"Archived"}
    assert enums["ModelApprovalStatus"] == {each for each in APPROVALS if each} - {"Perhaps"}


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
        wait = step.wait

    assert [(level, text.split(":")[0]) for level, text in lines] == [
        (20, "PendingManualApproval"),
        (
            30,
            "PendingManualApproval -> Perhaps (unknown to this version; the wait goes on, until its timeout)",
        ),
        (30, "Poll failed, retrying"),
        (20, "Polls succeed again"),
        (20, "Perhaps -> Approved, package InProgress"),
    ]


def test_errors() -> None:
    """A permanent error ends the wait, every other one is retried later each time, until the deadline."""
    wait, seconds = WAIT, []
    for _ in range(4):
        step = wait.decide(THROTTLED, 1e9)
        assert isinstance(step, Wait)
        seconds.append(step.seconds)
        wait = step.wait
    assert seconds == [60.0, 120.0, 240.0, 300.0]

    ended = wait.decide(PolysyncError("gone"), 1e9)
    late = wait.decide(THROTTLED, 1e9 + 3600)
    assert (outcome(ended), outcome(late)) == ("refused", "timed_out")
    assert isinstance(late, Finish)
    assert (late.event.error_code, late.event.approval_status) == ("ThrottlingException", None)
    assert late.event.message == f"{LIMIT}; the last poll failed: Rate exceeded"
    refused = WAIT.decide(
        SageMakerApiError("no", error_code="AccessDenied", operation="X", permanent=True), 1e9
    )
    assert isinstance(refused, Finish)
    end = refused.event
    assert (end.outcome, end.message, end.error_code, end.operation) == ("refused", "no", "AccessDenied", "X")
    # With a rate limiter, which slows all polls down, the next one comes soon.
    limited = replace(WAIT, rate_limited=True, poll_interval=200.0)
    for error, expected in (
        (THROTTLED, THROTTLING_BACKOFF_SECONDS),
        (PolysyncError("x", permanent=False), 200.0),
    ):
        step = limited.decide(error, 1e9)
        assert isinstance(step, Wait)
        assert step.seconds == expected


def test_another_error_is_another_line() -> None:
    """An outage whose error changes is logged again; an outage that ends begins anew."""
    wait, lines = WAIT, []
    pending = described(approval="PendingManualApproval")
    for answer in (THROTTLED, PolysyncError("x", permanent=False), THROTTLED, pending, THROTTLED):
        step = wait.decide(answer, 1e9)
        assert isinstance(step, Wait)
        lines += [line.text for line in step.log_lines]
        wait = step.wait

    throttled = "Poll failed, retrying: Rate exceeded"
    assert lines[:3] == [throttled, "Poll failed, retrying: x", throttled]
    assert lines[3:] == [
        f"Polls succeed again: {ARN}",
        f"PendingManualApproval: model package {ARN}",
        throttled,
    ]
    assert wait.failures == Failures(1, 1e9, "Rate exceeded", "Rate exceeded")


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
        f"no approval status (unknown to this version; the wait goes on, until its timeout): model package {ARN}"
    ]


PACKAGE = f"Model package {ARN}"


@pytest.mark.parametrize(
    ("outcome", "members", "message"),
    [
        ("approved", {}, f"{PACKAGE} is approved"),
        (
            "rejected",
            {"modified_by": "ada", "approval_description": "x" * 1025},
            f"{PACKAGE} is rejected (last changed by ada): {'x' * 1021}...",
        ),
        (
            "failed",
            {"status": "Failed"},
            f"{PACKAGE} cannot be used: its status is Failed. -- What to do: register a new version of the model.",
        ),
        (
            "failed",
            {"status": "Deleting", "message": "x" * 2049},
            f"{PACKAGE} cannot be used: its status is Deleting: {'x' * 2045}.... -- What to do: register a new "
            "version of the model.",
        ),
        (
            "timed_out",
            {"message": "1 h", "approval_status": "PendingManualApproval"},
            f"{PACKAGE} was not approved in time: 1 h. Its last known approval status is PendingManualApproval.",
        ),
        (
            "timed_out",
            {"message": "1 h"},
            f"{PACKAGE} was not approved in time: 1 h. Its last known approval status is unknown.",
        ),
        ("refused", {"message": "no"}, f"The wait for the approval of {ARN} has ended: no"),
    ],
)
def test_messages(outcome: ApprovalOutcome, members: dict[str, Any], message: str) -> None:
    """Each end of a wait is one line."""
    event = ApprovalEvent(outcome=outcome, model_package_arn=ARN, **members)

    assert approval_message(event) == message


def test_reason_of_a_failed_package() -> None:
    """It is AWS's own."""
    details = {"ValidationStatuses": [{"FailureReason": "no image"}]}
    step = WAIT.decide(described("Failed", ModelPackageStatusDetails=details), 1e9)

    assert isinstance(step, Finish)
    assert step.event.message == "no image"


def test_no_wait_is_longer_than_the_deadline() -> None:
    """The last poll comes at the deadline."""
    step = WAIT.decide(described(approval="PendingManualApproval"), 1e9 + 3599.5)

    assert isinstance(step, Wait)
    assert step.seconds == 0.5


def test_first_look_of_a_trigger_comes_after_a_delay() -> None:
    """The scheduler may fail a task that is resumed at once; a long interval does not pass the deadline."""
    assert WAIT.first_wait(1e9) == Wait(60.0, WAIT)
    assert WAIT.first_wait(1e9 + 3590).seconds == 10.0
    assert WAIT.first_wait(1e9 + 9999).seconds == 5.0


def test_texts_of_others_begin_no_line() -> None:
    """The reason of a rejection, and the name of who did it, cannot look like lines of Airflow's log."""
    reason = "no\n::endgroup::\n[2026-01-01] INFO - Task succeeded\x1b[2J"
    user = {"UserProfileName": "eve\n::group::"}
    step = WAIT.decide(described(approval="Rejected", ApprovalDescription=reason, LastModifiedBy=user), 1e9)

    assert isinstance(step, Finish)
    message = approval_message(step.event)
    assert "\n" not in message
    assert "\x1b" not in message
    assert "::group::" not in message
    assert "(last changed by eve" in message


def test_outage_of_shared_polls_is_logged_if_it_lasts() -> None:
    """The triggerer's log has a line for all waits; that of the task names an error of five minutes."""
    wait, lines = replace(WAIT, rate_limited=True), []
    for after in (0.0, 299.0, 300.0):
        step = wait.decide(THROTTLED, 1e9 + after)
        assert isinstance(step, Wait)
        wait = step.wait
        lines.append([line.text for line in step.log_lines])

    assert lines == [[], [], ["Poll failed, retrying for 5 min: Rate exceeded"]]
