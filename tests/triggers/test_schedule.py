"""The schedule of the polls, which depends on nothing but its arguments."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS, Waiter
from polysync_airflow.triggers.schedule import (
    CLOCK_SKEW_SECONDS,
    MIN_INTERVAL_SECONDS,
    Forecast,
    Pipeline,
    first_poll,
    list_created_after,
    listing_is_cheaper,
    pipeline_arn_of,
)

NOW = 1_750_000_000.0


def make_waiter(name: str = "fanout", poll_interval: float = 30, deadline: float = NOW + 7200) -> Waiter:
    """Return the state of a wait that has just begun."""
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:pipeline/{name}/execution/abcdefghijkl"
    return Waiter(arn, name, poll_interval, NOW, deadline)


def test_first_polls_of_many_pipelines_are_spread_over_the_interval() -> None:
    """A triggerer that takes over a thousand waits makes about as many polls in each second, none too early."""
    polls = [first_poll(make_waiter(f"pipeline-{n}"), NOW, None) - NOW for n in range(1000)]

    assert min(polls) >= FIRST_POLL_DELAY_SECONDS
    assert max(polls) <= 30
    per_second = [sum(second <= poll < second + 1 for poll in polls) for second in range(5, 30)]
    assert max(per_second) < 3 * 1000 / 25
    assert min(per_second) > 1000 / 25 / 3


def test_first_polls_are_spread_even_with_a_short_interval() -> None:
    """If the interval is not longer than the delay of the first poll, the polls still do not come all at once."""
    polls = {first_poll(make_waiter(f"pipeline-{n}", poll_interval=2), NOW, None) - NOW for n in range(100)}

    assert len(polls) > 90
    assert max(polls) <= 2 * FIRST_POLL_DELAY_SECONDS


@given(st.floats(-1000, 1000), st.floats(1, 600))
def test_new_execution_is_polled_together_with_its_pipeline(offset: float, interval: float) -> None:
    """If its pipeline is polled already, an execution is polled first in one of the pipeline's polls.

    That poll is never before the delay of the first poll, and at most one interval after it.
    """
    due = first_poll(make_waiter(poll_interval=interval), NOW, NOW + offset)

    assert NOW + FIRST_POLL_DELAY_SECONDS <= due <= NOW + FIRST_POLL_DELAY_SECONDS + interval
    polls_later = (due - NOW - offset) / interval
    assert due == NOW + FIRST_POLL_DELAY_SECONDS + interval or polls_later == pytest.approx(
        round(polls_later), abs=1e-3
    )


def test_first_poll_is_at_the_deadline_at_the_latest() -> None:
    """A deadline before the next poll brings the first poll forward, but not before the delay of the first poll."""
    assert first_poll(make_waiter(deadline=NOW + 8), NOW, NOW + 20) == NOW + 8
    assert first_poll(make_waiter(deadline=NOW - 100), NOW, None) == NOW + FIRST_POLL_DELAY_SECONDS


@pytest.mark.parametrize(
    ("pages", "due", "cheaper"),
    [(1, 1, False), (1, 2, True), (10, 10, False), (10, 11, True), (1, 1000, True)],
)
def test_listing_is_used_only_if_it_takes_fewer_calls(pages: int, due: int, cheaper: bool) -> None:
    """With the same number of calls, the executions are described, since a description has more details."""
    assert listing_is_cheaper(pages, due) is cheaper


def test_interval_is_that_of_the_task_without_enough_durations() -> None:
    """Two durations do not show how much the durations vary."""
    forecast = Forecast()
    forecast.add(600)
    forecast.add(600)

    assert forecast.interval(600, 30) == 30


@pytest.mark.parametrize(
    ("age", "interval"),
    [(0, 30), (500, 30), (565, 7.5), (570, 7.5), (600, 7.5), (629, 7.5), (631, 30), (5000, 30)],
)
def test_polls_come_closer_together_around_the_expected_end(age: float, interval: float) -> None:
    """If executions took ten minutes each, polls are closer from 30 seconds before until 30 seconds after that."""
    forecast = Forecast()
    for _ in range(3):
        forecast.add(600)

    assert forecast.interval(age, 30) == interval


@given(st.lists(st.floats(0, 100_000), min_size=3, max_size=30), st.floats(0, 200_000), st.floats(0.5, 3600))
def test_interval_is_between_the_minimum_and_that_of_the_task(
    durations: list[float], age: float, poll_interval: float
) -> None:
    """Whatever the durations were, no poll comes later than the task wants, or sooner than the minimum."""
    forecast = Forecast()
    for seconds in durations:
        forecast.add(seconds)

    interval = forecast.interval(age, poll_interval)

    assert min(poll_interval, MIN_INTERVAL_SECONDS) <= interval <= poll_interval


def test_widely_varying_durations_cause_no_more_polls() -> None:
    """Durations of one to three hours show no expected end that closer polls would find earlier."""
    forecast = Forecast()
    for hours in (1, 2, 3):
        forecast.add(3600 * hours)

    assert forecast.interval(2 * 3600, 30) == 30


def test_listings_begin_with_the_oldest_awaited_execution() -> None:
    """The creation time is AWS's if it is known, else the beginning of the wait with a margin for a wrong clock."""
    created_at = datetime.fromtimestamp(NOW - 50, UTC)
    polled = replace(make_waiter(), started_at=created_at)

    assert list_created_after([polled]).timestamp() == NOW - 51
    assert list_created_after([polled, make_waiter()]).timestamp() == NOW - CLOCK_SKEW_SECONDS - 1


def test_pipeline_arn_is_part_of_the_execution_arn() -> None:
    """An ARN has the pipeline's name in lower case, so AWS gets the pipeline's ARN instead of a name."""
    arn = "arn:aws-cn:sagemaker:cn-north-1:123456789012:pipeline/fan-out"
    assert pipeline_arn_of(f"{arn}/execution/abcdefghijkl") == arn


def test_next_poll_of_a_pipeline_is_the_earliest_in_the_future() -> None:
    """Later polls do not move it; a poll in the past is replaced."""
    pipeline = Pipeline("arn")
    for due in (NOW + 20, NOW + 30, NOW + 10):
        pipeline.schedule(due, NOW)
    first = pipeline.next_poll
    pipeline.schedule(NOW + 40, NOW + 15)

    assert (first, pipeline.next_poll) == (NOW + 10, NOW + 40)


def test_forecast_follows_the_last_durations() -> None:
    """Old durations are dropped, so that the expected end moves when a pipeline becomes slower."""
    forecast = Forecast()
    for seconds in [100.0] * 3 + [1000.0] * 20:
        forecast.add(seconds)

    assert forecast.interval(100.0, 60.0) == 60.0
    assert forecast.interval(1000.0, 60.0) < 60.0
