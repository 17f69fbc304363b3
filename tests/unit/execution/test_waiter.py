"""The decision core of a wait: intervals, backoff, deadlines, log lines and events."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.exceptions import (
    RESOURCE_NOT_FOUND,
    CredentialsError,
    PolysyncError,
    SageMakerApiError,
)
from polysync_airflow.execution.models import CONNECTION_NOT_FOUND, ExecutionDescription
from polysync_airflow.execution.outcome import refusal_error
from polysync_airflow.execution.waiter import (
    DELETED_AFTER_SECONDS,
    LAG_SECONDS,
    Deletion,
    ExecutionEvent,
    ExecutionWaiter,
    Failures,
    Finish,
    LogLine,
    Wait,
    after_estimate,
)
from tests.unit.execution.lifecycle.builders import api_error, spending

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abcdefghijkl"
LABEL = f"Pipeline churn, execution {ARN}"
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def make_waiter(**fields: Any) -> ExecutionWaiter:
    """Return the state of a wait that began at 0 and has its deadline at 3,600."""
    times = {"poll_interval": 30, "since": 0, "deadline": 3600}
    names = {"execution_arn": ARN, "pipeline_name": "churn", "cost_limit": None}
    return ExecutionWaiter(**{**names, **times, **fields})


def described(status: str, **members: Any) -> ExecutionDescription:
    """Return a DescribePipelineExecution response with a status."""
    return ExecutionDescription.model_validate(
        {"PipelineExecutionArn": ARN, "PipelineExecutionStatus": status, **members}
    )


def throttled() -> SageMakerApiError:
    """Return the error of a poll that AWS has throttled."""
    return api_error("ThrottlingException", "Rate exceeded")


def after(
    waiter: ExecutionWaiter,
    *responses: ExecutionDescription | PolysyncError,
    now: float = 100,
) -> Wait[ExecutionWaiter]:
    """Return the instruction after polls that do not end the wait."""
    before = Wait(0, waiter)
    for response in responses:
        step = before.waiter.decide(response, now)
        assert isinstance(step, Wait)
        before = step
    return before


def end_of(
    waiter: ExecutionWaiter,
    response: ExecutionDescription | PolysyncError,
    now: float = 100,
) -> ExecutionEvent:
    """Return the event of a poll that ends the wait."""
    step = waiter.decide(response, now)
    assert isinstance(step, Finish)
    return step.event


# ---- when the next poll comes


def test_first_poll_comes_after_the_deferral_is_recorded() -> None:
    """
    The first poll is delayed: the scheduler may fail a task that resumes right after
    its deferral.
    """
    for interval, now, first in (
        (1, 0, 5),
        (30, 0, 30),
        (600, 0, 600),
        # At the deadline at the latest, but not within the first seconds.
        (600, 3500, 100),
        (600, 9999, 5),
    ):
        waiter = make_waiter(poll_interval=interval)

        assert waiter.first_wait(now) == Wait(first, waiter)


EXPIRED = CredentialsError("expired", permanent=False)
THROTTLED_OFTEN = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_seconds_after_failed_polls_double_up_to_a_maximum() -> None:
    """The seconds double up to a maximum."""
    for fields, error, seconds in (
        ({}, api_error(), [30, 60, 120, 240, 300, 300]),
        # An interval above the longest backoff is used unchanged.
        ({"poll_interval": 900}, api_error(), [900, 900]),
        ({"poll_interval": 1}, api_error(), THROTTLED_OFTEN),
        # Without a rate limiter, throttling is an error like others.
        ({}, throttled(), [30, 60, 120, 240, 300, 300]),
        # With one, which has slowed down all calls, a throttled poll is repeated soon.
        ({"rate_limited": True}, throttled(), THROTTLED_OFTEN),
        ({"rate_limited": True, "poll_interval": 900}, throttled(), THROTTLED_OFTEN),
        ({"rate_limited": True}, EXPIRED, [30, 60]),
        # Failures without end make no number too large.
        ({"failures": Failures(10_000)}, api_error(), [300]),
        ({"failures": Failures(10_000), "rate_limited": True}, throttled(), [300]),
    ):
        waiter = make_waiter(**fields)
        seen = []
        for _ in seconds:
            step = after(waiter, error)
            seen.append(step.seconds)
            waiter = step.waiter

        assert seen == seconds


@pytest.mark.parametrize(
    "response", [described("Executing"), described("New"), api_error(), throttled()]
)
@pytest.mark.parametrize(("now", "seconds"), [(3000, 600), (3300, 300), (3599.5, 0.5)])
def test_no_sleep_outlasts_deadline(response: Any, now: float, seconds: float) -> None:
    """
    The last poll is at the deadline, even if the interval or the backoff ends later.
    """
    assert after(make_waiter(poll_interval=600), response, now=now).seconds == seconds


# ---- the state of the wait, and the log


def test_change_of_the_status_is_logged() -> None:
    """
    The first line names the execution, without its pipeline if only the ARN is known;
    the next ones have both statuses only.
    """
    known = {"started_at": CREATED, "pipeline_name": None}
    first = after(make_waiter(**known), described("Executing"))
    step = after(first.waiter, described("Stopping"))

    text = f"Executing: Execution {ARN}"
    assert first.log_lines == (LogLine(logging.INFO, text),)
    assert step.log_lines == (LogLine(logging.INFO, "Executing -> Stopping"),)
    # A listing may lack the time of creation.
    assert step.waiter == make_waiter(last_status="Stopping", **known)


def test_same_status_changes_nothing() -> None:
    """By far the most frequent case makes no new state and no line."""
    waiter = make_waiter(last_status="Executing", started_at=CREATED)
    later = described("Executing", CreationTime=CREATED + timedelta(seconds=1))

    step = after(waiter, later)

    assert step == Wait(30, waiter)
    assert step.waiter is waiter


def test_unknown_status_is_warned_of_once() -> None:
    """The wait goes on; another unknown status is another warning."""
    step = after(make_waiter(), described("New"))
    known = after(step.waiter, described("Executing"))
    again = after(known.waiter, described("New"))
    other = after(again.waiter, described("Newer"))

    assert [line.level for line in step.log_lines] == [logging.INFO, logging.WARNING]
    assert step.log_lines[1].text == (
        "Status 'New' is unknown to this version; the wait goes on, until the timeout"
        f" at the latest: {LABEL}"
    )
    assert known.waiter.warned_statuses == {"New"}
    assert [len(each.log_lines) for each in (known, again, other)] == [1, 1, 2]
    assert other.waiter.warned_statuses == {"New", "Newer"}


def test_each_new_error_is_logged_once() -> None:
    """Another error is logged, and a repetition of the same error is not."""
    first = after(make_waiter(), api_error(message="A"))
    same = after(first.waiter, api_error(message="A"))
    other = after(same.waiter, api_error(message="B"))

    assert first.log_lines == (LogLine(logging.WARNING, "Poll failed, retrying: A"),)
    assert (same.log_lines, len(other.log_lines)) == ((), 1)
    assert first.waiter == make_waiter(failures=Failures(1, 100, "A", "A", 100))
    assert other.waiter == make_waiter(failures=Failures(3, 100, "B", "B", 100))


def test_shared_polls_log_an_error_that_lasts() -> None:
    """
    A shorter outage would be a line in thousands of logs. What the log of a task does
    not have has no end there either.
    """
    step = Wait(0, make_waiter(rate_limited=True, last_status="Executing"))
    lines = []
    polls: list[tuple[float, ExecutionDescription | PolysyncError]] = [
        (100, api_error(message="A")),
        (159, api_error(message="A")),
        (160, described("Executing")),
        (500, api_error(message="A")),
        (559, api_error(message="B")),
        (560, api_error(message="B")),
        (561, api_error(message="B")),
        (600, api_error(message="C")),
        (601, described("Executing")),
    ]
    for now, response in polls:
        decided = step.waiter.decide(response, now)
        assert isinstance(decided, Wait)
        step = decided
        lines += [(now, line.level, line.text) for line in step.log_lines]

    assert lines == [
        (560, logging.WARNING, "Poll failed, retrying for 1 min: B"),
        (600, logging.WARNING, "Poll failed, retrying for 1 min 40 s: C"),
        (601, logging.INFO, f"Polls succeed again: {LABEL}"),
    ]


@pytest.mark.parametrize(("status", "lines"), [("Executing", 1), ("Stopping", 2)])
def test_successful_poll_resets_the_backoff(status: str, lines: int) -> None:
    """It is logged, even if the status is the same as before the errors."""
    failed = after(make_waiter(last_status="Executing"), api_error())

    recovered = after(failed.waiter, described(status))

    assert recovered.seconds == 30
    assert recovered.waiter == make_waiter(last_status=status)
    line = LogLine(logging.INFO, f"Polls succeed again: {LABEL}")
    assert recovered.log_lines[0] == line
    assert len(recovered.log_lines) == lines


# ---- the end


def test_ended_execution_ends_the_wait() -> None:
    """The event has all that is known, and the last status is logged."""
    ended_at = CREATED + timedelta(seconds=9)
    times = {"CreationTime": CREATED, "LastModifiedTime": ended_at}
    failed = described("Failed", FailureReason="no data", **times)

    step = make_waiter(last_status="Executing").decide(failed, 100)

    assert step == Finish(
        ExecutionEvent(
            outcome="ended",
            execution_arn=ARN,
            pipeline_name="churn",
            status="Failed",
            message="no data",
            error_code=None,
            operation=None,
            started_at=CREATED,
            ended_at=ended_at,
            attempt=0,
            attempt_started_at=None,
        ),
        (LogLine(logging.INFO, "Executing -> Failed"),),
    )


def test_event_of_a_resumed_execution_has_its_attempt() -> None:
    """The attempt began when the wait did."""
    since = CREATED.timestamp()
    waiter = make_waiter(since=since, deadline=since + 60, attempt=2)
    event = end_of(waiter, described("Succeeded"), since + 1)

    assert (event.attempt, event.attempt_started_at) == (2, CREATED)
    assert event.message is None


def test_last_poll_at_the_deadline_decides() -> None:
    """
    An execution that ended in time counts as ended, even if only the last poll shows
    its end.
    """
    for response, now, outcome in (
        (described("Executing"), 3599.9, None),
        (described("Executing"), 3600, "timed_out"),
        (described("Succeeded"), 3600, "ended"),
        (described("Stopped"), 3600, "ended"),
        (described("CompletedWithFailures"), 9999, "ended"),
        (api_error(), 3599.9, None),
        (api_error(), 3600, "timed_out"),
        (api_error(permanent=True), 3600, "refused"),
    ):
        step = make_waiter(last_status="Executing").decide(response, now)

        assert (step.event.outcome if isinstance(step, Finish) else None) == outcome


def test_event_at_the_deadline_says_the_limit() -> None:
    """
    It counts from the beginning of the wait, not from the poll. An
    ``execution_timeout`` ends it alike.
    """
    waiter = make_waiter(since=100, last_status="Executing", started_at=CREATED)
    limit = "the limit of 58 min 20 s (timeout= or execution_timeout=) was reached"

    last = described("Executing", FailureReason="x", LastModifiedTime=CREATED)
    event = end_of(waiter, last, 3600)

    assert event == waiter.time_out().event
    late = waiter.time_out("the last poll has not ended").event
    assert late == event.model_copy(
        update={"message": f"{event.message}; the last poll has not ended"}
    )
    assert event.outcome == "timed_out"
    assert event.message == limit
    assert event.status == "Executing"
    assert event.started_at == CREATED
    assert event.ended_at is None
    assert event.error_code is None
    failed = end_of(waiter, api_error(), 3600)
    assert failed.message == f"{limit}; the last poll failed: AWS said no"
    assert failed.error_code == "InternalFailure"
    assert failed.operation == "x"


def test_wait_whose_task_has_spent_too_much_ends() -> None:
    """Its event has what was spent."""
    waiter = make_waiter(last_status="Executing", started_at=CREATED)

    end = after_estimate(waiter, spending(2))

    assert end is not None
    assert end.event.outcome == "too_expensive"
    assert (end.event.execution_arn, end.event.status) == (ARN, "Executing")
    assert end.event.message == spending(2).text
    assert end.event.spending == spending(2)
    assert after_estimate(waiter, spending(1.99)) is None
    assert after_estimate(waiter, None) is None


def test_execution_that_aws_does_not_know_is_awaited_for_a_while() -> None:
    """AWS may not know a new one yet. The time begins with the first such error."""
    unknown = api_error(RESOURCE_NOT_FOUND, "gone", permanent=True)
    failed = after(make_waiter(), api_error(), now=100)
    first = after(failed.waiter, unknown, now=110)
    later = after(first.waiter, unknown, now=110 + LAG_SECONDS - 0.1)

    event = end_of(later.waiter, unknown, now=110 + LAG_SECONDS)

    assert event.outcome == "refused"


def test_error_that_is_not_of_aws_has_no_operation() -> None:
    """The event names the error by its class."""
    event = end_of(make_waiter(), CredentialsError("gone"))

    assert event.outcome == "refused"
    assert event.message == "gone"
    assert event.operation is None
    assert event.error_code == "CredentialsError"


def test_deleted_connection_ends_the_wait_with_a_code_of_its_own() -> None:
    """After it, unlike after other errors that end a wait, a retry may succeed."""
    error = CredentialsError("gone")
    error.error_code = CONNECTION_NOT_FOUND

    event = end_of(make_waiter(last_status="Executing"), error)

    assert event.status == "Executing"
    assert event.error_code == "ConnectionNotFound"
    assert not refusal_error(event, "gone").permanent
    event = event.model_copy(update={"error_code": None})
    assert refusal_error(event, "gone").permanent


# ---- a deleted connection


def test_connection_is_deleted_if_no_read_finds_it_for_a_while() -> None:
    """
    A single "not found" proves nothing: Airflow says the same if its database does not
    respond.
    """
    for reads, is_deleted in (
        ([], False),
        ([(0, True), (DELETED_AFTER_SECONDS - 0.1, True)], False),
        ([(0, True), (DELETED_AFTER_SECONDS, True)], True),
        ([(0, True), (7, True), (14, True), (21, True)], True),
        # A read that has found it, or has failed for another reason, begins the time
        # anew.
        ([(0, True), (7, False), (14, True), (21, True)], False),
    ):
        deletion = Deletion("team", " Or it is hidden.")
        for now, is_missing in reads:
            if is_missing:
                deletion.note_missing(1000 + now)
            else:
                deletion.begin_anew()

        assert (deletion.error is not None) == is_deleted
        if deletion.error:
            assert deletion.error.permanent
            assert deletion.error.error_code == CONNECTION_NOT_FOUND
            seconds = f"{reads[-1][0] - reads[0][0]:.0f} s"
            assert str(deletion.error) == (
                "polysync_conn_id = 'team': the connection was deleted or renamed. Airflow"
                f" has not found it for {seconds}. Add it again under Admin > Connections."
                " If no retry follows, clear the task. Or it is hidden."
            )
