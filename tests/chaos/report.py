"""The report: one line per run, and a table with one line per test case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tests.chaos.cases.case import Case
from tests.chaos.checks import Outcome

HEADER: Final = (
    "#",
    "test case",
    "runs",
    "executions",
    "left running",
    "task",
    "tries",
    "stops",
    "overlap",
    "seconds",
    "result",
)


def table(outcomes: Mapping[Case, Sequence[Outcome]], *, checked: bool) -> str:
    """
    Return the table.

    :param outcomes: the outcomes of all runs, by test case.
    :param checked: whether the outcomes were checked, or only measured.
    """
    lines = [
        HEADER,
        *(_line(case, runs, checked=checked) for case, runs in outcomes.items()),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    written = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    written.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in written)


def details(case: Case, run: str, outcome: Outcome, *, checked: bool) -> str:
    """
    Return one line about a run, and one further line for each problem.

    :param case: the test case.
    :param run: the name of the run.
    :param outcome: the outcome.
    :param checked: whether the outcome was checked, or only measured.
    """
    remarks = f" ({'; '.join(outcome.remarks)})" if outcome.remarks else ""
    result = "FAILED" if outcome.problems else "ok"
    line = f"{run}: {case.title}: {result if checked else 'measured'} in {outcome.seconds:.0f} s{remarks}"
    return "\n".join([line, *(f"    {problem}" for problem in outcome.problems)])


def _line(case: Case, runs: Sequence[Outcome], *, checked: bool) -> tuple[str, ...]:
    failed = sum(bool(outcome.problems) for outcome in runs)
    result = f"FAILED ({failed})" if failed else "ok"
    seconds = [outcome.seconds for outcome in runs]
    return (
        case.number,
        case.title,
        str(len(runs)),
        _counted(outcome.executions for outcome in runs),
        _counted(outcome.running for outcome in runs),
        _counted(", ".join(sorted(set(outcome.states))) or "none" for outcome in runs),
        _counted(max(outcome.tries, default=0) for outcome in runs),
        _counted(outcome.stops for outcome in runs),
        f"{max(outcome.overlap for outcome in runs):.0f} s",
        f"{min(seconds):.0f}-{max(seconds):.0f}",
        result if checked else "measured",
    )


def _counted(values: Iterable[Any]) -> str:
    counts = Counter(values)
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(
        f"{value} ({count}x)" for value, count in sorted(counts.items(), key=str)
    )
