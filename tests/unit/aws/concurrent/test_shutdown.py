"""
The end of concurrent calls: no call begins after it, and the threads end however the
context is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from threading import Event

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from polysync_airflow.aws import concurrent_calls, retry
from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.exceptions import SageMakerApiError
from tests.unit.aws.concurrent.recording import (
    AHEAD,
    DENIED,
    WORKERS,
    Calls,
    Items,
    raised_when,
    sagemaker_error,
    threads,
    wait_until,
)


def test_the_listing_does_not_retry_after_an_error(
    open_calls: Callable[..., ConcurrentCalls],
) -> None:
    """
    A page that waits for its retry is cancelled, and the error of the failed call is
    raised.
    """

    def items() -> Iterator[int]:
        yield 0
        concurrent.call(page)

    def page() -> None:
        raise sagemaker_error("ServiceUnavailable", transient=True)

    def work(item: int) -> None:
        time.sleep(0.1)
        raise DENIED

    with open_calls() as concurrent, pytest.raises(SageMakerApiError) as caught:
        list(concurrent.map(Calls(work), items()))

    assert caught.value is DENIED


def test_no_results_after_the_end(open_calls: Callable[..., ConcurrentCalls]) -> None:
    """
    Items that will never be processed raise an error; the result is not an empty list.
    """

    def deny(item: int) -> None:
        raise DENIED

    with open_calls() as concurrent:
        for function in (deny, Calls()):
            with pytest.raises(SageMakerApiError):
                list(concurrent.map(function, [1]))
        left = concurrent.map(Calls(), [])

    with pytest.raises(SageMakerApiError):
        list(left)
    with open_calls() as concurrent:
        left = concurrent.map(Calls(), [1])
    with pytest.raises(CancelledError):
        list(left)


def test_calls_stop_when_results_are_no_longer_fetched(
    open_calls: Callable[..., ConcurrentCalls],
) -> None:
    """The end waits for calls in progress, and no thread is left."""

    def work(item: int) -> int:
        time.sleep(0.02)
        return item

    calls = Calls(work)
    with open_calls() as concurrent:
        for result in concurrent.map(calls, Items()):
            if result == 10:
                break
    begun = len(calls.begun)
    time.sleep(0.1)

    assert threads() == []
    assert len(calls.begun) == begun <= 11 + AHEAD


def test_a_closed_iterator_begins_no_further_calls(
    open_calls: Callable[..., ConcurrentCalls],
) -> None:
    """After the results' iterator is closed, only calls for other iterators begin."""
    free = Event()
    calls = Calls(lambda item: item < 5 or free.wait(30))

    with open_calls() as concurrent:
        results = concurrent.map(calls, Items())
        for _ in range(5):
            next(results)
        wait_until(lambda: calls.at_once == WORKERS)
        results.close()  # type: ignore[attr-defined]  # a generator
        free.set()
        assert list(concurrent.map(lambda item: item, [1, 2])) == [1, 2]

    assert len(calls.begun) == 5 + WORKERS


def test_an_error_in_the_fetching_thread_ends_the_threads(
    open_calls: Callable[..., ConcurrentCalls],
) -> None:
    """An error while a result is processed leaves no thread behind."""
    with pytest.raises(ZeroDivisionError), open_calls() as concurrent:
        any(1 / result for result in concurrent.map(Calls(), Items()))

    assert threads() == []


@pytest.mark.parametrize(
    "error", [AirflowTaskTimeout("time is up"), KeyboardInterrupt()]
)
def test_an_interruption_does_not_wait_for_calls(
    error: BaseException,
    open_calls: Callable[..., ConcurrentCalls],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The task ends at once even if AWS does not respond; each thread ends with the call
    that it is in.
    """
    monkeypatch.setattr(concurrent_calls, "SHUTDOWN_TIMEOUT_SECONDS", 60)
    free = Event()
    calls = Calls(lambda item: free.wait(60))

    begun = time.monotonic()
    with (
        raised_when(lambda: calls.at_once == WORKERS, error),
        pytest.raises(type(error)),
        open_calls() as concurrent,
    ):
        list(concurrent.map(calls, Items()))

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
        list(concurrent.map(calls, Items()))

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


def test_a_hanging_call_delays_the_end_only_up_to_the_timeout(
    open_calls: Callable[..., ConcurrentCalls], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error is raised in time even if another call gets no response."""
    monkeypatch.setattr(concurrent_calls, "SHUTDOWN_TIMEOUT_SECONDS", 0.2)
    free = Event()

    def work(item: int) -> None:
        if item == 0:
            wait_until(lambda: calls.at_once == 3)
            raise DENIED
        free.wait(30)

    calls = Calls(work)
    begun = time.monotonic()
    with pytest.raises(SageMakerApiError), open_calls() as concurrent:
        list(concurrent.map(calls, range(3)))

    assert time.monotonic() - begun < 20
    free.set()
    wait_until(lambda: not threads())
