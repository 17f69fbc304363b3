"""
What replaces ``threading``, ``concurrent.futures`` and the event loop in the modules
under test: the same in fibers.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from greenlet import GreenletExit

from tests.simulation import kernel as kernels
from tests.simulation.kernel import Fiber, Process, running_process


def _wait_for(is_ready: Callable[[], bool], waiting: list[Fiber], seconds: Any) -> bool:
    """
    Wait until something is so, or the time is up.

    :param waiting: gets the fiber. Who changes what it waits for wakes it.
    :param seconds: None for no limit.
    """
    kernel = kernels.KERNEL
    end = None if seconds is None else kernel.now + seconds
    while not is_ready() and (end is None or kernel.now < end):
        assert kernel.current
        waiting.append(kernel.current)
        kernel.park(None if end is None else end - kernel.now)
    return is_ready()


def _wake_all(fibers: list[Fiber]) -> None:
    for fiber in fibers:
        kernels.KERNEL.wake(fiber)


class Lock:
    """A lock. That of a module is another one in each process."""

    def __init__(self) -> None:
        self._owners: set[Process | None] = set()
        self._waiting: list[Fiber] = []

    def __enter__(self) -> None:
        process = running_process()
        if process in self._owners:
            _wait_for(lambda: process not in self._owners, self._waiting, None)
        self._owners.add(process)

    def __exit__(self, *_: object) -> None:
        self._owners.discard(running_process())
        waiting = self._waiting
        self._waiting = []
        _wake_all(waiting)


class Event:
    """A flag for which fibers wait."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[Fiber] = []

    def set(self) -> None:
        """Set it."""
        self._is_set = True
        _wake_all(self._waiting)

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set."""
        return _wait_for(self.is_set, self._waiting, timeout)


class Thread:
    """A thread."""

    def __init__(
        self,
        target: Any = None,
        name: str = "thread",
        daemon: bool = False,
        args: Any = (),
    ) -> None:
        self._target = target
        self._name = name
        self._args = args
        self._fiber: Any = None

    def start(self) -> None:
        """Run it."""
        kernel = kernels.KERNEL
        call = partial(self._target, *self._args)
        self._fiber = kernel.spawn(kernel.process, call, self._name)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        _wait_for(lambda: self._fiber.is_done, self._fiber.joining, timeout)


class Local:
    """``threading.local``."""

    def __setattr__(self, name: str, value: Any) -> None:
        assert kernels.KERNEL.current
        kernels.KERNEL.current.local[id(self), name] = value

    def __getattr__(self, name: str) -> Any:
        fiber = kernels.KERNEL.current
        if fiber is None or (id(self), name) not in fiber.local:
            raise AttributeError(name)
        return fiber.local[id(self), name]


class Future(concurrent.futures.Future[Any]):
    """A future for which fibers wait."""

    def result(self, timeout: float | None = None) -> Any:
        """Return the result, or raise the error."""
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> Any:
        """Return the error."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        if self.done():
            return
        waiting: list[Fiber] = []
        self.add_done_callback(lambda _: _wake_all(waiting))
        if not _wait_for(self.done, waiting, timeout):
            raise TimeoutError


class Executor(concurrent.futures.Executor):
    """A pool of threads that has always one left."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        """Call a function in another fiber."""
        future = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except GreenletExit:
                raise
            except BaseException as error:
                future.set_exception(error)

        kernel = kernels.KERNEL
        kernel.spawn(kernel.process, call, "pool")
        return future

    def shutdown(self, *_: Any, **__: Any) -> None:
        """Nothing is left over."""


class Loop(asyncio.BaseEventLoop):
    """An event loop in virtual time, in a fiber of its own."""

    def __init__(self) -> None:
        super().__init__()
        # It is its own selector.
        self._selector = self
        self._clock_resolution = 1e-5
        self._fiber: Fiber | None = None
        self._has_news = False
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        """Return the virtual time."""
        return kernels.KERNEL.now

    def select(self, timeout: float | None) -> list[Any]:
        """Wait for calls of other fibers, or for the next timer."""
        if (timeout is None or timeout > 0) and not self._has_news:
            self._fiber = kernels.KERNEL.current
            kernels.KERNEL.park(timeout)
        self._has_news = False
        return []

    def _process_events(self, event_list: Any) -> None:
        """Nothing has a file descriptor here."""

    def _write_to_self(self) -> None:
        self._has_news = True
        if self._fiber and self._fiber is not kernels.KERNEL.current:
            kernels.KERNEL.wake(self._fiber)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """Call a function in a fiber of the process."""
        return asyncio.wrap_future(Executor().submit(func, *args), loop=self)


_THREADING: Final = SimpleNamespace(Lock=Lock, Event=Event, Thread=Thread, local=Local)
_TIME: Final = SimpleNamespace(
    time=lambda: kernels.KERNEL.now,
    monotonic=lambda: kernels.KERNEL.now,
)
# In place of what a module may have imported.
REPLACED: Final[list[tuple[Any, Any]]] = [
    (threading, _THREADING),
    (time, _TIME),
    (threading.Event, Event),
    (threading.Thread, Thread),
    (concurrent.futures.Future, Future),
    (concurrent.futures.ThreadPoolExecutor, Executor),
]
