"""
The rate limiter: the limit that it keeps, and how the rate falls and recovers, also if
the clock jumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Barrier, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysync_airflow.aws.rate_limiter import (
    BURST_SECONDS,
    MAX_RATE,
    ROUNDING,
    RateLimiter,
    rate_limiter_for,
)
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution import clock
from tests.fakes.stopped_clock import StoppedClock

START = 1_000.0

# On a busy machine, a case may take any time.
no_deadline = settings(deadline=None)
intervals = st.lists(st.floats(0, 3), min_size=1, max_size=60)
rates = st.floats(0.5, 500)


def call_times(
    limiter: RateLimiter, intervals: Sequence[float], max_calls: int = 40
) -> list[float]:
    """
    Return the times of the calls of a caller that sleeps, then calls as often as the
    limiter allows.
    """
    now = START
    times = []
    for seconds in intervals:
        now += seconds
        for _ in range(max_calls):
            if limiter.try_acquire(now):
                break
            times.append(now)
    return times


@no_deadline
@given(intervals, rates)
def test_no_period_has_more_calls_than_burst_and_rate_allow(
    intervals: list[float], rate: float
) -> None:
    """
    Between any two calls there are at most the calls of one burst, plus the rate times
    the period.
    """
    times = call_times(RateLimiter(START, rate=rate), intervals)

    burst = max(1, rate * BURST_SECONDS)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert (
                last - first + 1
                <= burst + rate * (times[last] - times[first]) + ROUNDING
            )


@no_deadline
@given(intervals, st.sampled_from([START, 1_750_000_000.0]))
def test_a_call_is_allowed_after_the_delay(
    intervals: list[float], start: float
) -> None:
    """
    The returned delay is long enough in spite of rounding errors, and ``delay`` takes
    no token.
    """
    limiter = RateLimiter(start)
    now = start
    for seconds in intervals:
        now += seconds
        limiter.take(now)
    limiter.throttled(now)
    for _ in range(5):
        delay = limiter.delay(now)
        assert limiter.delay(now) == delay
        now += delay
        assert limiter.delay(now) == 0
        limiter.take(now)


def test_a_clock_that_steps_back_adds_no_tokens() -> None:
    """
    If the clock is set back, the time that it needs to catch up does not count twice.
    """
    limiter = RateLimiter(START)
    times = call_times(limiter, [0.0])
    assert len(times) == 20
    assert limiter.delay(START - 3_600) > 0
    assert limiter.try_acquire(START - 3_600 + 1 / MAX_RATE) == 0


def test_a_call_without_a_token_delays_the_next() -> None:
    """A call that cannot wait, such as a stop, is counted as well."""
    limiter = RateLimiter(START, rate=10)
    for _ in range(3):
        limiter.take(START)
    assert limiter.delay(START) == pytest.approx(0.3)


def test_throttling_removes_the_tokens() -> None:
    """There is no burst directly after AWS has throttled a call."""
    limiter = RateLimiter(START)
    limiter.throttled(START)
    assert limiter.rate == MAX_RATE / 2
    assert limiter.delay(START) == pytest.approx(1 / limiter.rate)


def test_calls_that_are_throttled_within_a_second_count_once() -> None:
    """
    The second begins with the throttled call that has halved the rate, however the time
    is asked for.
    """
    limiter = RateLimiter(START, rate=64)
    times = (0, 0.5, 0.9375, 1, 1.5, 2, 9)
    for seconds, rate in zip(
        times, (32, 32.5, 32.9375, 16.5, 17, 8.75, 7.875), strict=True
    ):
        limiter.throttled(START + seconds)
        assert limiter.rate == rate


def test_acquire_sleeps_and_takes_the_token(stopped_clock: StoppedClock) -> None:
    """``acquire`` sleeps as long as ``try_acquire`` says, and takes the token."""
    limiter = RateLimiter(stopped_clock.seconds, rate=10)
    for _ in range(3):
        limiter.acquire(stopped_clock.sleep)

    assert stopped_clock.sleeps == pytest.approx([0.1, 0.1])
    assert limiter.delay(stopped_clock.seconds) == pytest.approx(0.1)


def test_competing_threads_get_no_more_calls_than_one_thread() -> None:
    """
    ``try_acquire`` checks and takes a token in one step, so that two threads never take
    the same token.
    """
    limiter = RateLimiter(START)
    barrier = Barrier(8)
    acquired: list[int] = []

    def compete() -> None:
        barrier.wait()
        acquired.extend(i for i in range(100) if not limiter.try_acquire(START))

    threads = [Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(acquired) == 20


def test_a_process_has_one_rate_limiter_for_a_connection_and_region() -> None:
    """
    All callers with the same connection and region share a rate limiter; other regions
    have another.
    """
    first = rate_limiter_for(("one", "eu-central-1"), START)
    assert first.delay(START) == 0
    assert rate_limiter_for(("one", "eu-central-1"), START + 5) is first
    assert rate_limiter_for(("one", "us-east-1"), START) is not first
    assert rate_limiter_for(("one", None), START) is not first


def test_a_throttled_call_halves_the_rate() -> None:
    """Its error is raised, and other errors leave the rate as it is."""
    limiter = RateLimiter(clock.monotonic(), rate=100)

    def fail(code: str) -> None:
        raise SageMakerApiError(code, error_code=code, operation="X", permanent=False)

    with pytest.raises(SageMakerApiError):
        limiter.call(lambda: fail("InternalFailure"))
    assert limiter.rate == 100
    with pytest.raises(SageMakerApiError):
        limiter.call(lambda: fail("ThrottlingException"))
    assert limiter.rate == pytest.approx(50, rel=0.1)
