"""The inbox: in order, nothing lost, and no wait is longer than it was asked to be."""

from __future__ import annotations

import threading
import time
from queue import Empty

import pytest

from polysync_airflow.triggers.message_queue import MessageQueue

# Seconds that no wait in these tests may take, however busy the machine is.
LONG = 20.0


def later(seconds: float, inbox: MessageQueue[int], message: int) -> threading.Timer:
    timer = threading.Timer(seconds, inbox.put, [message])
    timer.start()
    return timer


def test_messages_come_in_order() -> None:
    inbox: MessageQueue[int] = MessageQueue()
    for number in range(5):
        inbox.put(number)

    assert [inbox.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert inbox.empty()


@pytest.mark.parametrize("timeout", [None, LONG])
def test_who_waits_is_woken(timeout: float | None) -> None:
    inbox: MessageQueue[int] = MessageQueue()
    later(0.02, inbox, 7)
    began = time.monotonic()

    assert inbox.get(timeout) == 7
    assert 0.01 < time.monotonic() - began < LONG


@pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.02])
def test_a_wait_in_vain_ends_in_time_and_not_before(timeout: float) -> None:
    inbox: MessageQueue[int] = MessageQueue()
    # Leaves word that there is something new, when there is not.
    inbox.put(1)
    inbox.get()
    began = time.monotonic()

    with pytest.raises(Empty):
        inbox.get(timeout)

    assert max(0.0, timeout) <= time.monotonic() - began < LONG


def test_the_shortest_waits_end_too() -> None:
    """``SimpleQueue`` waits for ever here, after some thousand rounds."""
    done = threading.Event()

    def wait_often() -> None:
        inbox: MessageQueue[int] = MessageQueue()
        for number in range(3000):
            timer = later(0.0, inbox, number)
            inbox.get()
            timer.join()
            inbox.put(number)
            inbox.get()
            with pytest.raises(Empty):
                inbox.get(1e-7 * (number % 40))
        done.set()

    threading.Thread(target=wait_often, daemon=True).start()

    assert done.wait(60)


def test_nothing_that_many_threads_put_in_is_lost() -> None:
    inbox: MessageQueue[int] = MessageQueue()

    def put_in(first: int) -> None:
        for number in range(first, first + 1000):
            inbox.put(number)

    threads = [threading.Thread(target=put_in, args=(k * 1000,)) for k in range(8)]
    for thread in threads:
        thread.start()
    found = [inbox.get(LONG) for _ in range(8000)]

    assert sorted(found) == list(range(8000))
    for k in range(8):
        own = [number for number in found if number // 1000 == k]
        assert own == sorted(own)
