"""The lane's answers: their order, how much goes on at once, and what is waited out."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from threading import Event

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from structlog.testing import capture_logs

from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.aws.concurrent.calls import (
    AHEAD,
    DENIED,
    THROTTLED,
    WORKERS,
    Calls,
    Items,
    raised_when,
    refusal,
    threads,
    wait_until,
)


def test_answers_come_in_order_however_long_each_takes(open_lane: Callable[..., ConcurrentCalls]) -> None:
    """The threads are as many as asked for, all of them work, and none is left."""
    chance = random.Random(1)

    def work(item: int) -> int:
        time.sleep(chance.random() / 200)
        return item * 2

    calls = Calls(work)

    with open_lane() as lane:
        assert list(lane.map(calls, range(200))) == [item * 2 for item in range(200)]

    assert calls.most_at_once == WORKERS
    assert threads() == []


def test_items_are_taken_and_answers_kept_only_a_little_ahead(
    open_lane: Callable[..., ConcurrentCalls],
) -> None:
    """However many items there are, no more than a bounded number is in memory."""
    items, calls = Items(), Calls()

    with open_lane() as lane:
        answers = lane.map(calls, items)
        for fetched in range(1, 101):
            next(answers)
            assert items.taken <= fetched - 1 + AHEAD
        wait_until(lambda: len(calls.begun) == items.taken)

    assert threads() == []


def test_an_answer_that_takes_long_lets_no_others_pile_up(open_lane: Callable[..., ConcurrentCalls]) -> None:
    """While the first is awaited, the others are done so far ahead and no further."""
    free, items = Event(), Items()
    calls = Calls(lambda item: item or free.wait(10))

    with open_lane() as lane:
        answers = lane.map(calls, items)
        with (
            raised_when(lambda: len(calls.begun) == AHEAD, AirflowTaskTimeout()),
            pytest.raises(AirflowTaskTimeout),
        ):
            next(answers)
        assert items.taken == AHEAD
        free.set()


def test_throttling_is_waited_out_at_half_the_pace(
    open_lane: Callable[..., ConcurrentCalls], pace: RateLimiter
) -> None:
    """Several throttled calls halve the pace once, are repeated, and are told of in one line."""
    refused: set[int] = set()

    def work(item: int) -> int:
        if item < 3 and item not in refused:
            refused.add(item)
            raise THROTTLED
        return item

    with capture_logs() as logs, open_lane() as lane:
        assert list(lane.map(Calls(work), range(50))) == list(range(50))

    assert pace.rate == pytest.approx(50_000, rel=0.01)
    assert [entry["event"] for entry in logs].count("Will go on trying: ThrottlingException: no") == 1


def test_patience_has_an_end(open_lane: Callable[..., ConcurrentCalls]) -> None:
    """What passes is waited out only so long; then it is an error like any other."""

    def work(item: int) -> int:
        raise refusal("InternalFailure", transient=True)

    calls, begun = Calls(work), time.monotonic()
    with open_lane(patience=0.3) as lane, pytest.raises(SageMakerApiError, match="InternalFailure"):
        list(lane.map(calls, range(100)))

    assert time.monotonic() - begun < 20
    # Each pause is twice as long as the one before.
    assert 1 < calls.begun.count(0) < 10
    assert set(calls.begun) == set(range(WORKERS))


def test_the_first_error_comes_in_its_turn_and_nothing_begins_after_it(
    open_lane: Callable[..., ConcurrentCalls],
) -> None:
    """What was begun before is fetched; what had not begun is never called."""

    free = Event()
    fetched: list[int] = []

    def work(item: int) -> int:
        if item == 20:
            raise DENIED
        if item > 20:
            free.wait(10)
        return item

    def fetch(lane: ConcurrentCalls) -> None:
        fetched.extend(lane.map(calls, range(1_000)))

    calls = Calls(work)
    with open_lane() as lane:
        with pytest.raises(SageMakerApiError) as caught:
            fetch(lane)
        free.set()

    assert caught.value is DENIED
    assert fetched == list(range(20))
    assert max(calls.begun) < 20 + WORKERS
    assert threads() == []


def test_no_item_is_taken_after_an_error(open_lane: Callable[..., ConcurrentCalls]) -> None:
    """Answers from before it are still fetched, but no further page of a list is read."""

    def work(item: int) -> int:
        if item == 10:
            raise DENIED
        return item

    items, calls = Items(), Calls(work)
    with open_lane() as lane:
        answers = lane.map(calls, items)
        assert next(answers) == 0
        wait_until(lane._over.is_set)
        taken = items.taken
        assert [next(answers) for _ in range(9)] == list(range(1, 10))
        with pytest.raises(SageMakerApiError):
            next(answers)

    assert items.taken == taken == AHEAD


def test_an_error_of_the_items_is_the_lanes_too(open_lane: Callable[..., ConcurrentCalls]) -> None:
    """A list whose next page is refused ends the work on the pages before."""

    def items() -> Iterator[int]:
        yield from range(10)
        raise DENIED

    with open_lane() as lane, pytest.raises(SageMakerApiError):
        list(lane.map(Calls(), items()))

    assert threads() == []


@pytest.mark.parametrize(("connections", "workers"), [(None, 4), (3, 2), (1, 1), (50, 4)])
def test_no_more_calls_than_the_client_has_connections(
    connections: int | None,
    workers: int,
    emulator: EmulatorServer,
    pace: RateLimiter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A connection's own max_pool_connections counts, and urllib3 never has to throw a connection away."""
    config = {} if connections is None else {"config_kwargs": {"max_pool_connections": connections}}
    extra = {"region_name": "us-east-1", "endpoint_url": emulator.endpoint_url, **config}
    key = {"login": "AKIAIOSFODNN7EXAMPLE", "password": "emulated-secret-key"}
    monkeypatch.setenv("AIRFLOW_CONN_OWN", json.dumps({"conn_type": "aws", **key, "extra": extra}))
    emulator.control.add_fault("latency", "DescribePipeline", delay=0.02)
    hook = PolysyncSageMakerHook("own", config=RATE_LIMITED_CONFIG)
    calls = Calls(lambda item: hook.describe_pipeline("abalone"))

    with caplog.at_level(logging.WARNING, "urllib3"), ConcurrentCalls(hook, pace, workers=4) as lane:
        for _ in lane.map(calls, range(20)):
            lane.call(lambda: next(hook.list_pipelines()))

    assert calls.most_at_once == workers
    assert hook.max_pool_connections == (connections or 32)
    if connections != 1:
        assert [record for record in caplog.records if "pool is full" in record.getMessage()] == []
