"""Owns the benchmark of ListImport: beside pipelines that are described one by one, and beside the ideal."""

from __future__ import annotations

import argparse
import importlib
import math
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

from tests.benchmarks import process
from tests.benchmarks.bench import Bench
from tests.benchmarks.endpoint.account import REGION
from tests.benchmarks.endpoint.operations import LARGEST_PAGE
from tests.benchmarks.notebook import Figures, median
from tests.benchmarks.tables import compare

WALL: Final = "wall time, s"
IDEAL: Final = "ideal at its concurrency, s"
TIMES_IDEAL: Final = "times the ideal"
TIMEOUT: Final = 600.0
OURS: Final = "ListImport"
SEQUENTIAL: Final = "one by one"
OPERATORS: Final = {
    OURS: ("polysync_airflow.operators.PolysyncListImportOperator", {"task_id": "import"}),
    SEQUENTIAL: ("tests.benchmarks.importing.OneByOne", {}),
}
WARMED: Final = (
    "polysync_airflow.operators",
    "polysync_airflow.jobs.importer",
    "polysync_airflow.hooks",
    "boto3",
)


class OneByOne:
    """What ListImport would be without concurrency: the same client, one call after the other."""

    def __init__(self, region_name: str) -> None:
        self._region_name = region_name

    def execute(self, context: Any) -> list[Any]:
        """List the pipelines, and describe each."""
        from polysync_airflow.hooks import PolysyncSageMakerHook

        hook = PolysyncSageMakerHook(region_name=self._region_name)
        return [hook.describe_pipeline(summary.name) for summary in hook.list_pipelines()]


@dataclass(frozen=True)
class Catalogue:
    """
    What is imported.

    :param pipelines: how many.
    :param latency: seconds until AWS answers.
    """

    pipelines: int = 1000
    latency: float = 0.02

    def ideal(self, workers: int) -> float:
        """
        Return the seconds that nobody can be faster than.

        :param workers: how many calls are under way at once.
        """
        pages = math.ceil(self.pipelines / LARGEST_PAGE)
        # One page has to be there before anything can be described.
        return self.latency * (1 + math.ceil((pages - 1 + self.pipelines) / workers))


def workers() -> int:
    """Return how many calls ListImport makes at once."""
    if find_spec("polysync_airflow.aws.concurrent_calls"):
        return int(importlib.import_module("polysync_airflow.aws.concurrent_calls").WORKERS)
    return 1


def measure(work: Catalogue, bench: Bench) -> dict[str, Figures]:
    """
    Import both ways in turn, as often as was asked for; return the medians.

    :param work: what.
    :param bench: where.
    """
    runs: dict[str, list[Figures]] = {name: [] for name in OPERATORS}
    for number in range(bench.runs):
        for name, found in runs.items():
            bench.say(f"{name}, run {number + 1} of {bench.runs}")
            key = ("list-import", name, work, number)
            found.append(bench.notebook.figures(key, partial(_run, name, work, bench)))
    return {name: median(found) for name, found in runs.items()}


def _run(name: str, work: Catalogue, bench: Bench) -> Figures:
    bench.endpoint.reset(latency=work.latency)
    bench.endpoint.add_pipelines(work.pipelines)
    class_path, arguments = OPERATORS[name]
    (found,) = process.measure(
        "tests.benchmarks.worker",
        WARMED,
        env=bench.endpoint.connections("key"),
        orders=lambda: {"operators": [(class_path, {**arguments, "region_name": REGION})]},
        timeout=TIMEOUT,
    )
    if found["results"] != work.pipelines:
        raise RuntimeError(f"{name} found {found['results']} of {work.pipelines} pipelines")
    seen, at_once = bench.endpoint.seen(), workers() if name == OURS else 1
    return Figures(
        {
            WALL: found["execute"]["wall"],
            "CPU, s": found["execute"]["cpu"],
            "calls at once": at_once,
            IDEAL: work.ideal(at_once),
            TIMES_IDEAL: found["execute"]["wall"] / work.ideal(at_once),
            "calls": sum(seen.calls.values()),
            "connections to AWS, open at once": seen.peak_connections,
            "peak memory of the process, MiB": found["peak"] / 2**20,
        }
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: the part's.
    """
    parser.add_argument("--pipelines", type=int, default=Catalogue().pipelines, help="how many there are")
    parser.add_argument(
        "--latency", type=float, default=Catalogue().latency, help="seconds until AWS answers"
    )


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure and print.

    :param options: the command line.
    :param bench: where.
    """
    work = Catalogue(options.pipelines, options.latency)
    title = f"{work.pipelines:,} pipelines are imported, AWS answers after {1000 * work.latency:g} ms"
    print(f"\n### {title}\n\n{compare(measure(work, bench))}", flush=True)
