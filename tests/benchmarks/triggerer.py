"""
Owns a stand-in for the triggerer: one event loop in a process of its own, with many triggers at once.

Prints ``ready`` when everything is imported, reads ``{"arguments": [those of each trigger], "limit": seconds}``,
and prints what it measured as JSON in its last line.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.lag import LagProbe

READY: Final = "ready"
# Only Linux has it.
STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True)
class Measured:
    """
    What was seen.

    :param started_at: when the triggers started, in seconds since the epoch.
    :param stall: the event loop's longest, in seconds.
    :param lag: the event loop's 99th percentile, in seconds.
    :param cpu: seconds of this process, from the start of the triggers to the end.
    :param memory: bytes by which this process's peak grew meanwhile.
    :param wall: seconds from the start to the end.
    :param events: what the triggers that fired said.
    :param errors: what the others raised, except those that were cancelled.
    """

    started_at: float
    stall: float
    lag: float
    cpu: float
    memory: int
    wall: float
    events: Sequence[Any]
    errors: Sequence[str]


async def run(triggers: Sequence[Any], limit: float) -> Measured:
    """
    Run triggers to their ends, all at once.

    :param triggers: Airflow triggers.
    :param limit: seconds after which those that have not fired are cancelled.
    """
    probe = LagProbe()
    watching = asyncio.create_task(probe.watch())
    await asyncio.sleep(0.1)
    memory, cpu = _peak_memory(), time.process_time()
    started_at, began = time.time(), time.perf_counter()
    tasks = [asyncio.create_task(_fire(trigger)) for trigger in triggers]
    done, late = await asyncio.wait(tasks, timeout=limit)
    wall, used, grown = time.perf_counter() - began, time.process_time() - cpu, _peak_memory() - memory
    watching.cancel()
    for task in late:
        task.cancel()
    return Measured(
        started_at=started_at,
        stall=probe.longest,
        lag=probe.percentile(99),
        cpu=used,
        memory=grown,
        wall=wall,
        events=[task.result() for task in done if not task.exception()],
        errors=[repr(error) for task in done if (error := task.exception())],
    )


async def _fire(trigger: Any) -> Any:
    return [event.payload async for event in trigger.run()]


def _peak_memory() -> int:
    if STATUS.exists():
        # Unlike ru_maxrss, it does not begin with the peak of the process that started this one.
        return int(STATUS.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(class_path: str) -> None:
    """
    Do as ordered.

    :param class_path: the class of the triggers.
    """
    module, _, name = class_path.rpartition(".")
    make = getattr(importlib.import_module(module), name)
    print(READY, flush=True)
    orders = json.loads(sys.stdin.readline())
    measured = asyncio.run(run([make(**each) for each in orders["arguments"]], orders["limit"]))
    print(json.dumps(asdict(measured)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
