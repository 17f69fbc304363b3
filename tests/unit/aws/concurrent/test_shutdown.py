"""
The end of concurrent calls: no call begins after it, and the threads end however the
context is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from polysync_airflow.aws import retry
from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.exceptions import SageMakerApiError
from tests.unit.aws.concurrent.recording import (
    DENIED,
    WORKERS,
    Calls,
    raised_when,
    sagemaker_error,
    threads,
    wait_until,
)


def test_calls_stop_when_results_are_no_longer_fetched(
    open_calls: Callable[..., ConcurrentCalls],
) -> None:
    """Each thread ends with the call that it is in."""

    def work(item: int) -> int:
        time.sleep(0.02)
        return item

    calls = Calls(work)
    with open_calls() as concurrent:
        for result in concurrent.map(calls, range(1_000)):
            if result == 10:
                break
    begun = len(calls.begun)

    wait_until(lambda: not threads())
    assert len(calls.begun) <= begun + WORKERS


@pytest.mark.parametrize(
    "error", [AirflowTaskTimeout("time is up"), KeyboardInterrupt()]
)
def test_an_interruption_does_not_wait_for_calls(
    error: BaseException, open_calls: Callable[..., ConcurrentCalls]
) -> None:
    """
    The task ends at once even if AWS does not respond; each thread ends with the call
    that it is in.
    """
    free = Event()
    calls = Calls(lambda item: free.wait(60))

    begun = time.monotonic()
    with (
        raised_when(lambda: calls.at_once == WORKERS, error),
        pytest.raises(type(error)),
        open_calls() as concurrent,
    ):
        list(concurrent.map(calls, range(2 * WORKERS)))

    assert time.monotonic() - begun < 30
    assert calls.at_once == WORKERS
    free.set()
    wait_until(lambda: not threads())
    assert len(calls.begun) == WORKERS


def test_threads_that_wait_for_the_rate_limiter_end_at_once() -> None:
    """After the end, no thread waits for a rate limiter, however slow it is."""
    limiter = RateLimiter(time.monotonic(), rate=0.001)
    calls = Calls()

    with (
        raised_when(
            lambda: len(calls.begun) == 1 and len(threads()) > 1, KeyboardInterrupt()
        ),
        pytest.raises(KeyboardInterrupt),
        ConcurrentCalls(limiter, print) as concurrent,
    ):
        list(concurrent.map(calls, range(2 * WORKERS)))

    wait_until(lambda: not threads())
    assert len(calls.begun) == 1


def test_threads_in_backoff_end_at_once(
    open_calls: Callable[..., ConcurrentCalls], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backoff before a retry does not delay the end."""
    monkeypatch.setattr(retry, "MIN_BACKOFF_SECONDS", 60)

    def work(item: int) -> None:
        if item == 0:
            raise sagemaker_error("InternalFailure", transient=True)
        wait_until(lambda: 0 in calls.begun)
        raise DENIED

    calls = Calls(work)
    begun = time.monotonic()
    with pytest.raises(SageMakerApiError), open_calls() as concurrent:
        list(concurrent.map(calls, range(2)))

    assert time.monotonic() - begun < 30
    wait_until(lambda: not threads())
