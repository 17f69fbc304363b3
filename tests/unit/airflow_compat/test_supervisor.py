"""
Requests to the supervisor of a triggerer: whose channel belongs to the event loop, and
their time limit.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from polysync_airflow.airflow_compat import supervisor
from polysync_airflow.airflow_compat.response_times import WINDOW_SECONDS, ResponseTimes
from polysync_airflow.airflow_compat.supervisor import (
    NoResponseError,
    call_airflow,
    call_slow_airflow,
    use_event_loop,
)


@pytest.fixture(autouse=True)
def _channel_of_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave as with Airflow 3.2.1, whichever version runs the tests."""
    monkeypatch.setattr(supervisor, "_channel_needs_event_loop", lambda: True)
    monkeypatch.setattr(supervisor, "_event_loop", None)


class Channel:
    """
    Like ``TriggerCommsDecoder`` of Airflow 3.2.1: every request must run in the loop of
    the triggerer.
    """

    def __init__(self) -> None:
        self.threads: list[int] = []

    async def _asend(self, message: Any) -> Any:
        self.threads.append(threading.get_ident())
        return message

    def send(self, message: Any) -> Any:
        """Send a request from any thread."""
        return async_to_sync(self._asend)(message)


def test_request_of_a_foreign_thread_runs_in_the_event_loop() -> None:
    """
    Without the detour, the request would run in an event loop of the thread, and
    corrupt the channel.
    """
    channel, results = Channel(), list[Any]()

    def poll() -> None:
        results.append(call_airflow(lambda: channel.send("question")))

    async def run_triggerer() -> int:
        use_event_loop()
        thread = threading.Thread(target=poll)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.01)
        return threading.get_ident()

    loop_thread = asyncio.run(run_triggerer())

    assert results == ["question"]
    assert channel.threads == [loop_thread]


def test_nested_requests_use_the_same_thread() -> None:
    """
    A function that itself calls Airflow, as the read of a connection masks its secrets,
    needs no second thread.
    """
    threads: list[int] = []

    def inner() -> None:
        threads.append(threading.get_ident())

    def outer() -> None:
        threads.append(threading.get_ident())
        call_airflow(inner)

    async def run_triggerer() -> None:
        use_event_loop()
        await asyncio.to_thread(call_airflow, outer)

    asyncio.run(run_triggerer())

    assert threads[0] == threads[1]


def test_calls_need_no_thread_of_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    If all threads of the event loop wait for calls, these calls end nevertheless, in
    threads that hold nobody.
    """
    monkeypatch.setattr(supervisor, "TIMEOUT_SECONDS", 5)
    number = 64  # more than the event loop has threads

    async def run_triggerer() -> list[bool]:
        use_event_loop()
        calls = [
            asyncio.to_thread(call_airflow, lambda: threading.current_thread().daemon)
            for _ in range(number)
        ]
        return await asyncio.gather(*calls)

    assert asyncio.run(run_triggerer()) == [True] * number


def test_response_times_count_a_request_without_a_response(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A triggerer that falls behind shows it before Airflow has responded at all."""
    now = [1000.0]
    monkeypatch.setattr("polysync_airflow.execution.clock.monotonic", lambda: now[0])
    times = ResponseTimes()
    monkeypatch.setattr(supervisor, "RESPONSE_TIMES", times)
    sent, responded = threading.Event(), threading.Event()

    def request() -> bool:
        sent.set()
        return responded.wait(10)

    async def run_triggerer() -> list[float]:
        use_event_loop()
        found = [times.longest()]
        call = asyncio.create_task(asyncio.to_thread(call_airflow, request))
        await asyncio.to_thread(sent.wait, 10)
        for seconds in (0.0, 30.0):
            now[0] += seconds
            found.append(times.longest())
        responded.set()
        await call
        for seconds in (0.0, WINDOW_SECONDS, 1.0):
            now[0] += seconds
            found.append(times.longest())
        return found

    assert asyncio.run(run_triggerer()) == [0, 0, 30, 30, 30, 0]


def test_call_that_runs_cannot_be_cancelled() -> None:
    """
    A triggerer that ends cancels all calls. A thread whose call was cancelled would
    print a traceback.
    """
    started, released = threading.Event(), threading.Event()

    def run() -> bool:
        started.set()
        return released.wait(10)

    future = supervisor._DaemonThreads().submit(run)

    assert started.wait(10)
    assert not future.cancel()
    released.set()
    assert future.result(10)


@pytest.mark.parametrize(("slow_calls", "is_answered"), [(2, True), (3, False)])
def test_slow_airflow_is_asked_again(
    slow_calls: int, is_answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few times. The error of the function itself is raised at once."""
    # Both ways of a call have the time limit.
    monkeypatch.setattr(
        supervisor, "_channel_needs_event_loop", lambda: not is_answered
    )
    monkeypatch.setattr(supervisor, "TIMEOUT_SECONDS", 0.2)
    released = threading.Event()
    calls: list[int] = []
    warnings: list[str] = []

    def read() -> str:
        calls.append(1)
        if len(calls) <= slow_calls:
            released.wait(20)
        return "answer"

    def fail() -> None:
        calls.append(1)
        raise TimeoutError("of its own")

    async def run_triggerer() -> Any:
        use_event_loop()
        try:
            return await asyncio.to_thread(call_slow_airflow, read, warnings.append)
        finally:
            released.set()
            calls.clear()
            with pytest.raises(TimeoutError, match=r"^of its own$"):
                await asyncio.to_thread(call_slow_airflow, fail, warnings.append)

    if is_answered:
        assert asyncio.run(run_triggerer()) == "answer"
    else:
        with pytest.raises(NoResponseError):
            asyncio.run(run_triggerer())

    assert calls == [1]
    assert warnings == [
        "Airflow has not responded to the triggerer within 0 s, asking again"
    ] * (supervisor.MAX_CALLS - 1)


def test_call_has_the_context_of_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow finds the log of a task by the context."""
    monkeypatch.setattr(supervisor, "_channel_needs_event_loop", lambda: False)
    task: ContextVar[str | None] = ContextVar("task", default=None)

    async def run_triggerer() -> tuple[str | None, bool]:
        use_event_loop()
        task.set("train")
        return await asyncio.to_thread(
            call_airflow, lambda: (task.get(), threading.current_thread().daemon)
        )

    assert asyncio.run(run_triggerer()) == ("train", True)


def test_process_without_a_trigger_calls_airflow_directly() -> None:
    """
    Where no trigger runs, nothing is in between; the same after the event loop has
    ended.
    """

    async def run_triggerer() -> None:
        use_event_loop()

    assert call_airflow(threading.get_ident) == threading.get_ident()
    asyncio.run(run_triggerer())
    assert call_airflow(threading.get_ident) == threading.get_ident()


class NewerChannel(Channel):
    """Like ``TriggerCommsDecoder`` of Airflow 3.2.2, which reads in a thread."""

    def start_reader(self) -> None:
        """Start the thread."""


@pytest.mark.parametrize(
    ("module", "channel", "needed"),
    [
        (None, Channel(), False),
        (SimpleNamespace(), Channel(), False),
        (SimpleNamespace(TriggerCommsDecoder=Channel), Channel(), True),
        (SimpleNamespace(TriggerCommsDecoder=Channel), None, False),
        (SimpleNamespace(TriggerCommsDecoder=NewerChannel), NewerChannel(), False),
    ],
    ids=[
        "no triggerer",
        "Airflow 2",
        "Airflow 3.2.1",
        "Airflow 3.2.1, in a worker",
        "Airflow 3.2.2",
    ],
)
def test_which_channels_need_the_event_loop(
    module: Any, channel: Any, needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The channel of a triggerer is looked at only in a triggerer; nothing is imported for
    it.
    """
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "airflow.jobs.triggerer_job_runner", module)
    task_runner = SimpleNamespace(SUPERVISOR_COMMS=channel)
    monkeypatch.setitem(
        sys.modules, "airflow.sdk.execution_time.task_runner", task_runner
    )

    assert supervisor._channel_needs_event_loop() is needed
