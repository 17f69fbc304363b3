"""Lines about steps, and when steps are listed."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.steps.descriptions import StepDescription, rows_of
from polysync_airflow.execution.steps.progress import (
    MAX_LINES,
    Progress,
    logged_statuses_of,
)
from polysync_airflow.execution.texts import MAX_REASON_LENGTH
from polysync_airflow.execution.waiter import ExecutionWaiter
from tests.unit.execution.lifecycle.builders import api_error

START = datetime(2026, 1, 1, tzinfo=UTC)
EXECUTION = (
    "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn/execution/abc123"
)

WAIT = ExecutionWaiter(
    execution_arn=EXECUTION, cost_limit=None, poll_interval=30, since=0, deadline=9e9
)


def step(
    name: str, status: str, seconds: float | None = None, **members: Any
) -> StepDescription:
    """Return a step as AWS lists it."""
    end = {} if seconds is None else {"EndTime": START + timedelta(seconds=seconds)}
    times = {"StartTime": START, **end}
    return StepDescription.model_validate(
        {"StepName": name, "StepStatus": status, **times, **members}
    )


FAILED = step("Train", "Failed", 5, FailureReason="no data", AttemptCount=2)
LONG_REASON = "r" * MAX_REASON_LENGTH
WITH_LONG_REASON = step("Train", "Failed", 5, FailureReason=LONG_REASON)
SOURCE = {"SourcePipelineExecutionArn": EXECUTION}
FAILED_IN_10 = step("A", "Failed", 10, FailureReason="no")
CACHED = step("Train", "Succeeded", 0, CacheHitResult=SOURCE)
NOT_SELECTED = step("Train", "Succeeded", 10, SelectiveExecutionResult=SOURCE)


def test_line_of_a_change_begins_with_the_verdict() -> None:
    """The verdict comes first in the line, and each change is reported once."""
    for changed, line in (
        (step("Train", "Starting"), "started"),
        (step("Train", "Succeeded", 61.2), "succeeded after 1 min 1 s"),
        (step("Train", "Succeeded"), "succeeded"),
        (step("Train", "Stopped", 9, AttemptCount=1), "was stopped after 9 s"),
        (step("Train", "Stopping"), "is stopping"),
        (step("Train", "Melting"), "has the unknown status Melting"),
        (FAILED, "failed after 5 s (attempt 2): no data"),
        # A reason is as long as in the message.
        (WITH_LONG_REASON, f"failed after 5 s: {LONG_REASON}"),
        (CACHED, "succeeded: its result was in the cache"),
        (NOT_SELECTED, "was not selected: its result is that of abc123"),
    ):
        progress = Progress(60, 0)

        (reported,) = progress.update([changed])

        assert reported.text == f"Step Train {line}"
        assert (reported.level == logging.ERROR) == (changed.status == "Failed")
        assert progress.update([changed]) == []


def test_lines_after_a_resume_name_the_older() -> None:
    """The first list after a resume has the steps of the attempts before, too."""
    for changed, line in (
        (FAILED_IN_10, "failed after 10 s, before the last resume: no"),
        (step("A", "Succeeded", 20), "succeeded after 20 s"),
        (step("A", "Executing"), "started"),
    ):
        progress = Progress(60, resumed_at=START + timedelta(seconds=20))

        (reported,) = progress.update([changed])
        assert reported.text == f"Step A {line}"


def test_changes_are_in_the_order_of_time() -> None:
    """AWS lists the newest step first. A step that has no times comes first."""
    progress = Progress(60, 0)
    (entry,) = progress.update(
        [
            step("C", "Executing"),
            step("B", "Succeeded", 20),
            step("D", "Executing", StartTime=None),
            step("A", "Succeeded", 10),
        ]
    )
    assert [line.split()[1] for line in entry.text.splitlines()] == ["D", "C", "A", "B"]


def test_failed_steps_are_entries_of_their_own() -> None:
    """They have the level of an error, and stay in their place."""
    failed = [step("B", "Failed", 20), step("C", "Failed", 30)]
    steps = [step("A", "Succeeded", 10), *failed, step("D", "Executing", 40)]

    assert Progress(60).update(steps) == [
        (logging.INFO, "Step A succeeded after 10 s"),
        (logging.ERROR, "Step B failed after 20 s\nStep C failed after 30 s"),
        (logging.INFO, "Step D started"),
    ]


def test_news_are_another_status_or_another_attempt() -> None:
    """
    A step that is Starting is soon Executing, which is no news; AWS may repeat a step.
    """
    progress = Progress(60, 0)
    for status, attempt, lines in (
        ("Starting", None, 1),
        ("Executing", 1, 0),
        ("Executing", 2, 1),
        ("Executing", 2, 0),
        ("Failed", 2, 1),
    ):
        listed = step("Train", status, AttemptCount=attempt)
        assert len(progress.update([listed])) == lines


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_of_very_many_changes_the_failed_ones_come_first(left_out: int) -> None:
    """
    Thousands of lines would stop the event loop of a triggerer. The last line counts
    those that are left out.
    """
    names = [f"S{number:02}" for number in range(MAX_LINES + left_out - 1)]
    steps = [step(name, "Executing") for name in names]

    steps.append(step("Z", "Failed", 1))

    entries = Progress(60).update(steps)

    started = [f"Step {name} started" for name in names[: MAX_LINES - 1]]
    expected = [
        (logging.INFO, "\n".join(started)),
        (logging.ERROR, "Step Z failed after 1 s"),
    ]
    if left_out:
        expected.append((logging.INFO, f"{left_out} more steps changed"))
    assert entries == expected


def test_all_lines_keep_their_order_while_none_is_left_out() -> None:
    """Steps without times stay as AWS lists them, also those that have failed."""
    step = {"StepStatus": "Starting"}
    steps = [{**step, "StepName": f"S{number:02}"} for number in range(MAX_LINES - 1)]
    steps.append({"StepName": "Z", "StepStatus": "Failed"})

    entries = Progress(60).update(list(map(StepDescription.model_validate, steps)))

    assert [entry.level for entry in entries] == [logging.INFO, logging.ERROR]


def test_what_the_rows_show_is_not_reported_again() -> None:
    """After a deferral, the worker knows from the XCom what the trigger has logged."""
    steps = [step("A", "Succeeded", 10, AttemptCount=2), step("B", "Executing")]
    rows = rows_of(steps, (), EXECUTION)

    after = [steps[0], step("B", "Succeeded", 30)]
    lines = Progress(0, 0, logged_statuses_of(rows)).update(after)

    assert [line.text for line in lines] == ["Step B succeeded after 30 s"]


THROTTLED = api_error("ThrottlingException", transient=True)
UNAVAILABLE = api_error("InternalFailure", transient=True)
DENIED = api_error("AccessDeniedException", permanent=True)


@pytest.mark.parametrize("of_list", [False, True])
@pytest.mark.parametrize(("interval", "next_list"), [(10, 1060), (100, 1100)])
def test_throttling_pauses_the_lists_for_a_minute(
    of_list: bool, interval: float, next_list: float
) -> None:
    """Whether a poll or a list was throttled. A longer interval stays as it is."""
    progress = Progress(interval, due=1000)
    assert progress.after_poll(None, 1000)

    if of_list:
        assert progress.after_list(WAIT, THROTTLED, 1000) == ()
    else:
        assert not progress.after_poll(THROTTLED, 1000)

    assert not progress.after_poll(None, next_list - 1)
    assert progress.after_poll(None, next_list)


def test_lists_end_after_an_error_that_stays() -> None:
    """
    For example, the permission is missing. What was logged before is not forgotten.
    """
    for error, line in (
        (DENIED, "AWS said no"),
        (api_error("Strange"), "AWS said no"),
        (ZeroDivisionError("a bug"), "ZeroDivisionError('a bug')"),
    ):
        progress = Progress(60, due=0)
        progress.after_list(WAIT, [step("Train", "Executing")], 0)

        (reported,) = progress.after_list(WAIT, error, 0)

        assert reported.text == f"The log has no lines about steps: {line}"
        assert reported.level == logging.WARNING
        assert not progress.after_poll(None, 1e9)
        assert progress.after_list(WAIT, [step("Train", "Executing")], 0) == []


def test_transient_error_of_a_list_is_no_news() -> None:
    """The steps are listed again after the interval."""
    progress = Progress(60, due=0)
    assert progress.after_poll(None, 0)

    assert progress.after_list(WAIT, UNAVAILABLE, 0) == ()

    assert not progress.after_poll(None, 59)
    assert progress.after_poll(None, 60)


# ---- a step that is awaited, and polls of several processes


@pytest.mark.parametrize("fields", [{"must_list": True}, {"is_repeated": True}])
def test_lists_without_lines_come_after_each_poll(fields: dict[str, Any]) -> None:
    """The interval does not count, but a poll that has failed does."""
    progress = Progress(60, due=1e9, **fields)

    assert progress.is_quiet
    assert progress.after_poll(None, 1000)
    assert not progress.after_poll(THROTTLED, 1000)
    assert progress.after_list(WAIT, THROTTLED, 1000) == ()
    assert progress.after_poll(None, 1001)


def test_awaited_step_is_listed_once_and_then_in_the_interval() -> None:
    """The first list has no lines, because a trigger may follow that logs them."""
    progress = Progress(60, must_list=True)
    listed = [step("Train", "Executing")]

    assert progress.after_list(WAIT, listed, 1000) == ()
    assert progress.is_quiet is False
    assert progress.after_poll(None, 1000)
    assert len(progress.after_list(WAIT, listed, 1000)) == 1
    assert not progress.after_poll(None, 1059)


@pytest.mark.parametrize(("due", "next_list"), [(0.0, 1060), (2000.0, 2000)])
def test_list_of_another_wait_is_the_next_one(due: float, next_list: float) -> None:
    """It also shortens no pause."""
    progress = Progress(60, due=due)

    progress.postpone(1000)

    assert not progress.after_poll(None, next_list - 1)
    assert progress.after_poll(None, next_list)


def test_process_that_is_followed_by_another_one_writes_no_lines() -> None:
    """
    It does not know what was logged. An error that stays ends neither its lists nor the
    wait.
    """
    progress = Progress(60, is_repeated=True)

    assert progress.after_list(WAIT, [step("Train", "Executing")], 1000) == ()
    assert progress.after_list(WAIT, DENIED, 1000) == ()
    assert progress.is_quiet


@pytest.mark.parametrize("is_repeated", [False, True])
def test_step_that_can_never_be_listed_is_not_awaited(is_repeated: bool) -> None:
    """
    Once the steps were listed, the end of the execution tells how the step has ended.
    """
    progress = Progress(60, must_list=True, is_repeated=is_repeated)
    assert progress.after_list(WAIT, UNAVAILABLE, 1000) == ()

    with pytest.raises(SageMakerApiError) as caught:
        progress.after_list(WAIT, DENIED, 1000)

    assert caught.value is DENIED
    progress.after_list(WAIT, [], 1000)
    lines = progress.after_list(WAIT, DENIED, 1000)
    assert bool(lines) == (not is_repeated)


LIMITED = replace(WAIT, cost_limit="{}")


def test_wait_with_a_limit_lists_again_after_an_error_that_nobody_expects() -> None:
    """Without the lists, nobody could keep the limit. A refusal ends the wait."""
    progress = Progress(60)
    assert progress.after_poll(None, 0)

    (line,) = progress.after_list(LIMITED, RuntimeError("no"), 0)

    assert "cannot be listed; asking again: RuntimeError" in line.text
    assert progress.after_poll(None, 60)
    with pytest.raises(SageMakerApiError):
        progress.after_list(LIMITED, DENIED, 60)


def test_wait_that_shows_no_steps_lists_them_for_its_limit() -> None:
    """After each poll, without a line in the log."""
    assert Progress.for_limit(WAIT) is None
    progress = Progress.for_limit(LIMITED)

    assert progress is not None
    assert [progress.after_poll(None, time) for time in (0, 14, 30)] == [
        True,
        False,
        True,
    ]
    assert progress.after_list(LIMITED, [step("Train", "Executing")], 30) == ()
