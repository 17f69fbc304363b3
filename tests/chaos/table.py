"""Owns the table that is printed: one line for each row, and what deviated below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tests.chaos.rows import Row
from tests.chaos.verdict import Outcome

HEADER: Final = (
    "#",
    "what dies or happens",
    "runs",
    "executions",
    "left",
    "task",
    "tries",
    "stops",
    "at once",
    "seconds",
    "",
)


def table(outcomes: Mapping[Row, Sequence[Outcome]], *, judged: bool) -> str:
    """
    Write the table.

    :param outcomes: of each row's runs.
    :param judged: whether there is something to be expected.
    """
    lines = [HEADER, *(_line(row, seen, judged=judged) for row, seen in outcomes.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    written = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    written.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in written)


def details(row: Row, run: str, outcome: Outcome, *, judged: bool) -> str:
    """
    Tell of one run in a line, and what deviated in further ones.

    :param row: its row.
    :param run: its name.
    :param outcome: what came of it.
    :param judged: whether there is something to be expected.
    """
    remarks = f" ({'; '.join(outcome.remarks)})" if outcome.remarks else ""
    verdict = "NOT OK" if outcome.problems else "ok"
    line = f"{run}: {row.what}: {verdict if judged else 'measured'} in {outcome.seconds:.0f} s{remarks}"
    return "\n".join([line, *(f"    {problem}" for problem in outcome.problems)])


def _line(row: Row, seen: Sequence[Outcome], *, judged: bool) -> tuple[str, ...]:
    deviating = sum(bool(outcome.problems) for outcome in seen)
    verdict = f"NOT OK ({deviating})" if deviating else "ok"
    seconds = [outcome.seconds for outcome in seen]
    return (
        row.number,
        row.what,
        str(len(seen)),
        _counted(outcome.executions for outcome in seen),
        _counted(outcome.left for outcome in seen),
        _counted(", ".join(sorted(set(outcome.states))) or "none" for outcome in seen),
        _counted(max(outcome.tries, default=0) for outcome in seen),
        _counted(outcome.stops for outcome in seen),
        f"{max(outcome.overlap for outcome in seen):.0f} s",
        f"{min(seconds):.0f}-{max(seconds):.0f}",
        verdict if judged else "as measured",
    )


def _counted(values: Iterable[Any]) -> str:
    found = Counter(values)
    if len(found) == 1:
        return str(next(iter(found)))
    return ", ".join(f"{value} ({times}x)" for value, times in sorted(found.items(), key=str))
