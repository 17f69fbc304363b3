"""Owns the bars: what each piece of work may cost, and whether it is met."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.benchmarks import importing, imports, triggers
from tests.benchmarks.bench import Bench
from tests.benchmarks.notebook import Figures
from tests.benchmarks.providers import OURS
from tests.benchmarks.tables import aligned, as_text
from tests.benchmarks.triggers import UNDONE
from tests.benchmarks.workload import Workload
from tests.benchmarks.works import CROWDED, FEW, MANY, THROTTLED, WAITING, WAITING_ROLE

Found = Mapping[str, Figures]


@dataclass(frozen=True)
class Bar:
    """
    What something may cost.

    :param what: the figure.
    :param most: its highest value.
    :param of: takes it from a provider's figures.
    """

    what: str
    most: float
    of: Callable[[Figures], float]


def _named(name: str) -> Callable[[Figures], float]:
    return lambda figures: figures.values[name]


def _lost(figures: Figures) -> float:
    return figures.values[triggers.FAILED] + figures.values[UNDONE]


def _unfairness(figures: Figures) -> float:
    values = figures.values
    # Who is never looked at waits longest.
    if values[triggers.UNSEEN] or not values[triggers.GAP_MEDIAN]:
        return float("inf")
    return values[triggers.GAP_MOST] / values[triggers.GAP_MEDIAN]


_LOST: Final = Bar("failed tasks", 0, _lost)
WAITS: Final[Mapping[Workload, tuple[Bar, ...]]] = {
    WAITING: (
        _LOST,
        Bar(triggers.CPU, 2.5, _named(triggers.CPU)),
        Bar(triggers.MEMORY, 40, _named(triggers.MEMORY)),
        Bar(triggers.PEAK_CONNECTIONS, 8, _named(triggers.PEAK_CONNECTIONS)),
        Bar(triggers.CALLS_EACH, 1.5, _named(triggers.CALLS_EACH)),
        Bar(triggers.STALL, 50, _named(triggers.STALL)),
        Bar(triggers.DETECTION, 6, _named(triggers.DETECTION)),
    ),
    WAITING_ROLE: (
        _LOST,
        Bar(triggers.STS_CALLS, 1, _named(triggers.STS_CALLS)),
        Bar(triggers.CPU, 3, _named(triggers.CPU)),
    ),
    THROTTLED: (_LOST,),
    CROWDED: (
        _LOST,
        Bar(triggers.STALL, 100, _named(triggers.STALL)),
        Bar("longest time without a look: worst execution over median", 3, _unfairness),
    ),
}
IMPORTS: Final = (
    Bar(imports.CPU, 0.03, _named(imports.CPU)),
    Bar(imports.HEAVY, 0, _named(imports.HEAVY)),
)


@dataclass(frozen=True)
class Row:
    """
    A line of the table.

    :param work: what was done.
    :param what: the figure.
    :param bar: its limit, in words.
    :param met: whether ours meets it.
    :param values: the figure by provider.
    """

    work: str
    what: str
    bar: str
    met: bool
    values: Mapping[str, float]


def rows(bench: Bench) -> Iterator[Row]:
    """
    Measure what the bars are about, and compare.

    :param bench: where.
    """
    for work, bars in WAITS.items():
        yield from _compared(str(work), bars, triggers.measure(work, bench))
    yield from _growth(bench)
    yield from _imported(bench)
    yield from _compared("import of the operators over airflow.sdk", IMPORTS, imports.measure(bench))


def _compared(work: str, bars: tuple[Bar, ...], found: Found) -> Iterator[Row]:
    for bar in bars:
        values = {name: bar.of(figures) for name, figures in found.items()}
        yield Row(work, bar.what, f"<= {bar.most:g}", values[OURS.name] <= bar.most, values)


def _growth(bench: Bench) -> Iterator[Row]:
    few, many = (triggers.measure(work, bench) for work in (FEW, MANY))
    each = _named(triggers.CPU_EACH)
    limit = each(few[OURS.name])
    yield Row(
        f"cost of growth: {MANY}",
        triggers.CPU_EACH,
        f"<= {limit:.2f}, that at {FEW.executions}",
        each(many[OURS.name]) <= limit,
        {name: each(figures) for name, figures in many.items()},
    )


def _imported(bench: Bench) -> Iterator[Row]:
    work = importing.Catalogue()
    found = importing.measure(work, bench)
    ours, sequential = found[importing.OURS].values, found[importing.SEQUENTIAL].values
    times, faster = ours[importing.TIMES_IDEAL], sequential[importing.WALL] / ours[importing.WALL]
    title = f"ListImport of {work.pipelines:,} pipelines, AWS answers after {1000 * work.latency:g} ms"
    yield Row(title, importing.TIMES_IDEAL, "<= 1.5", times <= 1.5, {OURS.name: times})
    yield Row(title, "times as fast as one by one", ">= 10", faster >= 10, {OURS.name: faster})


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure and print.

    :param options: the command line.
    :param bench: where.
    :raises SystemExit: with status 1, if ours misses a bar.
    """
    found = list(rows(bench))
    names = [provider.name for provider in bench.providers]
    lines = [
        ["work", "figure", "bar", *names, "ours meets it"],
        ["---", "---", "---", *["---:"] * len(names), "---"],
    ]
    before = ""
    for row in found:
        work, before = "" if row.work == before else row.work, row.work
        shown = [as_text(row.values.get(name)) for name in names]
        lines.append([work, row.what, row.bar, *shown, "yes" if row.met else "NO"])
    print(f"\n### The bars (medians of {bench.runs})\n\n{chr(10).join(aligned(lines))}", flush=True)
    if not all(row.met for row in found):
        raise SystemExit(1)
