"""Which executions' steps a poller lists, and when."""

from __future__ import annotations

from typing import Any

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.steps.rows import StepDescription
from polysync_airflow.execution.waiter import Waiter
from polysync_airflow.triggers.step_lists import (
    MAX_RUNNING,
    PAUSE_SECONDS,
    THROTTLING_PAUSE_SECONDS,
    StepLists,
)
from polysync_airflow.triggers.subscription import Subscription

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abc"
NOW = 1_750_000_000.0
NOTHING: Any = None


def subscription(*, interval: float = 60.0) -> Subscription:
    """Return a subscription whose steps are due now."""
    waiter = Waiter(ARN, "churn", 30.0, NOW, NOW + 3600)
    return Subscription(waiter, NOTHING, NOTHING, Progress(interval, NOW))


def polled(status: str = "Executing") -> ExecutionDescription:
    """Return the response of a poll."""
    return ExecutionDescription.model_validate(
        {"PipelineExecutionArn": ARN, "PipelineExecutionStatus": status}
    )


def refused(code: str, *, transient: bool = False) -> SageMakerApiError:
    """Return an error of AWS."""
    return SageMakerApiError(
        "no", error_code=code, operation="X", permanent=not transient, transient=transient
    )


def step(status: str) -> StepDescription:
    """Return a step as AWS lists it."""
    return StepDescription.model_validate({"StepName": "Train", "StepStatus": status})


def test_steps_are_listed_once_in_the_interval_while_the_execution_runs() -> None:
    """A poll with another status, or before the interval has passed, lists nothing."""
    lists, waiting = StepLists(), subscription()

    lists.after_poll(waiting, polled("Stopping"), NOW)
    assert lists.seconds_until_next(NOW) is None
    lists.after_poll(waiting, polled(), NOW)
    assert lists.seconds_until_next(NOW) == 0
    assert lists.take(NOW) is waiting
    lists.done(waiting, [], NOW)
    lists.after_poll(waiting, polled(), NOW + 59)
    assert lists.seconds_until_next(NOW + 59) is None
    lists.after_poll(waiting, polled(), NOW + 60)
    assert lists.seconds_until_next(NOW + 60) == 0


def test_lists_are_made_one_after_another() -> None:
    """There is a pause between two lists, and few run at the same time."""
    lists = StepLists()
    for _ in range(MAX_RUNNING + 1):
        lists.after_poll(subscription(), polled(), NOW)

    for number in range(MAX_RUNNING):
        now = NOW + number * PAUSE_SECONDS
        assert (lists.seconds_until_next(now) or 0) < 1e-6
        lists.take(now)
        assert lists.seconds_until_next(now) != 0

    assert lists.seconds_until_next(NOW + 10) is None


def test_throttling_drops_the_lists_for_a_minute() -> None:
    """The polls need the calls. Afterwards, the steps are due at once."""
    lists, waiting = StepLists(), subscription()
    lists.after_poll(waiting, polled(), NOW)

    lists.after_poll(waiting, refused("ThrottlingException", transient=True), NOW)

    assert lists.seconds_until_next(NOW) is None
    waiting.progress = Progress(60.0, NOW)
    lists.after_poll(waiting, polled(), NOW + THROTTLING_PAUSE_SECONDS - 1)
    assert lists.seconds_until_next(NOW + THROTTLING_PAUSE_SECONDS - 1) is None
    lists.after_poll(waiting, polled(), NOW + THROTTLING_PAUSE_SECONDS)
    assert lists.seconds_until_next(NOW + THROTTLING_PAUSE_SECONDS) == 0


def test_a_denied_list_is_not_repeated() -> None:
    """The task learns it in one line."""
    lists, waiting = StepLists(), subscription()
    lists.after_poll(waiting, polled(), NOW)
    lists.take(NOW)

    changes = lists.done(waiting, refused("AccessDeniedException"), NOW)

    assert changes is not None
    assert [line.text for line in changes.log_lines] == ["The log has no lines about steps: no"]
    assert changes.steps == ()
    lists.after_poll(waiting, polled(), NOW + 3600)
    assert lists.seconds_until_next(NOW + 3600) is None


def test_only_changes_reach_the_task() -> None:
    """A transient error, or the same steps again, is no news."""
    lists, waiting = StepLists(), subscription(interval=1.0)
    outcomes = []
    results: tuple[Any, ...] = (
        [step("Executing")],
        [step("Executing")],
        refused("InternalFailure", transient=True),
        [step("Succeeded")],
    )
    for number, result in enumerate(results):
        now = NOW + 10 * number
        lists.after_poll(waiting, polled(), now)
        lists.take(now)
        changes = lists.done(waiting, result, now)
        outcomes.append(changes and changes.log_lines[0].text)

    assert outcomes == ["Step Train started", None, None, "Step Train succeeded"]


def test_steps_of_an_ended_wait_are_not_listed() -> None:
    """Neither before nor after the call."""
    lists, first, second = StepLists(), subscription(), subscription()
    lists.after_poll(first, polled(), NOW)
    lists.after_poll(second, polled(), NOW)
    first.ended = True

    assert lists.seconds_until_next(NOW) == 0
    assert lists.take(NOW) is second
    second.ended = True
    assert lists.done(second, [step("Succeeded")], NOW) is None
