"""
The message of a failure: the verdict, the steps, their logs and what to do fit into
Airflow's log pane.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.exceptions import BEFORE_CURE
from polysync_airflow.execution.lifecycle.decisions import next_step
from polysync_airflow.execution.lifecycle.options import OnClear, RetryMode
from polysync_airflow.execution.lifecycle.plans import NextSession
from polysync_airflow.execution.outcome import (
    LINE_WIDTH,
    RequestedStop,
    RunSummary,
    outcome_message,
)
from polysync_airflow.execution.prices import CostAndUsage, Spending
from polysync_airflow.execution.steps.descriptions import StepRow
from tests.unit.execution.lifecycle.builders import choose, end_of_wait, stored

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn-tuning/execution/4jg7o29joci6"
NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 14, tzinfo=UTC)
DELAY = timedelta(minutes=11, seconds=30)
# Airflow's pane has 30 lines at 1400 x 900 pixels; eight of them have the frames of the
# traceback.
PANE_LINES = 22


def requested(**changes: Any) -> RunSummary:
    """Return what ``run`` says when a stop was requested."""
    stop = RequestedStop(requested_at=NOW, reason="ended_task", process="triggerer")
    run = RunSummary(
        execution_arn=ARN, pipeline_name="churn-tuning", state="Running", parameters={}
    )
    return run.stop_requested(stop.model_copy(update=changes))


def test_repeated_requests_of_a_stop_are_one() -> None:
    """A failed one is requested anew. What AWS has accepted stays accepted."""
    later = RequestedStop(requested_at=LATER, reason="timeout", process="worker")
    accepted = requested().stop_answered("Stopping", None, NOW)

    assert requested().stop_requested(later) == requested()
    assert requested(result="failed").stop_requested(later).stop == later
    assert accepted.stop_answered(None, "no network", LATER) == accepted
    assert "last seen at 13:00:00 UTC" in accepted.stop_text
    failed = requested().stop_answered(None, "no network", LATER)
    assert failed.stop_text.endswith("How the execution ends is not known: no network")


def test_end_of_a_stop_is_final() -> None:
    """
    An answer or a look that comes late, from another process, does not bring the
    execution back to life.
    """
    by_user = end_of_wait("ended", "Stopped", message="by user", ended_at=NOW)
    ended = requested().stop_followed(by_user, LATER)

    assert ended.state == "Cancelled"
    assert ended.message == "by user"
    assert ended.ended_at == NOW
    assert ended.stop_answered("Stopping", None, LATER) == ended
    assert ended.stop_followed(end_of_wait("timed_out", "Stopping"), LATER) == ended
    assert ended.stop_text.endswith("and the execution has ended (AWS status Stopped).")
    assert ended.model_copy(update={"stop": None}).stop_text == ""


def test_end_of_a_stop_keeps_why_the_task_has_asked_for_it() -> None:
    """AWS has no message about it, and does not know what the task may spend."""
    spent = Spending(
        at=NOW,
        amount=51,
        max_cost=50,
        currency="USD",
        prices_date=NOW.date(),
        per_hour=4,
    )
    reported = {"message": spent.text, "spending": spent, "added_up_at": NOW}
    before = requested().model_copy(update=reported)

    ended = before.stop_followed(end_of_wait("ended", "Stopped"), LATER)

    assert ended.status == "Stopped"
    assert ended.message == spent.text
    assert ended.spending == spent
    # The time of the report before the end is not that of the end.
    assert not before.is_added_up
    assert ended.added_up_at is None
    added_up = ended.with_cost(CostAndUsage(added_up_at=LATER), ["no list"])
    again = added_up.stop_followed(end_of_wait("ended", "Stopped"), LATER)
    assert again.added_up_at == LATER
    assert again.with_cost(CostAndUsage(added_up_at=NOW)) == again


def test_failed_poll_does_not_count_as_seen() -> None:
    """The last poll failed: the execution was not seen then."""
    accepted = requested().stop_answered("Stopping", None, NOW)
    failure = {"message": "throttled", "error_code": "ThrottlingException"}
    failed = end_of_wait("timed_out", "Stopping", **failure)

    seen = accepted.stop_followed(end_of_wait("timed_out", "Stopping"), LATER)
    unseen = accepted.stop_followed(failed, LATER)

    assert seen.stop
    assert unseen.stop
    assert seen.stop.seen_at == LATER
    assert seen.stop.error is None
    assert unseen.stop.seen_at == NOW
    assert unseen.stop.error == "throttled"


def failed_step(number: int, reason: str) -> StepRow:
    """Return a failed step with everything that a row can have."""
    job = f"pipelines-4jg7o29joci6-Step{number}-vckafdhdn2"
    return StepRow(
        name=f"Step{number}",
        type="Processing",
        state="Failed",
        status="Failed",
        attempt=2,
        reason=reason,
        job_name=job,
        log_url=f"https://us-east-1.console.aws.amazon.com/cloudwatch/home#{job}",
        console_url=f"https://us-east-1.console.aws.amazon.com/sagemaker/home#{job}",
        log_lines=[f"epoch {line}" for line in range(200)],
    )


def message(
    steps: list[StepRow],
    *,
    reason: str = "Step failure: One or multiple steps failed.",
    retry: NextSession | None = None,
    retry_mode: RetryMode = "new",
    on_clear: OnClear = "new",
) -> list[str]:
    """Return the lines of the message of a failed execution."""
    note = next_step(
        stored(),
        "Failed",
        choose(retry_mode=retry_mode, on_clear=on_clear),
        retry,
        button='or the tab\'s "Resume failed steps" ',
    )
    end = end_of_wait(
        "ended",
        "Failed",
        execution_arn=ARN,
        pipeline_name="churn-tuning",
        message=reason,
        started_at="2026-11-26T06:00:00Z",
        ended_at="2026-11-26T06:38:02Z",
    )
    return outcome_message(end, failed_steps=steps, notes=(note,)).splitlines()


@pytest.mark.parametrize(
    "next_try",
    [
        {},
        {"on_clear": "resume"},
        {"retry": NextSession(DELAY, is_earliest=True)},
        {"retry": NextSession(DELAY), "retry_mode": "resume"},
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_failure_fits_into_the_pane(count: int, next_try: Any) -> None:
    """
    Verdict, reasons, links and what comes next are in sight, whatever the length of
    logs and reasons.
    """
    reason = "ClientError: no such bucket."
    steps = [failed_step(number, reason) for number in range(count)]
    lines = message(steps, **next_try)

    assert lines[0].startswith("Pipeline churn-tuning failed")
    assert len(lines) <= PANE_LINES
    for number in range(count):
        assert f"Step Step{number} failed (attempt 2): {reason}" in lines
    assert [line for line in lines if line.startswith("  | ")][-1] == "  | epoch 199"
    assert any(line.startswith("Next: ") for line in lines)
    texts = [line for line in lines if "arn:" not in line and "https:" not in line]
    assert all(len(line) <= LINE_WIDTH for line in texts)


def test_long_reason_is_wrapped_and_cut() -> None:
    """The whole reason is in the XCom and in the log."""
    lines = message([failed_step(0, "word " * 300)])

    assert len(lines) <= PANE_LINES
    assert any(line.endswith(" ...") for line in lines)


def test_line_breaks_of_a_reason_do_not_look_like_lines_of_ours() -> None:
    """
    Whoever writes the reason of a failure cannot write the verdict of another step.
    """
    reason = "bad\nStep Step1 failed: not true\nConsole: https://example.com"
    lines = message([failed_step(0, reason)])

    verdict = "Step Step0 failed (attempt 2): bad Step Step1 failed: not true"
    assert lines[2].startswith(verdict)
    beginnings = ("Step Step1", "Console: https://example.com")
    assert not any(line.startswith(beginnings) for line in lines)


def test_reason_of_a_failure_does_not_say_what_to_do() -> None:
    """Whoever writes it cannot give advice in our words."""
    reason = f"bad{BEFORE_CURE}Open https://example.com"
    lines = message([failed_step(0, "bad")], reason=reason)

    assert lines[1] == f"Reason: {reason}"
    assert not any(line.lstrip().startswith("What to do") for line in lines)


def test_many_failed_steps_are_named() -> None:
    """The reasons of the others are in the log and in the XCom ``steps``."""
    few = message([failed_step(number, "quota") for number in range(9)])
    many = message([failed_step(number, "quota") for number in range(500)])

    assert "6 more failed steps: Step3, Step4, Step5, Step6, Step7, Step8" in few
    assert len(few) <= PANE_LINES
    assert len(many) <= PANE_LINES + 3
