"""
Results of concurrent calls: their order, how many calls run at the same time, and which
errors are retried.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Event

import pytest

from polysync_airflow.aws import concurrent_calls
from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.exceptions import SageMakerApiError
from tests.unit.aws.concurrent.recording import (
    DENIED,
    THROTTLED,
    WORKERS,
    Calls,
    sagemaker_error,
    threads,
    wait_until,
)


def test_results_come_in_the_order_of_the_items(
    open_calls: Callable[..., ConcurrentCalls],
) -> None:
    """
    Results keep the items' order whatever each call takes; all threads work, and end.
    """
    numbers = random.Random(1)

    def work(item: int) -> int:
        time.sleep(numbers.random() / 200)
        return item * 2

    calls = Calls(work)

    with open_calls() as concurrent:
        assert list(concurrent.map(calls, range(200))) == [
            item * 2 for item in range(200)
        ]

    assert calls.most_at_once == WORKERS
    wait_until(lambda: not threads())


def test_throttled_calls_are_retried_at_half_the_rate(
    open_calls: Callable[..., ConcurrentCalls],
    limiter: RateLimiter,
    warnings: list[str],
) -> None:
    """
    Calls that are throttled together halve the rate once, are retried, and are logged
    in one line.
    """
    throttled: set[int] = set()

    def work(item: int) -> int:
        if item < 3 and item not in throttled:
            throttled.add(item)
            raise THROTTLED
        return item

    with open_calls() as concurrent:
        assert list(concurrent.map(Calls(work), range(50))) == list(range(50))

    assert limiter.rate == pytest.approx(50_000, rel=0.01)
    assert warnings == ["Transient error, retrying: ThrottlingException: no"]


def test_retries_end_at_the_timeout(
    open_calls: Callable[..., ConcurrentCalls], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transient error that outlasts the timeout is raised."""
    monkeypatch.setattr(concurrent_calls, "RETRY_TIMEOUT_SECONDS", 0.3)

    def work(item: int) -> int:
        raise sagemaker_error("InternalFailure", transient=True)

    calls = Calls(work)
    begun = time.monotonic()
    with (
        open_calls() as concurrent,
        pytest.raises(SageMakerApiError, match="InternalFailure"),
    ):
        list(concurrent.map(calls, range(100)))

    assert time.monotonic() - begun < 20
    # Each backoff is twice as long as the one before.
    assert 1 < calls.begun.count(0) < 10
    assert set(calls.begun) == set(range(WORKERS))


def test_no_call_begins_after_an_error(
    open_calls: Callable[..., ConcurrentCalls],
) -> None:
    """
    The error is raised when its item's turn comes: earlier results are fetched, later
    calls never begin.
    """

    free = Event()
    fetched: list[int] = []

    def work(item: int) -> int:
        if item == 20:
            # Calls for earlier items may still wait for the rate limiter. They would be
            # cancelled.
            wait_until(lambda: calls.begun_before(20))
            raise DENIED
        if item > 20:
            free.wait(10)
        return item

    def fetch(concurrent: ConcurrentCalls) -> None:
        fetched.extend(concurrent.map(calls, range(1_000)))

    calls = Calls(work)
    with open_calls() as concurrent:
        with pytest.raises(SageMakerApiError) as caught:
            fetch(concurrent)
        free.set()

    assert caught.value is DENIED
    assert fetched == list(range(20))
    assert max(calls.begun) < 20 + WORKERS
    wait_until(lambda: not threads())
