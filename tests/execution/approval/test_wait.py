"""What a wait for an approval does after each poll, without AWS and Airflow."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution.approval.models import ModelPackageDescription
from polysync_airflow.execution.approval.wait import ApprovalWait, Finish, Wait, approval_message

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"
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
    from polysync_airflow.emulator.sagemaker.validation import service_model

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
    assert "the timeout of 1 h was reached; the last poll failed: Rate exceeded" in approval_message(
        late.event
    )


def test_without_a_deadline_airflow_ends_the_wait() -> None:
    """A sensor on a worker has no deadline of its own."""
    wait = ApprovalWait(ARN, 60.0, 1e9)

    step = wait.decide(described(approval="PendingManualApproval"), 9e9)

    assert isinstance(step, Wait)
    assert step.seconds == 60.0


def test_first_look_of_a_trigger_comes_after_a_delay() -> None:
    """The scheduler may fail a task that is resumed at once; a long interval does not pass the deadline."""
    assert WAIT.first_wait(1e9).seconds == 60.0
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
