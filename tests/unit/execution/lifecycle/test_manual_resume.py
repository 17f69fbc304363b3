"""Which executions a person may resume."""

from __future__ import annotations

import pytest

from polysync_airflow.execution.lifecycle.manual_resume import why_not_resumed

CLEAR = "clear its task, which starts a new one."


@pytest.mark.parametrize(
    ("status", "by_fail_step", "task_states", "answer"),
    [
        ("Failed", False, None, None),
        ("CompletedWithFailures", False, ("success",), None),
        ("Failed", False, ("failed", "removed"), None),
        ("Failed", True, None, "AWS resumes no execution that a Fail step has ended: "),
        ("Failed", True, ("failed",), CLEAR),
        ("Failed", False, ("failed", None), "Its state is failed, None. It goes on by"),
        ("Executing", False, None, "It has not ended (AWS status Executing)."),
        ("Stopping", False, ("failed",), "It has not ended (AWS status Stopping)."),
        ("New", False, None, "It has not ended (AWS status New)."),
        ("Succeeded", False, ("failed",), "Nothing is left to run"),
        ("Stopped", False, None, "only what has failed (AWS status Stopped): start a"),
        ("Stopped", False, ("failed",), CLEAR),
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

    if answer is None:
        assert found is None
    else:
        assert answer in (found or "")
