"""Which executions a person may resume."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from polysync_airflow.execution.lifecycle.orphans import why_not_resumed

FAIL_STEP = "AWS resumes no execution that a Fail step has ended: "
ONLY_FAILED = "AWS resumes only what has failed (AWS status Stopped): "
CLEAR = "clear its task, which starts a new one."
START = "start a new one in its place."
MARK = "To decide now, mark it as failed first."
GOES_ON = f"It goes on by itself. {MARK}"


@pytest.mark.parametrize(
    ("status", "by_fail_step", "task_states", "answer"),
    [
        ("Failed", False, None, None),
        ("CompletedWithFailures", False, ("success",), None),
        ("Failed", False, ("failed", "removed"), None),
        ("Failed", True, None, f"{FAIL_STEP}{START}"),
        ("Failed", True, ("failed",), f"{FAIL_STEP}{CLEAR}"),
        (
            "Failed",
            False,
            ("failed", None),
            f"The task has not ended. Its state is failed, not set. {GOES_ON}",
        ),
        ("Failed", False, (), f"The task has not ended. Its state is . {GOES_ON}"),
        ("Executing", False, ("deferred",), "It has not ended (AWS status Executing)."),
        ("Executing", False, None, "It has not ended (AWS status Executing)."),
        ("Stopping", False, ("failed",), "It has not ended (AWS status Stopping)."),
        ("New", False, None, "It has not ended (AWS status New)."),
        (
            "Succeeded",
            True,
            ("running",),
            "Nothing is left to run (AWS status Succeeded).",
        ),
        ("Stopped", False, None, f"{ONLY_FAILED}{START}"),
        ("Stopped", False, ("failed",), f"{ONLY_FAILED}{CLEAR}"),
    ],
)
def test_only_what_has_failed_and_waits_for_nobody(
    status: str,
    by_fail_step: bool,
    task_states: tuple[str | None, ...] | None,
    answer: str | None,
) -> None:
    """The text says what to do in its place."""
    found = why_not_resumed(status, by_fail_step=by_fail_step, task_states=task_states)

    assert found == answer


def test_task_that_waits_for_capacity_asks_by_itself() -> None:
    """The text says when, and how a person decides before that."""
    asks_at = datetime(2026, 12, 2, 3, 20, tzinfo=UTC)

    assert why_not_resumed(
        "Failed", by_fail_step=False, task_states=("deferred",), asks_at=asks_at
    ) == (
        "The task has not ended. Its state is deferred. It waits for capacity, and asks"
        f" AWS again at 2026-12-02 03:20:00 UTC. {MARK}"
    )
