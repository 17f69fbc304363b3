"""The lane: order, how much goes on at once, what is waited out, and that its threads end on every way out."""

from __future__ import annotations

import json
import logging
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread, get_ident
from threading import enumerate as all_threads
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from structlog.testing import capture_logs

from polysync_airflow import lane as room
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.lane import AHEAD_PER_WORKER, ONE_ATTEMPT, Lane
from polysync_airflow.pacing import Pace

WORKERS = 4
AHEAD = WORKERS * AHEAD_PER_WORKER


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pause before a repeat short."""
    monkeypatch.setattr(room, "SHORTEST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def pace() -> Pace:
    """A pace that nothing here reaches."""
    return Pace(time.monotonic(), rate=100_000)


@pytest.fixture
def open_lane(emulator: EmulatorServer, pace: Pace) -> Callable[..., Lane]:
    """Return a lane to the emulator."""
    hook = PolysyncSageMakerHook(config=ONE_ATTEMPT)
    return lambda **settings: Lane(hook, pace, **{"workers": WORKERS, **settings})


def refusal(code: str, *, passing: bool) -> SageMakerApiError:
    """Return an error of AWS."""
    return SageMakerApiError(
        f"{code}: no", error_code=code, operation="DescribePipeline", lasting=not passing, passing=passing
    )


THROTTLED = refusal("ThrottlingException", passing=True)
DENIED = refusal("AccessDeniedException", passing=False)


class Calls:
    """
    What a lane calls here: counts what begins and what goes on at once.

    :param work: what a call does.
    """

    def __init__(self, work: Callable[[int], Any] = lambda item: item) -> None:
        self._work = work
        self._lock = Lock()
        self.begun: list[int] = []
        self.at_once = self.most_at_once = 0

    def __call__(self, item: int) -> Any:
        with self._lock:
            self.begun.append(item)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self._work(item)
        finally:
            with self._lock:
                self.at_once -= 1


class Items:
    """Hundred thousand items, which nobody takes but for need."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for item in range(100_000):
            self.taken += 1
            yield item


def threads() -> list[str]:
    """Return the lane's threads that live."""
    return [thread.name for thread in all_threads() if thread.name.startswith("polysync-lane")]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait at most ten seconds."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@contextmanager
def raised_when(condition: Callable[[], bool], error: BaseException) -> Iterator[None]:
    """Raise an error in the main thread, as Airflow does when a task's time is up."""

    def interrupt(*_: Any) -> None:
        raise error

    def watch() -> None:
        wait_until(condition)
        signal.pthread_kill(main, signal.SIGALRM)

    main = get_ident()
    before = signal.signal(signal.SIGALRM, interrupt)
    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
        signal.signal(signal.SIGALRM, before)


def test_answers_come_in_order_however_long_each_takes(open_lane: Callable[..., Lane]) -> None:
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


def test_items_are_taken_and_answers_kept_only_a_little_ahead(open_lane: Callable[..., Lane]) -> None:
    """However many items there are, no more than a bounded number is in memory."""
    items, calls = Items(), Calls()

    with open_lane() as lane:
        answers = lane.map(calls, items)
        for fetched in range(1, 101):
            next(answers)
            assert items.taken <= fetched - 1 + AHEAD
        wait_until(lambda: len(calls.begun) == items.taken)

    assert threads() == []


def test_an_answer_that_takes_long_lets_no_others_pile_up(open_lane: Callable[..., Lane]) -> None:
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


def test_throttling_is_waited_out_at_half_the_pace(open_lane: Callable[..., Lane], pace: Pace) -> None:
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


def test_patience_has_an_end(open_lane: Callable[..., Lane]) -> None:
    """What passes is waited out only so long; then it is an error like any other."""

    def work(item: int) -> int:
        raise refusal("InternalFailure", passing=True)

    calls, begun = Calls(work), time.monotonic()
    with open_lane(patience=0.3) as lane, pytest.raises(SageMakerApiError, match="InternalFailure"):
        list(lane.map(calls, range(100)))

    assert time.monotonic() - begun < 20
    assert calls.begun.count(0) > 1
    assert set(calls.begun) == set(range(WORKERS))


def test_the_first_error_comes_in_its_turn_and_nothing_begins_after_it(
    open_lane: Callable[..., Lane],
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

    def fetch(lane: Lane) -> None:
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


def test_an_error_of_the_items_is_the_lanes_too(open_lane: Callable[..., Lane]) -> None:
    """A list whose next page is refused ends the work on the pages before."""

    def items() -> Iterator[int]:
        yield from range(10)
        raise DENIED

    with open_lane() as lane, pytest.raises(SageMakerApiError):
        list(lane.map(Calls(), items()))

    assert threads() == []


def test_who_lists_waits_for_no_page_that_an_error_has_made_idle(open_lane: Callable[..., Lane]) -> None:
    """A page that waits to be asked for again is given up, with the error of the call that ended the lane."""

    def items() -> Iterator[int]:
        yield 0
        lane.call(page)

    def page() -> None:
        raise refusal("ServiceUnavailable", passing=True)

    def work(item: int) -> None:
        time.sleep(0.1)
        raise DENIED

    with open_lane() as lane, pytest.raises(SageMakerApiError) as caught:
        list(lane.map(Calls(work), items()))

    assert caught.value is DENIED


def test_who_stops_fetching_stops_the_calls(open_lane: Callable[..., Lane]) -> None:
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


def test_another_error_of_who_fetches_ends_the_threads(open_lane: Callable[..., Lane]) -> None:
    """A bug in what is done with an answer leaves no thread behind."""
    with pytest.raises(ZeroDivisionError), open_lane() as lane:
        any(1 / answer for answer in lane.map(Calls(), Items()))

    assert threads() == []


@pytest.mark.parametrize("error", [AirflowTaskTimeout("time is up"), KeyboardInterrupt()])
def test_who_is_interrupted_waits_for_no_call(
    error: BaseException, open_lane: Callable[..., Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task ends at once, even if AWS does not answer; the threads end with the calls they are in."""
    monkeypatch.setattr(room, "GRACE_SECONDS", 60)
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
    pace, calls = Pace(time.monotonic(), rate=0.001), Calls()

    with (
        raised_when(lambda: len(calls.begun) == 1 and len(threads()) > 1, KeyboardInterrupt()),
        pytest.raises(KeyboardInterrupt),
        Lane(PolysyncSageMakerHook(), pace) as lane,
    ):
        list(lane.map(calls, Items()))

    wait_until(lambda: not threads())
    assert len(calls.begun) == 1


def test_a_call_that_hangs_holds_the_end_up_only_so_long(
    open_lane: Callable[..., Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error is reported in time even if another call gets no answer."""
    monkeypatch.setattr(room, "GRACE_SECONDS", 0.2)
    free = Event()

    def work(item: int) -> None:
        if item == 0:
            raise DENIED
        free.wait(30)

    begun = time.monotonic()
    with pytest.raises(SageMakerApiError), open_lane() as lane:
        list(lane.map(Calls(work), range(3)))

    assert time.monotonic() - begun < 20
    free.set()
    wait_until(lambda: not threads())


@pytest.mark.parametrize(("connections", "workers"), [(None, 4), (3, 2), (1, 1), (50, 4)])
def test_no_more_calls_than_the_client_has_connections(
    connections: int | None,
    workers: int,
    emulator: EmulatorServer,
    pace: Pace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A connection's own max_pool_connections counts, and urllib3 never has to throw a connection away."""
    config = {} if connections is None else {"config_kwargs": {"max_pool_connections": connections}}
    extra = {"region_name": "us-east-1", "endpoint_url": emulator.endpoint_url, **config}
    key = {"login": "AKIAIOSFODNN7EXAMPLE", "password": "emulated-secret-key"}
    monkeypatch.setenv("AIRFLOW_CONN_OWN", json.dumps({"conn_type": "aws", **key, "extra": extra}))
    emulator.control.add_fault("latency", "DescribePipeline", delay=0.02)
    hook = PolysyncSageMakerHook("own", config=ONE_ATTEMPT)
    calls = Calls(lambda item: hook.describe_pipeline("abalone"))

    with caplog.at_level(logging.WARNING, "urllib3"), Lane(hook, pace, workers=4) as lane:
        for _ in lane.map(calls, range(20)):
            lane.call(lambda: next(hook.list_pipelines()))

    assert calls.most_at_once == workers
    assert hook.most_connections == (connections or 32)
    if connections != 1:
        assert [record for record in caplog.records if "pool is full" in record.getMessage()] == []
