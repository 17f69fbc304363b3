"""The message queue: messages come in order, none is lost, and no wait takes longer than its timeout."""

from __future__ import annotations

import threading
import time
from queue import Empty

import pytest

from polysync_airflow.triggers.message_queue import MessageQueue

# Seconds. No wait in these tests may take this long, even on a busy machine.
LONG = 20.0


def put_later(seconds: float, queue: MessageQueue[int], message: int) -> threading.Timer:
    """Put a message after a time, in another thread; return that thread."""
    timer = threading.Timer(seconds, queue.put, [message])
    timer.start()
    return timer


def test_messages_come_in_order() -> None:
    """Messages are read in the order in which they were put; then the queue is empty."""
    queue: MessageQueue[int] = MessageQueue()
    for number in range(5):
        queue.put(number)

    assert [queue.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert queue.empty()


@pytest.mark.parametrize("timeout", [None, LONG])
def test_message_ends_the_wait(timeout: float | None) -> None:
    """A reader that waits, with or without a timeout, gets a message as soon as it is put."""
    queue: MessageQueue[int] = MessageQueue()
    put_later(0.02, queue, 7)
    started_at = time.monotonic()

    assert queue.get(timeout) == 7
    assert 0.01 < time.monotonic() - started_at < LONG


@pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.02])
def test_wait_without_a_message_ends_at_the_timeout(timeout: float) -> None:
    """If no message comes, ``Empty`` is raised at the timeout, and not before."""
    queue: MessageQueue[int] = MessageQueue()
    # A message that was read without a wait leaves the queue's lock in the state "there may be a message".
    queue.put(1)
    queue.get()
    started_at = time.monotonic()

    with pytest.raises(Empty):
        queue.get(timeout)

    assert max(0.0, timeout) <= time.monotonic() - started_at < LONG


def test_very_short_timeouts_end() -> None:
    """Thousands of timeouts below four microseconds end; ``SimpleQueue`` would wait for ever in some of them."""
    done = threading.Event()

    def wait_often() -> None:
        queue: MessageQueue[int] = MessageQueue()
        for number in range(3000):
            timer = put_later(0.0, queue, number)
            queue.get()
            timer.join()
            queue.put(number)
            queue.get()
            with pytest.raises(Empty):
                queue.get(1e-7 * (number % 40))
        done.set()

    threading.Thread(target=wait_often, daemon=True).start()

    assert done.wait(60)


def test_no_message_of_several_threads_is_lost() -> None:
    """The messages of eight threads all arrive, those of each thread in its order."""
    queue: MessageQueue[int] = MessageQueue()

    def put_messages(first: int) -> None:
        for number in range(first, first + 1000):
            queue.put(number)

    threads = [threading.Thread(target=put_messages, args=(k * 1000,)) for k in range(8)]
    for thread in threads:
        thread.start()
    messages = [queue.get(LONG) for _ in range(8000)]

    assert sorted(messages) == list(range(8000))
    for k in range(8):
        of_thread = [number for number in messages if number // 1000 == k]
        assert of_thread == sorted(of_thread)
