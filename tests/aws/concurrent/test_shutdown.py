"""The lane's end: nothing is called after it, and its threads end on every way out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from threading import Event

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from polysync_airflow.aws import concurrent_calls
from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.aws.concurrent.calls import (
    AHEAD,
    DENIED,
    WORKERS,
    Calls,
    Items,
    raised_when,
    refusal,
    threads,
    wait_until,
)


def test_who_lists_waits_for_no_page_that_an_error_has_made_idle(
    open_lane: Callable[..., ConcurrentCalls],
) -> None:
    """A page that waits to be asked for again is given up, with the error of the call that ended the lane."""

    def items() -> Iterator[int]:
        yield 0
        lane.call(page)

    def page() -> None:
        raise refusal("ServiceUnavailable", transient=True)

    def work(item: int) -> None:
        time.sleep(0.1)
        raise DENIED

    with open_lane() as lane, pytest.raises(SageMakerApiError) as caught:
        list(lane.map(Calls(work), items()))

    assert caught.value is DENIED


def test_a_lane_that_is_over_gives_no_answers(open_lane: Callable[..., ConcurrentCalls]) -> None:
    """Items that will never be called are an error, not an empty answer."""

    def deny(item: int) -> None:
        raise DENIED

    with open_lane() as lane:
        for function in (deny, Calls()):
            with pytest.raises(SageMakerApiError):
                list(lane.map(function, [1]))
        left = lane.map(Calls(), [])

    with pytest.raises(SageMakerApiError):
        list(left)
    with open_lane() as lane:
        left = lane.map(Calls(), [1])
    with pytest.raises(CancelledError):
        list(left)


def test_who_stops_fetching_stops_the_calls(open_lane: Callable[..., ConcurrentCalls]) -> None:
    """Calls under way are waited for, and no thread is left."""

    def work(item: int) -> int:
        time.sleep(0.02)
        return item

    calls = Calls(work)
    with open_lane() as lane:
        for answer in lane.map(calls, Items()):
            if answer == 10:
                break
    begun = len(calls.begun)
    time.sleep(0.1)

    assert threads() == []
    assert len(calls.begun) == begun <= 11 + AHEAD


def test_what_nobody_will_fetch_is_not_begun(open_lane: Callable[..., ConcurrentCalls]) -> None:
    """Answers that are given up cost no more calls, even if the lane goes on with others."""
    free = Event()
    calls = Calls(lambda item: item < 5 or free.wait(30))

    with open_lane() as lane:
        answers = lane.map(calls, Items())
        for _ in range(5):
            next(answers)
        wait_until(lambda: calls.at_once == WORKERS)
        answers.close()  # type: ignore[attr-defined]  # a generator
        free.set()
        assert list(lane.map(lambda item: item, [1, 2])) == [1, 2]

    assert len(calls.begun) == 5 + WORKERS


def test_another_error_of_who_fetches_ends_the_threads(open_lane: Callable[..., ConcurrentCalls]) -> None:
    """A bug in what is done with an answer leaves no thread behind."""
    with pytest.raises(ZeroDivisionError), open_lane() as lane:
        any(1 / answer for answer in lane.map(Calls(), Items()))

    assert threads() == []


@pytest.mark.parametrize("error", [AirflowTaskTimeout("time is up"), KeyboardInterrupt()])
def test_who_is_interrupted_waits_for_no_call(
    error: BaseException, open_lane: Callable[..., ConcurrentCalls], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task ends at once, even if AWS does not answer; the threads end with the calls they are in."""
    monkeypatch.setattr(concurrent_calls, "SHUTDOWN_TIMEOUT_SECONDS", 60)
    free = Event()
    calls = Calls(lambda item: free.wait(60))

    begun = time.monotonic()
    with (
        raised_when(lambda: calls.at_once == WORKERS, error),
        pytest.raises(type(error)),
        open_lane() as lane,
    ):
        list(lane.map(calls, Items()))

    assert time.monotonic() - begun < 30
    assert calls.at_once == WORKERS
    free.set()
    wait_until(lambda: not threads())
    assert len(calls.begun) == WORKERS


def test_threads_that_wait_for_the_pace_end_at_once(emulator: EmulatorServer) -> None:
    """However slow the pace is, nobody waits for it once the lane is over."""
    pace, calls = RateLimiter(time.monotonic(), rate=0.001), Calls()

    with (
        raised_when(lambda: len(calls.begun) == 1 and len(threads()) > 1, KeyboardInterrupt()),
        pytest.raises(KeyboardInterrupt),
        ConcurrentCalls(PolysyncSageMakerHook(), pace) as lane,
    ):
        list(lane.map(calls, Items()))

    wait_until(lambda: not threads())
    assert len(calls.begun) == 1


def test_threads_that_wait_to_repeat_a_call_end_at_once(
    open_lane: Callable[..., ConcurrentCalls], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause between two attempts is no reason to stay."""
    monkeypatch.setattr(concurrent_calls, "MIN_BACKOFF_SECONDS", 60)

    def work(item: int) -> None:
        if item == 0:
            raise refusal("InternalFailure", transient=True)
        wait_until(lambda: 0 in calls.begun)
        raise DENIED

    calls, begun = Calls(work), time.monotonic()
    with pytest.raises(SageMakerApiError), open_lane() as lane:
        list(lane.map(calls, range(2)))

    assert time.monotonic() - begun < 30
    wait_until(lambda: not threads())


def test_a_call_that_hangs_holds_the_end_up_only_so_long(
    open_lane: Callable[..., ConcurrentCalls], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error is reported in time even if another call gets no answer."""
    monkeypatch.setattr(concurrent_calls, "SHUTDOWN_TIMEOUT_SECONDS", 0.2)
    free = Event()

    def work(item: int) -> None:
        if item == 0:
            wait_until(lambda: calls.at_once == 3)
            raise DENIED
        free.wait(30)

    calls, begun = Calls(work), time.monotonic()
    with pytest.raises(SageMakerApiError), open_lane() as lane:
        list(lane.map(calls, range(3)))

    assert time.monotonic() - begun < 20
    free.set()
    wait_until(lambda: not threads())
