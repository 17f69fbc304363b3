"""
Limits of the metrics: the highest value that each metric of this provider may have, and
the check of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.parts import import_cost, list_import, triggers
from tests.benchmarks.parts.triggers import UNFINISHED
from tests.benchmarks.providers import OURS
from tests.benchmarks.results_cache import Metrics
from tests.benchmarks.tables import aligned, as_text
from tests.benchmarks.workload import Workload
from tests.benchmarks.workload_presets import (
    CROWDED,
    FEW,
    MANY,
    THROTTLED,
    WAITING,
    WAITING_ROLE,
)

Results = Mapping[str, Metrics]


@dataclass(frozen=True)
class Limit:
    """
    The limit of a metric.

    :param name: the name of the metric.
    :param maximum: the highest value that is allowed.
    :param value: returns the metric's value from a provider's metrics.
    """

    name: str
    maximum: float
    value: Callable[[Metrics], float]


def _metric(name: str) -> Callable[[Metrics], float]:
    return lambda metrics: metrics.values[name]


def _failed(metrics: Metrics) -> float:
    return metrics.values[triggers.FAILED] + metrics.values[UNFINISHED]


def _unfairness(metrics: Metrics) -> float:
    values = metrics.values
    # An execution that was never polled has no gap of its own, but it is the worst
    # case.
    if values[triggers.NEVER_POLLED] or not values[triggers.GAP_MEDIAN]:
        return float("inf")
    return values[triggers.GAP_LONGEST] / values[triggers.GAP_MEDIAN]


_NO_FAILURES: Final = Limit("failed tasks", 0, _failed)
# Airflow warns of a stall of 200 ms.
_STALL: Final = Limit(triggers.STALL, 200, _metric(triggers.STALL))
TRIGGER_LIMITS: Final[Mapping[Workload, tuple[Limit, ...]]] = {
    WAITING: (
        _NO_FAILURES,
        Limit(triggers.CPU, 2.5, _metric(triggers.CPU)),
        Limit(triggers.MEMORY, 40, _metric(triggers.MEMORY)),
        Limit(triggers.PEAK_CONNECTIONS, 8, _metric(triggers.PEAK_CONNECTIONS)),
        Limit(triggers.CALLS_EACH, 1.5, _metric(triggers.CALLS_EACH)),
        _STALL,
        Limit(triggers.DETECTION, 6, _metric(triggers.DETECTION)),
    ),
    WAITING_ROLE: (
        _NO_FAILURES,
        Limit(triggers.STS_CALLS, 1, _metric(triggers.STS_CALLS)),
        Limit(triggers.CPU, 3, _metric(triggers.CPU)),
    ),
    THROTTLED: (_NO_FAILURES,),
    CROWDED: (
        _NO_FAILURES,
        _STALL,
        Limit(
            "longest time between polls: worst execution / median execution",
            3,
            _unfairness,
        ),
    ),
}
IMPORT_LIMITS: Final = (
    Limit(import_cost.CPU, 0.03, _metric(import_cost.CPU)),
    Limit(import_cost.HEAVY, 0, _metric(import_cost.HEAVY)),
)


@dataclass(frozen=True)
class Row:
    """
    A row of the table.

    :param work: the workload.
    :param metric: the name of the metric.
    :param limit: the limit as text.
    :param met: whether this provider is within the limit.
    :param values: the values by provider.
    """

    work: str
    metric: str
    limit: str
    met: bool
    values: Mapping[str, float]


def rows(context: BenchmarkContext) -> Iterator[Row]:
    """
    Measure every metric that has a limit, and compare it with the limit.

    :param context: the benchmark context.
    """
    for work, limits in TRIGGER_LIMITS.items():
        yield from _compared(str(work), limits, triggers.measure(work, context))
    yield from _growth(context)
    yield from _list_import(context)
    yield from _compared(
        "import of the operators after airflow.sdk",
        IMPORT_LIMITS,
        import_cost.measure(context),
    )


def _compared(work: str, limits: tuple[Limit, ...], results: Results) -> Iterator[Row]:
    for limit in limits:
        values = {name: limit.value(metrics) for name, metrics in results.items()}
        met = values[OURS.name] <= limit.maximum
        yield Row(work, limit.name, f"<= {limit.maximum:g}", met, values)


def _growth(context: BenchmarkContext) -> Iterator[Row]:
    few, many = (triggers.measure(work, context) for work in (FEW, MANY))
    cpu_each = _metric(triggers.CPU_EACH)
    maximum = cpu_each(few[OURS.name])
    yield Row(
        f"growth: {MANY}",
        triggers.CPU_EACH,
        f"<= {maximum:.2f}, the value for {FEW.executions} executions",
        cpu_each(many[OURS.name]) <= maximum,
        {name: cpu_each(metrics) for name, metrics in many.items()},
    )


def _list_import(context: BenchmarkContext) -> Iterator[Row]:
    catalogue = list_import.Catalogue()
    results = list_import.measure(catalogue, context)
    ours, sequential = (
        results[list_import.OURS].values,
        results[list_import.SEQUENTIAL].values,
    )
    times, speedup = (
        ours[list_import.TIMES_IDEAL],
        sequential[list_import.WALL] / ours[list_import.WALL],
    )
    title = f"ListImport of {catalogue.pipelines:,} pipelines, AWS responds after {1000 * catalogue.latency:g} ms"
    yield Row(
        title, list_import.TIMES_IDEAL, "<= 1.5", times <= 1.5, {OURS.name: times}
    )
    yield Row(
        title, "speedup over one by one", ">= 10", speedup >= 10, {OURS.name: speedup}
    )


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure the metrics that have limits, and print them with their limits.

    :param options: the parsed command line.
    :param context: the benchmark context.
    :raises SystemExit: with status 1 if this provider exceeds a limit.
    """
    measured = list(rows(context))
    names = [provider.name for provider in context.providers]
    lines = [
        ["workload", "metric", "limit", *names, "limit met by ours"],
        ["---", "---", "---", *["---:"] * len(names), "---"],
    ]
    previous = ""
    for row in measured:
        # Show each workload only once, in its first line.
        work, previous = "" if row.work == previous else row.work, row.work
        cells = [as_text(row.values.get(name)) for name in names]
        lines.append([work, row.metric, row.limit, *cells, "yes" if row.met else "NO"])
    print(
        f"\n### Limits (medians of {context.runs} runs)\n\n{chr(10).join(aligned(lines))}",
        flush=True,
    )
    if not all(row.met for row in measured):
        raise SystemExit(1)
