"""The decision core of a wait: intervals, backoff, deadlines and log lines."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.waiter import (
    FIRST_POLL_DELAY_SECONDS,
    MAX_BACKOFF_SECONDS,
    Finish,
    Wait,
    Waiter,
)

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abcdefghijkl"


def make_waiter(**fields: Any) -> Waiter:
    """Return the state of a wait that began at 0 and has its deadline at 3,600."""
    return Waiter(
        **{
            "execution_arn": ARN,
            "pipeline_name": "churn",
            "poll_interval": 30,
            "since": 0,
            "deadline": 3600,
            **fields,
        }
    )


def described(status: str) -> ExecutionDescription:
    """Return a DescribePipelineExecution response with a status."""
    return ExecutionDescription.model_validate(
        {"PipelineExecutionArn": ARN, "PipelineExecutionStatus": status}
    )


def api_error(permanent: bool = False, message: str = "Rate exceeded") -> SageMakerApiError:
    """Return the error of a failed poll."""
    return SageMakerApiError(
        message, error_code="ThrottlingException", operation="Describe", permanent=permanent
    )


@pytest.mark.parametrize(("interval", "first"), [(1, FIRST_POLL_DELAY_SECONDS), (30, 30), (600, 600)])
def test_first_poll_is_not_within_the_first_seconds(interval: float, first: float) -> None:
    """The first poll is delayed: the scheduler may fail a task that resumes right after its deferral."""
    assert make_waiter(poll_interval=interval).first_wait(0).seconds == first


def test_no_sleep_lasts_longer_than_the_deadline() -> None:
    """The last poll is at the deadline, even if the poll interval ends later."""
    step = make_waiter(poll_interval=600).decide(described("Executing"), 3300)

    assert isinstance(step, Wait)
    assert step.seconds == 300


@pytest.mark.parametrize(
    ("status", "outcome"), [("Executing", "timed_out"), ("Succeeded", "ended"), ("New", "timed_out")]
)
def test_last_poll_at_the_deadline_decides(status: str, outcome: str) -> None:
    """An execution that ended in time counts as ended, even if only the last poll shows its end."""
    step = make_waiter().decide(described(status), 3600)

    assert isinstance(step, Finish)
    assert step.event.outcome == outcome


def test_failed_polls_back_off_until_one_succeeds() -> None:
    """Intervals double up to the maximum, one warning is logged, and a successful poll resets the backoff."""
    step = make_waiter().first_wait(0)
    sleeps, warnings = [], 0
    for _ in range(7):
        next_step = step.waiter.decide(api_error(), 100)
        assert isinstance(next_step, Wait)
        sleeps.append(next_step.seconds)
        warnings += len(next_step.log_lines)
        step = next_step
    recovered = step.waiter.decide(described("Executing"), 200)

    assert sleeps == [
        30,
        60,
        120,
        240,
        MAX_BACKOFF_SECONDS,
        MAX_BACKOFF_SECONDS,
        MAX_BACKOFF_SECONDS,
    ]
    assert warnings == 1
    assert isinstance(recovered, Wait)
    assert recovered.seconds == 30
    assert any("polls succeed again" in line.text for line in recovered.log_lines)


def test_backoff_is_not_shorter_than_the_poll_interval() -> None:
    """A poll interval above the maximum backoff is used unchanged."""
    step = make_waiter(poll_interval=900).decide(api_error(), 0)

    assert isinstance(step, Wait)
    assert step.seconds == 900


def test_permanent_error_ends_the_wait() -> None:
    """A permanent error ends the wait at once, and the event has its message, error code and operation."""
    step = make_waiter().decide(api_error(permanent=True, message="not you"), 10)

    assert isinstance(step, Finish)
    assert (step.event.outcome, step.event.message) == ("refused", "not you")
    assert (step.event.error_code, step.event.operation) == ("ThrottlingException", "Describe")


def test_each_new_error_is_logged_once() -> None:
    """Another error is logged, and a repetition of the same error is not."""
    first = make_waiter().decide(api_error(message="A"), 0)
    assert isinstance(first, Wait)
    same = first.waiter.decide(api_error(message="A"), 30)
    assert isinstance(same, Wait)
    other = same.waiter.decide(api_error(message="B"), 60)

    assert [len(step.log_lines) for step in (first, same, other)] == [1, 0, 1]


def test_same_status_after_an_error_is_logged() -> None:
    """A successful poll after an error is logged and resets the error, even if the status is the same."""
    before = make_waiter().decide(described("Executing"), 1.0)
    assert isinstance(before, Wait)
    failed = before.waiter.decide(api_error(), 2.0)
    assert isinstance(failed, Wait)

    recovered = failed.waiter.decide(described("Executing"), 3.0)

    assert isinstance(recovered, Wait)
    assert (recovered.waiter.consecutive_failures, recovered.waiter.last_error) == (0, None)
    assert ["polls succeed again" in line.text for line in recovered.log_lines] == [True]


def test_same_status_at_the_deadline_ends_the_wait() -> None:
    """The deadline ends the wait, even if the status has not changed since the poll before."""
    before = make_waiter().decide(described("Executing"), 1.0)
    assert isinstance(before, Wait)

    end = before.waiter.decide(described("Executing"), before.waiter.deadline)

    assert isinstance(end, Finish)
    assert end.event.outcome == "timed_out"
