"""The decisions of a search after each look, as a table of looks and instructions."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from polysync_airflow.exceptions import CredentialsError, PolysyncError, SageMakerApiError
from polysync_airflow.execution.search.criteria import LIST_LAG_SECONDS, TooManyMatchesError
from polysync_airflow.execution.search.lookout import Look, Lookout
from polysync_airflow.execution.search.models import SearchEvent
from tests.execution.search.test_criteria import BEGAN_AT, DAY, listed, search

BEGAN = BEGAN_AT.timestamp()
HOUR = 3600.0
OPEN = Lookout(search(created_after=DAY[0]), BEGAN + HOUR)
CLOSED = Lookout(search(), BEGAN + HOUR)
FOUND = listed("manual", 5)


def api_error(**arguments: Any) -> SageMakerApiError:
    """Return an error of AWS's."""
    return SageMakerApiError("AWS says no", error_code="X", operation="ListPipelineExecutions", **arguments)


@pytest.mark.parametrize(
    ("lookout", "result", "after", "outcome", "text"),
    [
        (OPEN, FOUND, 0, "found", None),
        (CLOSED, FOUND, 0, "found", None),
        (OPEN, FOUND, 2 * HOUR, "found", None),
        (OPEN, None, HOUR - 1, None, None),
        (OPEN, None, HOUR, "timed_out", "No execution was found within 1 h"),
        (CLOSED, None, 0, "no_match", "The window has closed, and no execution in it matches."),
        (OPEN, api_error(permanent=False, transient=True), 0, None, None),
        (OPEN, api_error(permanent=False), 0, None, None),
        # A window that has closed proves nothing if it cannot be listed.
        (CLOSED, api_error(permanent=False), 0, None, None),
        (
            OPEN,
            api_error(permanent=False),
            HOUR,
            "timed_out",
            "No execution was found within 1 h; the last look failed: AWS says no",
        ),
        (OPEN, api_error(permanent=True), 0, "refused", "AWS says no"),
        (OPEN, CredentialsError("no key"), 0, "refused", "no key"),
        (OPEN, TooManyMatchesError("too many"), 0, "too_many", "too many"),
    ],
)
def test_decision(lookout: Lookout, result: Any, after: float, outcome: str | None, text: str | None) -> None:
    """The search ends with an event of this outcome, or goes on."""
    step = lookout.decide(result, BEGAN + after, BEGAN + after)

    if outcome is None:
        assert isinstance(step, Look)
        return
    assert isinstance(step, SearchEvent)
    assert step.outcome == outcome
    assert step.began_at == BEGAN_AT
    if text:
        assert str(step.message).startswith(text)
        assert "Looked for: the first execution of pipeline fanout created from 2026-01-01" in str(
            step.message
        )
    if isinstance(result, SageMakerApiError) and outcome != "found":
        assert (step.error_code, step.operation) == ("X", "ListPipelineExecutions")


def test_closed_window_is_watched_until_the_list_is_complete() -> None:
    """An execution of the window's last second may appear late; the last look comes exactly then."""
    end = DAY[1].timestamp()
    lookout = replace(CLOSED, search=search(), deadline=end + 10 * HOUR)

    assert lookout.ends_at == end + LIST_LAG_SECONDS
    assert isinstance(lookout.decide(None, end + LIST_LAG_SECONDS - 1, end), Look)
    assert isinstance(lookout.decide(None, end + LIST_LAG_SECONDS, end), SearchEvent)
    assert OPEN.ends_at == OPEN.deadline


def test_only_what_is_new_is_listed_again() -> None:
    """After a look that has succeeded, the next one begins where it was made, less the lag of AWS's list."""
    first = OPEN.decide(None, BEGAN, BEGAN)
    assert isinstance(first, Look)
    failed = first.lookout.decide(api_error(permanent=False), BEGAN + 60, BEGAN + 60)
    assert isinstance(failed, Look)

    assert OPEN.list_after == DAY[0] - timedelta(seconds=1)
    expected = BEGAN_AT - timedelta(seconds=LIST_LAG_SECONDS + 1)
    assert first.lookout.list_after == failed.lookout.list_after == expected
    # Never before the window.
    assert replace(OPEN, listed_until=DAY[0].timestamp()).list_after == OPEN.list_after


def test_an_outage_is_logged_once_and_its_end_too() -> None:
    """Not one line for each look."""
    lookout, lines = OPEN, []
    errors: list[PolysyncError | None] = [api_error(permanent=False)] * 3 + [None, None]
    for number, error in enumerate(errors):
        step = lookout.decide(error, BEGAN + number, BEGAN + number)
        assert isinstance(step, Look)
        lookout = step.lookout
        lines += [(line.level, line.text) for line in step.log_lines]

    assert lines == [
        (logging.WARNING, "The executions cannot be listed, retrying: AWS says no"),
        (logging.INFO, "The executions of fanout can be listed again"),
    ]


def test_outage_of_shared_lists_is_logged_if_it_lasts() -> None:
    """The triggerer's log has a line for all searches; that of the task names an error of five minutes."""
    lookout, lines = replace(OPEN, shared=True), []
    for after in (0.0, 299.0, 300.0, 301.0):
        step = lookout.decide(api_error(permanent=False), BEGAN + after, BEGAN + after)
        assert isinstance(step, Look)
        lookout = step.lookout
        lines.append([line.text for line in step.log_lines])

    assert lines == [[], [], ["The executions cannot be listed, retrying for 5 min: AWS says no"], []]
