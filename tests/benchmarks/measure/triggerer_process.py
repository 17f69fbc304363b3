"""
A process that runs many triggers in one event loop, as a triggerer does.

Its arguments are the class path of the triggers, and modules to import before the
measurement. It prints ``ready`` after the imports, reads its `Task` as a line of JSON,
and prints the `Measurement` as JSON in its last line.
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

from tests.benchmarks.measure.event_loop_lag import EventLoopLagProbe, cpu_per_tick
from tests.benchmarks.measure.fresh_process import READY
from tests.benchmarks.measure.memory import peak_memory

# Seconds between two checks of the limits.
LIMIT_CHECK_INTERVAL: Final = 0.5
# Seconds after the time limit in which the event loop must stop by itself.
STOP_TIMEOUT: Final = 10.0


@dataclass(frozen=True)
class Task:
    """
    The triggers to run, and the limits.

    :param triggers: for each trigger its start (Unix time) and its
        arguments.
    :param time_limit: seconds after the first start at which the remaining triggers are
        cancelled.
    :param memory_limit: bytes above the start at which the process ends.
    """

    triggers: Sequence[tuple[float, dict[str, Any]]]
    time_limit: float
    memory_limit: int


@dataclass
class Measurement:
    """
    What the process measured.

    :param stall: the longest stall of the event loop, in seconds.
    :param lag: the 99th percentile of the event loop lag, in seconds.
    :param cpu: CPU seconds of this process from the start of the first trigger to the
        end, without the lag probe.
    :param memory: bytes by which the peak memory of this process grew in that time.
    :param wall: seconds from the start of the first trigger to the end.
    :param events: for each trigger that sent an event: its index, the time, and the
        status in the event.
    :param errors: for each trigger that raised an exception: its index and the
        exception.
    :param cancelled: why the remaining triggers were cancelled; None if none remained.
    """

    stall: float = 0.0
    lag: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    wall: float = 0.0
    events: list[tuple[int, float, str]] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)
    cancelled: str | None = None


class Run:
    """
    One run of all triggers.

    :param trigger_class: the class of the triggers.
    :param task: the triggers to run, and the limits.
    """

    def __init__(self, trigger_class: Any, task: Task) -> None:
        self._trigger_class, self._task = trigger_class, task
        self._probe = EventLoopLagProbe()
        self.measurement = Measurement()

    async def run(self) -> None:
        """
        Start each trigger at its time, and wait until all triggers end or the time
        limit passes.
        """
        self._cpu_per_tick = await cpu_per_tick()
        await asyncio.sleep(self._task.triggers[0][0] - time.time())
        self._memory, self._cpu, self._start = (
            peak_memory(),
            time.process_time(),
            time.perf_counter(),
        )
        threading.Thread(target=self._enforce_limits, daemon=True).start()
        self._probe.start()
        tasks = set()
        try:
            async with asyncio.timeout(self._task.time_limit):
                for index, (at, arguments) in enumerate(self._task.triggers):
                    # Sleep even for 0 seconds: Airflow also yields to the event loop
                    # between two triggers.
                    await asyncio.sleep(max(0.0, at - time.time()))
                    tasks.add(asyncio.create_task(self._run_trigger(index, arguments)))
                await asyncio.wait(tasks)
        except TimeoutError:
            self.measurement.cancelled = (
                f"time limit of {self._task.time_limit:.0f} s exceeded"
            )
        self._probe.stop()
        self._measure()

    async def _run_trigger(self, index: int, arguments: dict[str, Any]) -> None:
        try:
            async for event in self._trigger_class(**arguments).run():
                payload = event.payload
                # The event of a search has no status.
                status = str(payload.get("status") or payload["outcome"])
                self.measurement.events.append((index, time.time(), status))
        except Exception as error:
            self.measurement.errors.append((index, repr(error)[:500]))

    def _measure(self) -> None:
        measurement = self.measurement
        measurement.wall = time.perf_counter() - self._start
        measurement.cpu = (
            time.process_time() - self._cpu - self._probe.ticks * self._cpu_per_tick
        )
        measurement.memory = peak_memory() - self._memory
        measurement.stall, measurement.lag = (
            self._probe.longest,
            self._probe.percentile(99),
        )

    def _enforce_limits(self) -> None:
        """
        End the process if it exceeds the memory limit, or if a stalled event loop
        misses the time limit.
        """
        while True:
            time.sleep(LIMIT_CHECK_INTERVAL)
            if peak_memory() - self._memory > self._task.memory_limit:
                limit = f"{self._task.memory_limit / 2**30:.0f} GiB"
                self.measurement.cancelled = f"memory limit of {limit} exceeded"
                break
            if time.perf_counter() - self._start > self._task.time_limit + STOP_TIMEOUT:
                limit = f"{self._task.time_limit:.0f} s"
                self.measurement.cancelled = (
                    f"time limit of {limit} exceeded while the event loop was stalled"
                )
                break
        self._measure()
        print(json.dumps(asdict(self.measurement)), flush=True)
        os._exit(0)


def main(class_path: str, *modules: str) -> None:
    """
    Read the task from standard input, run the triggers, and print the measurement.

    :param class_path: the class path of the triggers.
    :param modules: modules to import before the measurement; a later import would count
        as a cost of the triggers.
    """
    # The same logging as in a triggerer process, but without a supervisor that reads
    # it.
    with Path(os.devnull).open("wb", buffering=0) as output:
        configure_logging(json_output=True, output=output, sending_to_supervisor=True)
        _main(class_path, modules)


def _main(class_path: str, modules: Sequence[str]) -> None:
    module, _, name = class_path.rpartition(".")
    trigger_class = getattr(importlib.import_module(module), name)
    for each in modules:
        importlib.import_module(each)
    print(READY, flush=True)
    run = Run(trigger_class, Task(**json.loads(sys.stdin.readline())))
    asyncio.run(run.run())
    print(json.dumps(asdict(run.measurement)), flush=True)
    # Exit at once, without waiting for threads that the triggers left behind.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
