"""
Benchmark of sensors that look for executions, compared with the waits of Start for as
many executions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.parts import triggers
from tests.benchmarks.providers import OURS, SENSORS
from tests.benchmarks.results_cache import Metrics
from tests.benchmarks.tables import compare
from tests.benchmarks.workload import Workload, workloads

# Gaps between polls mean nothing for an execution that does not exist yet.
SHOWN: Final = (
    triggers.CPU,
    triggers.MEMORY,
    *(f"calls of {operation}" for operation in triggers.OPERATIONS[:2]),
    triggers.CALLS_EACH,
    triggers.PEAK_CONNECTIONS,
    triggers.STALL,
    triggers.DETECTION,
    triggers.FAILED,
    triggers.UNFINISHED,
    "wall time, s",
)


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure the workloads that the command line describes, and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    show_all(workloads(options), context)


def show_all(works: Sequence[Workload], context: BenchmarkContext) -> None:
    """
    Measure several workloads, and print one table for each.

    A sensor that has found its execution goes on with the trigger of Start, so only the
    search is measured: it looks for an execution for as long as Start waits for one.

    :param works: the workloads.
    :param context: the benchmark context.
    """
    context = replace(
        context, providers=[replace(OURS, name="waits of Start"), SENSORS]
    )
    for work in works:
        results = triggers.measure(work, context)
        shown = {
            name: Metrics({each: metrics.values[each] for each in SHOWN}, metrics.note)
            for name, metrics in results.items()
        }
        print(f"\n### {work}\n\n{compare(shown)}", flush=True)
