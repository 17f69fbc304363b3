"""
Owns a stand-in for the triggerer: one event loop in a process of its own, with many triggers at once.

Its arguments are the class path of the triggers, and modules to import beforehand. It prints ``ready`` when all is
imported, reads its orders as a line of JSON, and prints what it measured as JSON in its last line.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from airflow.sdk.log import configure_logging

from tests.benchmarks.lag import LagProbe, cost_of_a_tick
from tests.benchmarks.memory import peak_memory
from tests.benchmarks.process import READY

# Seconds between two looks at the limits.
GUARD_INTERVAL: Final = 0.5
# Seconds that an event loop has to see for itself that the time is over.
HELD_UP: Final = 10.0


@dataclass(frozen=True)
class Orders:
    """
    What is to be done.

    :param triggers: for each trigger when it starts (seconds since the epoch), and its arguments.
    :param limit: seconds from the first start on after which those that have not fired are cancelled.
    :param memory: bytes above the start that must not be exceeded.
    """

    triggers: Sequence[tuple[float, dict[str, Any]]]
    limit: float
    memory: int


@dataclass
class Measured:
    """
    What was seen.

    :param stall: the event loop's longest, in seconds.
    :param lag: the event loop's 99th percentile, in seconds.
    :param cpu: seconds of this process, from the start of the first trigger to the end, without the probe's.
    :param memory: bytes by which this process's peak grew meanwhile.
    :param wall: seconds from the first start to the end.
    :param fired: for each trigger that fired its number, when, and its event's status.
    :param errors: for each that raised its number, and what.
    :param cut: why the others were cancelled; None if there are no others.
    """

    stall: float = 0.0
    lag: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    wall: float = 0.0
    fired: list[tuple[int, float, str]] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)
    cut: str | None = None


class Run:
    """
    Triggers that run to their ends.

    :param make: the class of the triggers.
    :param orders: what is to be done.
    """

    def __init__(self, make: Any, orders: Orders) -> None:
        self._make, self._orders = make, orders
        self._probe = LagProbe()
        self.measured = Measured()

    async def run(self) -> None:
        """Start each trigger at its time, and wait for all."""
        self._tick = await cost_of_a_tick()
        await asyncio.sleep(self._orders.triggers[0][0] - time.time())
        self._memory, self._cpu, self._began = peak_memory(), time.process_time(), time.perf_counter()
        threading.Thread(target=self._guard, daemon=True).start()
        self._probe.start()
        tasks = set()
        try:
            async with asyncio.timeout(self._orders.limit):
                for number, (at, arguments) in enumerate(self._orders.triggers):
                    # Also without a wait: Airflow, too, lets others have their turn between two triggers.
                    await asyncio.sleep(max(0.0, at - time.time()))
                    tasks.add(asyncio.create_task(self._fire(number, arguments)))
                await asyncio.wait(tasks)
        except TimeoutError:
            self.measured.cut = f"its {self._orders.limit:.0f} s were over"
        self._probe.stop()
        self._measure()

    async def _fire(self, number: int, arguments: dict[str, Any]) -> None:
        try:
            async for event in self._make(**arguments).run():
                self.measured.fired.append((number, time.time(), str(event.payload["status"])))
        except Exception as error:
            self.measured.errors.append((number, repr(error)[:500]))

    def _measure(self) -> None:
        measured = self.measured
        measured.wall = time.perf_counter() - self._began
        measured.cpu = time.process_time() - self._cpu - self._probe.ticks * self._tick
        measured.memory = peak_memory() - self._memory
        measured.stall, measured.lag = self._probe.longest, self._probe.percentile(99)

    def _guard(self) -> None:
        """End the process where its event loop is held up too long to do so, or takes too much memory."""
        while True:
            time.sleep(GUARD_INTERVAL)
            if peak_memory() - self._memory > self._orders.memory:
                self.measured.cut = f"it took more than {self._orders.memory / 2**30:.0f} GiB of memory"
                break
            if time.perf_counter() - self._began > self._orders.limit + HELD_UP:
                self.measured.cut = f"its {self._orders.limit:.0f} s were over, and it did not even notice"
                break
        self._measure()
        print(json.dumps(asdict(self.measured)), flush=True)
        os._exit(0)


def main(class_path: str, *modules: str) -> None:
    """
    Do as ordered.

    :param class_path: the class of the triggers.
    :param modules: modules to import beforehand, as what is imported later counts as the triggers' own.
    """
    # As the triggerer's process logs, with nobody at the other end.
    with Path(os.devnull).open("wb", buffering=0) as nowhere:
        configure_logging(json_output=True, output=nowhere, sending_to_supervisor=True)
        _main(class_path, modules)


def _main(class_path: str, modules: Sequence[str]) -> None:
    module, _, name = class_path.rpartition(".")
    make = getattr(importlib.import_module(module), name)
    for each in modules:
        importlib.import_module(each)
    print(READY, flush=True)
    run = Run(make, Orders(**json.loads(sys.stdin.readline())))
    asyncio.run(run.run())
    print(json.dumps(asdict(run.measured)), flush=True)
    # Threads of what was measured may be in the middle of something, and nothing is worth the wait.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
