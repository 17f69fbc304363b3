"""
What a run of the random tests measures: cases, the longest stall of an event loop, and
memory.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path

REPORT = "POLYSYNC_FUZZ_REPORT"
_PAUSE_SECONDS = 0.005
_CASES_BETWEEN_COLLECTIONS = 20


@dataclass
class Measures:
    """
    The measures of this process.

    :param stall: the longest time that an event loop stood still, in seconds of CPU of
        this process. Where several processes share a CPU, the time of a clock would
        measure the others.
    """

    cases: int = 0
    stall: float = 0.0

    async def watch_loop(self) -> None:
        """Measure the stalls of the running event loop until it is cancelled."""
        # The garbage collector stops the loop too, for 0.2 s with the objects of
        # Airflow and Hypothesis. Only those that come during the measurement are to
        # count.
        if self.cases % _CASES_BETWEEN_COLLECTIONS == 0:
            gc.collect()
        gc.freeze()
        try:
            while True:
                before = time.process_time()
                await asyncio.sleep(_PAUSE_SECONDS)
                self.stall = max(self.stall, time.process_time() - before)
        finally:
            gc.unfreeze()

    def write(self) -> None:
        """
        Write the measures to the file that the environment names, if it names one.
        """
        path = os.environ.get(REPORT)
        if path:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            report = {**asdict(self), "peak_mib": round(peak), "ended_at": time.time()}
            Path(path).write_text(json.dumps(report))


MEASURES = Measures()
