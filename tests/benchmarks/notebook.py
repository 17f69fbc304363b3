"""Owns what was measured: figures by name, kept in a file if one is given, so that nothing is measured twice."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Figures:
    """
    What one run gave.

    :param values: figures by their names, in the order in which they are shown.
    :param note: what went wrong, if anything.
    :param at: when it was measured, in ISO 8601.
    """

    values: Mapping[str, float]
    note: str | None = None
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def median(runs: Sequence[Figures]) -> Figures:
    """
    Return the median of each figure, and the first note.

    :param runs: of the same work.
    """
    names = dict.fromkeys(name for run in runs for name in run.values)
    values = {name: statistics.median(run.values.get(name, 0.0) for run in runs) for name in names}
    return Figures(values, next((run.note for run in runs if run.note), None), runs[-1].at)


class Notebook:
    """
    Figures by what was measured.

    :param path: JSON lines, appended to; None to keep nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, Figures] = {}
        if path and path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self._known[entry["work"]] = Figures(**entry["figures"])

    def figures(self, work: object, make: Callable[[], Figures]) -> Figures:
        """
        Return the figures of some work: those of the file, or else measured now.

        :param work: what is measured; its ``repr`` is its name.
        :param make: measures it.
        """
        name = repr(work)
        if name not in self._known:
            self._known[name] = figures = make()
            if self._path:
                with self._path.open("a") as file:
                    file.write(json.dumps({"work": name, "figures": asdict(figures)}) + "\n")
        return self._known[name]
