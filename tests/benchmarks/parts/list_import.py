"""
Benchmark of ListImport, compared with sequential calls and with the shortest possible
time.
"""

from __future__ import annotations

import argparse
import importlib
import math
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.endpoint.account import REGION
from tests.benchmarks.endpoint.operations import LARGEST_PAGE
from tests.benchmarks.measure import fresh_process
from tests.benchmarks.results_cache import Metrics, median
from tests.benchmarks.tables import compare

WALL: Final = "wall time, s"
IDEAL: Final = "shortest possible time at this concurrency, s"
TIMES_IDEAL: Final = "wall time / shortest possible time"
TIMEOUT: Final = 600.0
OURS: Final = "ListImport"
SEQUENTIAL: Final = "one by one"
OPERATORS: Final = {
    OURS: (
        "polysync_airflow.operators.PolysyncListImportOperator",
        {"task_id": "import"},
    ),
    SEQUENTIAL: ("tests.benchmarks.parts.list_import.SequentialListImport", {}),
}
# Imported before the measurement, so that the import time is not measured.
IMPORTED_FIRST: Final = (
    "polysync_airflow.operators",
    "polysync_airflow.jobs.importer",
    "polysync_airflow.hooks",
    "boto3",
)


class SequentialListImport:
    """ListImport without concurrency: the same client, one call after the other."""

    def __init__(self, region_name: str) -> None:
        self._region_name = region_name

    def execute(self, context: Any) -> list[Any]:
        """List the pipelines, and describe each of them."""
        from polysync_airflow.hooks import PolysyncSageMakerHook

        hook = PolysyncSageMakerHook(region_name=self._region_name)
        return [
            hook.describe_pipeline(summary.name) for summary in hook.list_pipelines()
        ]


@dataclass(frozen=True)
class Catalogue:
    """
    The pipelines to import.

    :param pipelines: number of pipelines.
    :param latency: seconds until AWS responds.
    """

    pipelines: int = 1000
    latency: float = 0.02

    def ideal(self, workers: int) -> float:
        """
        Return the shortest possible time, in seconds.

        :param workers: number of concurrent calls.
        """
        pages = math.ceil(self.pipelines / LARGEST_PAGE)
        # The first page must arrive before any pipeline can be described.
        return self.latency * (1 + math.ceil((pages - 1 + self.pipelines) / workers))


def workers() -> int:
    """Return the number of concurrent calls that ListImport makes."""
    if find_spec("polysync_airflow.aws.concurrent_calls"):
        return int(
            importlib.import_module("polysync_airflow.aws.concurrent_calls").WORKERS
        )
    return 1


def measure(catalogue: Catalogue, context: BenchmarkContext) -> dict[str, Metrics]:
    """
    Import the pipelines both ways, as many times as requested; return the medians.

    :param catalogue: the pipelines.
    :param context: the benchmark context.
    """
    runs: dict[str, list[Metrics]] = {name: [] for name in OPERATORS}
    for number in range(context.runs):
        for name, metrics in runs.items():
            context.log(f"{name}, run {number + 1} of {context.runs}")
            key = ("list-import", name, catalogue, number)
            metrics.append(
                context.cache.get(key, partial(_run, name, catalogue, context))
            )
    return {name: median(metrics) for name, metrics in runs.items()}


def _run(name: str, catalogue: Catalogue, context: BenchmarkContext) -> Metrics:
    context.endpoint.reset(latency=catalogue.latency)
    context.endpoint.add_pipelines(catalogue.pipelines)
    class_path, arguments = OPERATORS[name]
    (result,) = fresh_process.measure(
        "tests.benchmarks.measure.worker_process",
        IMPORTED_FIRST,
        env=context.endpoint.connections("key"),
        task=lambda: {
            "operators": [(class_path, {**arguments, "region_name": REGION})]
        },
        timeout=TIMEOUT,
    )
    if result["results"] != catalogue.pipelines:
        raise RuntimeError(
            f"{name} imported {result['results']} of {catalogue.pipelines} pipelines"
        )
    statistics, concurrency = (
        context.endpoint.statistics(),
        workers() if name == OURS else 1,
    )
    return Metrics(
        {
            WALL: result["execute"]["wall"],
            "CPU, s": result["execute"]["cpu"],
            "concurrent calls": concurrency,
            IDEAL: catalogue.ideal(concurrency),
            TIMES_IDEAL: result["execute"]["wall"] / catalogue.ideal(concurrency),
            "calls": sum(statistics.calls.values()),
            "connections to AWS, open at once": statistics.peak_connections,
            "peak memory of the process, MiB": result["peak"] / 2**20,
        }
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of this part.

    :param parser: the parser of this part.
    """
    parser.add_argument(
        "--pipelines",
        type=int,
        default=Catalogue().pipelines,
        help="number of pipelines",
    )
    parser.add_argument(
        "--latency",
        type=float,
        default=Catalogue().latency,
        help="seconds until AWS responds",
    )


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure ListImport and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    catalogue = Catalogue(options.pipelines, options.latency)
    title = f"Import of {catalogue.pipelines:,} pipelines, AWS responds after {1000 * catalogue.latency:g} ms"
    print(f"\n### {title}\n\n{compare(measure(catalogue, context))}", flush=True)
