"""
Virtual time and fibers: exactly one runs, and the seed says which.

A fiber is a greenlet. It gives way only where a thread may wait: in a sleep, at a lock
or a future, before and after each request. So a process can be left for ever at any of
these points, as by ``kill -9``: nothing of it runs any more, not even a ``finally``.

What a process draws comes from a sequence of its own, so that an action left out of a
plan changes little else.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from types import ModuleType
from typing import Any, Final

from greenlet import GreenletExit, getcurrent, greenlet

START: Final = 1_750_000_000.0
# A history has some thousand.
MAX_SWITCHES: Final = 200_000
_ENDED_FIBERS: Final = 500

Random = random.Random


class Process:
    """
    A process of the simulated hosts, which can be killed or frozen as a whole.

    :param role: ``worker``, ``triggerer``, ``scheduler`` or the like.
    :param deployment: whose API server it reaches.
    :param owner: the task instance that it runs, if it does.
    """

    def __init__(
        self, name: str, role: str, deployment: Any = None, owner: Any = None
    ) -> None:
        self.name = name
        self.role = role
        self.deployment = deployment
        self.owner = owner
        self.random = Random(f"{KERNEL.seed} {name}")
        self.is_alive = True
        self.frozen_until = 0.0
        self.main: Fiber | None = None
        self.on_signal: Callable[[], None] | None = None
        self.signals = 0
        # By door or operation: how many requests it has sent.
        self.requests: Counter[tuple[str, str]] = Counter()
        self.state = KERNEL.globals.of_new_process()

    def __repr__(self) -> str:
        return self.name

    def kill(self) -> None:
        """End it, as ``kill -9`` does."""
        self.is_alive = False

    def freeze(self, seconds: float) -> None:
        """Stop it for a while, as a host without CPU does."""
        self.frozen_until = KERNEL.now + seconds

    def signal(self) -> None:
        """Send SIGTERM: its main fiber runs the handler when it goes on."""
        self.signals += 1
        if self.main:
            KERNEL.wake(self.main)


class Fiber:
    """
    A thread of a process.

    :param function: what it runs.
    """

    def __init__(
        self, process: Process, function: Callable[[], Any], name: str
    ) -> None:
        self.process = process
        self.name = name
        self.ticket = 0
        self.is_woken = False
        self.is_done = False
        self.local: dict[Any, Any] = {}
        self.joining: list[Fiber] = []
        self.greenlet = greenlet(lambda: self._run(function), KERNEL.hub)

    def _run(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except GreenletExit:
            pass
        except BaseException as error:
            # No thread of Airflow's does that.
            if not KERNEL.is_closed:
                KERNEL.errors.append(f"{self.process}: {self.name}: {error!r}")
        finally:
            self.is_done = True
            for fiber in self.joining:
                KERNEL.wake(fiber)


class ProcessGlobals:
    """
    The variables of modules that change, of which each process has its own: those that
    a function declares as ``global``, and containers that are empty after the import.
    """

    def __init__(self) -> None:
        self._places: list[tuple[list[ModuleType], str]] = []
        self._first: list[Any] = []
        self._current: list[Any] | None = None

    def add(self, modules: list[ModuleType], name: str) -> None:
        """Let each process have its own value of a variable of some modules."""
        self._places.append((modules, name))
        self._first.append(vars(modules[0])[name])

    def of_new_process(self) -> list[Any]:
        """Return the values of a process that has only imported the modules."""
        return [
            type(value)() if isinstance(value, Iterable) else value
            for value in self._first
        ]

    def use(self, state: list[Any]) -> None:
        """Put the values of a process in place of those of another one."""
        if state is self._current:
            return
        if self._current is not None:
            for number, (modules, name) in enumerate(self._places):
                self._current[number] = vars(modules[0])[name]
        for value, (modules, name) in zip(state, self._places, strict=True):
            for module in modules:
                setattr(module, name, value)
        self._current = state


class Kernel:
    """
    The clock, and the scheduler of all fibers.

    :param seed: decides the order.
    """

    globals: ProcessGlobals = ProcessGlobals()

    def __init__(self, seed: str) -> None:
        global KERNEL  # noqa: PLW0603 # one history runs at a time
        KERNEL = self
        self.seed = seed
        self.now = START
        # The account that all clients reach.
        self.aws: Any = None
        self.current: Fiber | None = None
        self.switches = 0
        self.errors: list[str] = []
        self._random = Random(f"{seed} kernel")
        self.is_closed = False
        self.hub = getcurrent()
        # Called with a process, a moment ("sent" or "answered"), the name of a request
        # and its number.
        self.on_request: Callable[[Process, str, str, int], None] | None = None
        self._fibers: list[Fiber] = []
        self._heap: list[tuple[float, float, int, Fiber, int]] = []
        self._numbers = count()

    @property
    def process(self) -> Process:
        """The process that runs."""
        assert self.current
        return self.current.process

    @property
    def random(self) -> Random:
        """What the running process draws from."""
        if self.current is None:
            return self._random
        return self.process.random

    # ---- outside of the fibers

    def spawn(
        self, process: Process, function: Callable[[], Any], name: str = "thread"
    ) -> Fiber:
        """Let a process run a function in a new fiber."""
        fiber = Fiber(process, function, name)
        self._fibers.append(fiber)
        self._push(self.now, fiber)
        if len(self._fibers) > _ENDED_FIBERS:
            self._fibers = [each for each in self._fibers if not each.is_done]
        return fiber

    def run(self, until: float) -> None:
        """Run all fibers up to a time."""
        while self._heap and self._heap[0][0] <= until and not self.errors:
            at, _, _, fiber, ticket = heapq.heappop(self._heap)
            process = fiber.process
            if fiber.is_done or not process.is_alive or ticket != fiber.ticket:
                continue
            self.now = max(self.now, at)
            if process.frozen_until > self.now:
                self._push(process.frozen_until, fiber)
                continue
            self.switches += 1
            self.current = fiber
            self.globals.use(process.state)
            fiber.greenlet.switch()
            self.current = None
            if self.switches > MAX_SWITCHES:
                self.errors.append(f"{process}: {fiber.name} never ends")
        self.now = max(self.now, until)

    def close(self) -> None:
        """End the fibers that are left."""
        self.is_closed = True
        for fiber in self._fibers:
            while fiber.greenlet and not fiber.greenlet.dead:
                self.current = fiber
                fiber.greenlet.throw(GreenletExit)
        self.current = None

    def _push(self, at: float, fiber: Fiber) -> None:
        # Of what is due at the same time, the seed says which is first.
        order = fiber.process.random.random()
        entry = (at, order, next(self._numbers), fiber, fiber.ticket)
        heapq.heappush(self._heap, entry)

    # ---- for the fibers

    def park(self, timeout: float | None = None) -> bool:
        """
        Wait until another fiber wakes this one.

        :return: False if the time was up.
        """
        if self.is_closed:
            raise GreenletExit
        fiber = self.current
        assert fiber
        fiber.ticket += 1
        fiber.is_woken = False
        if timeout is not None:
            self._push(self.now + max(0.0, timeout), fiber)
        self._let_others_run()
        if self.is_closed:
            raise GreenletExit
        was_woken = fiber.is_woken
        process = fiber.process
        while process.signals and fiber is process.main and process.on_signal:
            # As Python runs a handler: in the main thread, wherever it is.
            process.signals -= 1
            process.on_signal()
        return was_woken

    def _let_others_run(self) -> None:
        loop = asyncio._get_running_loop()
        if loop is None:
            self.hub.switch()
            return
        # What asyncio knows of a thread is of this fiber only.
        hooks = sys.get_asyncgen_hooks()
        asyncio._set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)
        try:
            self.hub.switch()
        finally:
            asyncio._set_running_loop(loop)
            sys.set_asyncgen_hooks(*hooks)

    def wake(self, fiber: Fiber) -> None:
        """Let a fiber that waits go on."""
        if not fiber.is_woken and not fiber.is_done:
            fiber.is_woken = True
            self._push(self.now, fiber)

    def sleep(self, seconds: float) -> None:
        """Wait, also if a signal comes meanwhile."""
        end = self.now + max(0.0, seconds)
        self.park(seconds)
        while self.now < end - 1e-6:
            self.park(end - self.now)

    def request(self, moment: str, *names: str) -> None:
        """
        Say that the running process sends a request, or is sent the response.

        :param moment: ``sent`` or ``answered``.
        :param names: the door, and the operation or message.
        """
        process = self.process
        for name in names:
            process.requests[moment, name] += 1
            if self.on_request:
                number = process.requests[moment, name]
                self.on_request(process, moment, name, number)


KERNEL: Kernel


def running_process() -> Process | None:
    """Return the process that runs; None outside of a history's fibers."""
    kernel = globals().get("KERNEL")
    if kernel is None or kernel.current is None:
        return None
    process: Process = kernel.process
    return process
