"""The pace: what it never exceeds, how it falls and recovers, whatever the clock does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync_airflow.aws.rate_limiter import (
    BURST_SECONDS,
    MAX_RATE,
    MIN_RATE,
    ROUNDING,
    RateLimiter,
    rate_limiter_for,
)

START = 1_000.0

steps = st.lists(st.floats(0, 3), min_size=1, max_size=60)
rates = st.floats(0.5, 500)


def calls_made(pace: RateLimiter, pauses: Sequence[float], greed: int = 40) -> list[float]:
    """Return when calls were made by somebody who asks after each pause, and calls as often as allowed."""
    now, made = START, []
    for pause in pauses:
        now += pause
        for _ in range(greed):
            if pace.try_acquire(now):
                break
            made.append(now)
    return made


@given(steps, rates)
def test_no_window_has_more_calls_than_burst_and_rate_allow(pauses: list[float], rate: float) -> None:
    """However a caller sleeps, between any two calls lie no more than the burst and what time brought."""
    made = calls_made(RateLimiter(START, rate=rate), pauses)

    burst = max(1, rate * BURST_SECONDS)
    for first in range(len(made)):
        for last in range(first, len(made)):
            assert last - first + 1 <= burst + rate * (made[last] - made[first]) + ROUNDING


@given(steps, st.lists(st.booleans(), min_size=60, max_size=60))
def test_the_rate_halves_at_most_once_a_second_and_stays_in_bounds(
    pauses: list[float], throttles: list[bool]
) -> None:
    """Many throttled calls that were under way together are one reason to slow down."""
    pace, now, halved = RateLimiter(START), START, []
    for pause, throttle in zip(pauses, throttles, strict=False):
        now += pause
        pace.delay(now)
        before = pace.rate
        if throttle:
            pace.throttled(now)
        assert pace.rate in (before, max(before / 2, MIN_RATE))
        assert MIN_RATE <= pace.rate <= MAX_RATE
        if pace.rate < before:
            halved.append(now)
    assert all(later - earlier >= 1 - ROUNDING for earlier, later in pairwise(halved))


@given(steps, st.sampled_from([START, 1_750_000_000.0]))
def test_who_waits_as_told_may_call(pauses: list[float], start: float) -> None:
    """The delay that is told is long enough, to the clock's last digit, and asking for it takes nothing."""
    pace, now = RateLimiter(start), start
    for pause in pauses:
        now += pause
        pace.take(now)
    pace.throttled(now)
    for _ in range(5):
        told = pace.delay(now)
        assert pace.delay(now) == told
        now += told
        assert pace.delay(now) == 0
        pace.take(now)


@given(st.integers(1, 30))
def test_the_full_rate_comes_back(throttlings: int) -> None:
    """After any number of throttlings the pace recovers, by one call per second each second."""
    pace, now = RateLimiter(START), START
    for _ in range(throttlings):
        now += 1
        pace.throttled(now)
    low = pace.rate

    pace.delay(now + 10)
    assert pace.rate == pytest.approx(min(low + 10, MAX_RATE))
    pace.delay(now + MAX_RATE)
    assert pace.rate == MAX_RATE


@given(st.lists(st.floats(-1e9, 1e9), max_size=30))
def test_a_clock_that_jumps_blocks_nobody(jumps: list[float]) -> None:
    """Wherever the clock has been, the next call is at most as far away as the lowest rate says."""
    pace = RateLimiter(START)
    for now in jumps:
        pace.throttled(now)
        pace.try_acquire(now)
        assert MIN_RATE <= pace.rate <= MAX_RATE
    here = jumps[-1] if jumps else START
    assert pace.delay(here) <= 1 / MIN_RATE + ROUNDING


def test_a_step_back_gives_no_calls_away() -> None:
    """A clock that is set back and catches up again has not gone forwards twice."""
    pace = RateLimiter(START)
    made = calls_made(pace, [0.0])
    assert len(made) == 20
    assert pace.delay(START - 3_600) > 0
    assert pace.try_acquire(START - 3_600 + 1 / MAX_RATE) == 0


def test_a_call_that_was_not_due_delays_the_next() -> None:
    """Who cannot wait, as a stop cannot, is counted all the same."""
    pace = RateLimiter(START, rate=10)
    for _ in range(3):
        pace.take(START)
    assert pace.delay(START) == pytest.approx(0.3)


def test_throttling_takes_what_was_saved_up() -> None:
    """There is no burst right after AWS has said that there was too much."""
    pace = RateLimiter(START)
    pace.throttled(START)
    assert pace.rate == MAX_RATE / 2
    assert pace.delay(START) == pytest.approx(1 / pace.rate)


def test_threads_that_compete_get_no_more_than_one_would() -> None:
    """Asking and taking is one step, so that two threads cannot take the same call."""
    pace, gun = RateLimiter(START), Barrier(8)
    made: list[int] = []

    def compete() -> None:
        gun.wait()
        made.extend(i for i in range(100) if not pace.try_acquire(START))

    threads = [Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 20


def test_a_process_keeps_one_pace_with_a_connection_and_region() -> None:
    """Whoever calls, and from whichever thread, is counted together; another region is another pace."""
    first = rate_limiter_for(("one", "eu-central-1"), START)
    assert rate_limiter_for(("one", "eu-central-1"), START + 5) is first
    assert rate_limiter_for(("one", "us-east-1"), START) is not first
    assert rate_limiter_for(("one", None), START) is not first
