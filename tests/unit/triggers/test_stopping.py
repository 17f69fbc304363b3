"""
The threads in which triggers stop executions: they end with their work, and their
number is limited.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from threading import Barrier, Event, Lock

import pytest

from polysync_airflow.triggers.stopping import submit_stop
from polysync_airflow.triggers.threads import MAX_THREADS, ThreadPools
from tests.unit.triggers.test_poller import threads_named, wait_until_no_thread_is_left

# Seconds. No step of these tests may take this long, even on a busy machine.
LONG = 20.0
PREFIX = "polysync-stop"


@pytest.fixture
def threads() -> Iterator[ThreadPools]:
    """A thread pool; afterwards, none of its threads may be left."""
    wait_until_no_thread_is_left(PREFIX)
    yield ThreadPools(PREFIX)
    wait_until_no_thread_is_left(PREFIX)


def test_function_has_the_context_of_its_caller(threads: ThreadPools) -> None:
    """By that, Airflow writes its lines to the log of the task."""
    task: ContextVar[str] = ContextVar("task")
    token = task.set("train")

    assert threads.submit("c", task.get).result(LONG) == "train"

    task.reset(token)


def test_at_most_eight_functions_run_at_the_same_time(threads: ThreadPools) -> None:
    """
    Of 30 functions, eight run at the same time, the others wait, and all of them are
    called.
    """
    lock = Lock()
    free = Event()
    running = most = 0
    called: list[int] = []

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            called.append(number)
        free.wait(LONG)
        with lock:
            running -= 1
        return number

    futures = [threads.submit("c", work, number) for number in range(30)]
    deadline = time.monotonic() + LONG
    while len(called) < MAX_THREADS and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)

    assert len(called) == len(threads_named(PREFIX)) == MAX_THREADS == 8
    free.set()
    assert [future.result(LONG) for future in futures] == list(range(30))
    assert sorted(called) == list(range(30))
    assert most == MAX_THREADS


def test_function_submitted_at_the_last_end_is_called(
    threads: ThreadPools,
) -> None:
    """
    A function that is submitted at the moment when the last one ends is called in any
    case.
    """
    results: list[int] = []

    def submit_many(first: int) -> None:
        barrier.wait()
        for number in range(first, first + 100):
            results.append(threads.submit("c", int, number).result(LONG))

    barrier = Barrier(4)
    submitters = [
        threading.Thread(target=submit_many, args=(k * 100,)) for k in range(4)
    ]
    for submitter in submitters:
        submitter.start()
    for submitter in submitters:
        submitter.join(LONG)

    assert sorted(results) == list(range(400))


def test_cancelled_function_is_not_called_and_leaves_no_thread(
    threads: ThreadPools,
) -> None:
    """
    If a waiting function is cancelled, it is never called, and the threads end with the
    others.
    """
    free = Event()
    running = [threads.submit("c", free.wait, LONG) for _ in range(MAX_THREADS)]
    waiting = threads.submit("c", pytest.fail, "a cancelled function was called")

    assert waiting.cancel()
    free.set()

    assert all(future.result(LONG) for future in running)


def test_all_triggers_share_the_threads() -> None:
    """
    ``submit_stop`` uses the thread pool of the process, and leaves no thread behind.
    """
    assert submit_stop("c", int, "7").result(LONG) == 7
    wait_until_no_thread_is_left(PREFIX)


def test_stops_that_hang_do_not_block_other_connections(threads: ThreadPools) -> None:
    """
    Eight stops with a connection whose endpoint does not respond leave the stops of
    others alone.
    """
    free = Event()
    hanging = [
        threads.submit("broken", free.wait, LONG) for _ in range(2 * MAX_THREADS)
    ]

    assert threads.submit("other", abs, -7).result(LONG) == 7
    assert not any(future.done() for future in hanging)
    free.set()
    assert all(future.result(LONG) for future in hanging)
