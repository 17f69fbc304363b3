"""Owns what tests of the lane call: calls that count, items without end, and interruptions."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread, get_ident
from threading import enumerate as all_threads
from typing import Any

from polysync_airflow.aws.concurrent_calls import PREFETCH_PER_WORKER
from polysync_airflow.exceptions import SageMakerApiError

WORKERS = 4
AHEAD = WORKERS * PREFETCH_PER_WORKER


def refusal(code: str, *, transient: bool) -> SageMakerApiError:
    """Return an error of AWS."""
    return SageMakerApiError(
        f"{code}: no",
        error_code=code,
        operation="DescribePipeline",
        permanent=not transient,
        transient=transient,
    )


THROTTLED = refusal("ThrottlingException", transient=True)
DENIED = refusal("AccessDeniedException", transient=False)


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
