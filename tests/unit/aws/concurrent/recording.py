"""
Test helpers: functions that record their calls, and interruptions of the main thread.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread, get_ident
from threading import enumerate as all_threads
from typing import Any

from polysync_airflow.exceptions import SageMakerApiError

WORKERS = 4


def sagemaker_error(code: str, *, transient: bool) -> SageMakerApiError:
    """Return an error as the hook raises it."""
    return SageMakerApiError(
        f"{code}: no",
        error_code=code,
        operation="DescribePipeline",
        permanent=not transient,
        transient=transient,
    )


THROTTLED = sagemaker_error("ThrottlingException", transient=True)
DENIED = sagemaker_error("AccessDeniedException", transient=False)


class Calls:
    """
    A function that records its calls, and how many of them run at the same time.

    :param work: the function to call.
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

    def begun_before(self, item: int) -> bool:
        """Return whether the calls for all items before an item have begun."""
        return set(range(item)) <= set(self.begun)


def threads() -> list[str]:
    """Return the names of the threads of ``ConcurrentCalls`` that are alive."""
    return [
        thread.name
        for thread in all_threads()
        if thread.name.startswith("polysync-calls")
    ]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, ten seconds at most."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@contextmanager
def raised_when(condition: Callable[[], bool], error: BaseException) -> Iterator[None]:
    """
    Raise an error in the main thread once a condition is met, as Airflow does at
    ``execution_timeout``.
    """

    def interrupt(*_: Any) -> None:
        if not is_raised.is_set():
            is_raised.set()
            raise error

    def watch() -> None:
        wait_until(condition)
        # A signal that comes right before the main thread begins to wait for a lock
        # does not end that wait.
        while not is_raised.is_set():
            signal.pthread_kill(main, signal.SIGALRM)
            is_raised.wait(0.5)

    main = get_ident()
    is_raised = Event()
    before = signal.signal(signal.SIGALRM, interrupt)
    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
        signal.signal(signal.SIGALRM, before)
