"""
Metrics of benchmark runs, and a cache of them in a file, so that a long benchmark can
be continued.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Metrics:
    """
    The metrics of one run, or the medians of several runs.

    :param values: values by metric name, in the order in which they are shown.
    :param note: what failed during the run; None if nothing failed.
    :param measured_at: when the run ended, in ISO 8601.
    """

    values: Mapping[str, float]
    note: str | None = None
    measured_at: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds")
    )


def median(runs: Sequence[Metrics]) -> Metrics:
    """
    Return the median of each metric, and the first note.

    :param runs: runs of the same workload.
    """
    names = dict.fromkeys(name for run in runs for name in run.values)
    values = {
        name: statistics.median(run.values.get(name, 0.0) for run in runs)
        for name in names
    }
    return Metrics(
        values, next((run.note for run in runs if run.note), None), runs[-1].measured_at
    )


class ResultsCache:
    """
    Cache of metrics.

    :param path: a JSON Lines file, to which new results are appended; None to keep
        results in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._metrics: dict[str, Metrics] = {}
        if path and path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self._metrics[entry["key"]] = Metrics(**entry["metrics"])

    def get(self, key: object, measure: Callable[[], Metrics]) -> Metrics:
        """
        Return the cached metrics of a run, or measure and cache them.

        :param key: identifies the run; its ``repr`` is stored.
        :param measure: makes the run.
        """
        name = repr(key)
        if name not in self._metrics:
            self._metrics[name] = metrics = measure()
            if self._path:
                with self._path.open("a") as file:
                    file.write(
                        json.dumps({"key": name, "metrics": asdict(metrics)}) + "\n"
                    )
        return self._metrics[name]
