"""The schedule of looks, as a pure function of what is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS, Waiter
from polysync_airflow.triggers.schedule import (
    SHORTEST_INTERVAL_SECONDS,
    SKEW_SECONDS,
    Forecast,
    Pipeline,
    first_poll,
    list_created_after,
    listing_is_cheaper,
    pipeline_arn_of,
)

NOW = 1_750_000_000.0


def watch(name: str = "fanout", poll_interval: float = 30, deadline: float = NOW + 7200) -> Waiter:
    """Make a wait that has just begun."""
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:pipeline/{name}/execution/abcdefghijkl"
    return Waiter(arn, name, poll_interval, NOW, deadline)


def test_first_looks_of_many_pipelines_are_spread_over_the_interval() -> None:
    """A triggerer that takes over a thousand waits asks for about as many in each second, none too early."""
    looks = [first_poll(watch(f"pipeline-{n}"), NOW, None) - NOW for n in range(1000)]

    assert min(looks) >= FIRST_POLL_DELAY_SECONDS
    assert max(looks) <= 30
    each_second = [sum(second <= look < second + 1 for look in looks) for second in range(5, 30)]
    assert max(each_second) < 3 * 1000 / 25
    assert min(each_second) > 1000 / 25 / 3


def test_first_looks_are_spread_even_if_looks_are_close_together() -> None:
    """With an interval that is no longer than the first pause, they still do not come all at once."""
    looks = {first_poll(watch(f"pipeline-{n}", poll_interval=2), NOW, None) - NOW for n in range(100)}

    assert len(looks) > 90
    assert max(looks) <= 2 * FIRST_POLL_DELAY_SECONDS


@given(st.floats(-1000, 1000), st.floats(1, 600))
def test_who_joins_a_watched_pipeline_is_looked_at_in_one_of_its_rounds(
    ahead: float, interval: float
) -> None:
    """Never before the first pause, and no later than one interval after it."""
    due = first_poll(watch(poll_interval=interval), NOW, NOW + ahead)

    assert NOW + FIRST_POLL_DELAY_SECONDS <= due <= NOW + FIRST_POLL_DELAY_SECONDS + interval
    rounds = (due - NOW - ahead) / interval
    assert due == NOW + FIRST_POLL_DELAY_SECONDS + interval or rounds == pytest.approx(
        round(rounds), abs=1e-3
    )


def test_the_deadline_is_looked_at_though_never_within_the_first_seconds() -> None:
    """A wait whose time has passed already ends with its first look, not before."""
    assert first_poll(watch(deadline=NOW + 8), NOW, NOW + 20) == NOW + 8
    assert first_poll(watch(deadline=NOW - 100), NOW, None) == NOW + FIRST_POLL_DELAY_SECONDS


@pytest.mark.parametrize(
    ("pages", "due", "pays"), [(1, 1, False), (1, 2, True), (10, 10, False), (10, 11, True), (1, 1000, True)]
)
def test_a_listing_is_made_only_where_it_takes_fewer_calls(pages: int, due: int, pays: bool) -> None:
    """A listing as dear as the looks is not made: a look tells more."""
    assert listing_is_cheaper(pages, due) is pays


def test_without_enough_history_the_interval_is_the_tasks_own() -> None:
    """Two executions tell nothing of how much they vary."""
    forecast = Forecast()
    forecast.learn(600)
    forecast.learn(600)

    assert forecast.interval(600, 30) == 30


@pytest.mark.parametrize(
    ("age", "interval"),
    [(0, 30), (500, 30), (565, 7.5), (570, 7.5), (600, 7.5), (629, 7.5), (631, 30), (5000, 30)],
)
def test_looks_come_closer_together_around_the_expected_end(age: float, interval: float) -> None:
    """Executions that took ten minutes each: closer looks from half a minute before until half a minute after."""
    forecast = Forecast()
    for _ in range(3):
        forecast.learn(600)

    assert forecast.interval(age, 30) == interval


@given(st.lists(st.floats(0, 100_000), min_size=3, max_size=30), st.floats(0, 200_000), st.floats(0.5, 3600))
def test_a_forecast_keeps_between_the_floor_and_the_tasks_interval(
    known: list[float], age: float, poll_interval: float
) -> None:
    """Whatever was seen, no look comes later than the task wants, nor so soon that it costs others calls."""
    forecast = Forecast()
    for seconds in known:
        forecast.learn(seconds)

    interval = forecast.interval(age, poll_interval)

    assert min(poll_interval, SHORTEST_INTERVAL_SECONDS) <= interval <= poll_interval


def test_executions_that_vary_widely_are_not_looked_at_more_often_than_needed() -> None:
    """Between one and three hours there is no end to be expected that closer looks would catch."""
    forecast = Forecast()
    for hours in (1, 2, 3):
        forecast.learn(3600 * hours)

    assert forecast.interval(2 * 3600, 30) == 30


def test_listings_go_back_to_the_oldest_that_is_awaited() -> None:
    """By AWS's clock where it has told, else by ours, with a margin for a clock that is wrong."""
    begun = datetime.fromtimestamp(NOW - 50, UTC)
    seen = ExecutionDescription.model_construct(execution_arn="", status="Executing", created_at=begun)
    known = replace(watch(), last_description=seen)

    assert list_created_after([known]).timestamp() == NOW - 51
    assert list_created_after([known, watch()]).timestamp() == NOW - SKEW_SECONDS - 1


def test_a_pipeline_is_known_by_its_arn() -> None:
    """An ARN names the pipeline in lower case, so only the ARN as a whole can be given back to AWS."""
    arn = "arn:aws-cn:sagemaker:cn-north-1:123456789012:pipeline/fan-out"
    assert pipeline_arn_of(f"{arn}/execution/abcdefghijkl") == arn


def test_the_next_round_is_the_earliest_that_is_still_to_come() -> None:
    """Later ones do not put it off; one that has passed gives way."""
    pipeline = Pipeline("arn")
    for due in (NOW + 20, NOW + 30, NOW + 10):
        pipeline.expect(due, NOW)
    first = pipeline.next_poll
    pipeline.expect(NOW + 40, NOW + 15)

    assert (first, pipeline.next_poll) == (NOW + 10, NOW + 40)


def test_a_forecast_follows_what_was_seen_last() -> None:
    forecast = Forecast()
    for seconds in [100.0] * 3 + [1000.0] * 20:
        forecast.learn(seconds)

    assert forecast.interval(100.0, 60.0) == 60.0
    assert forecast.interval(1000.0, 60.0) < 60.0
