"""Benchmark of importing the operators, in fresh interpreters."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.providers import AMAZON, OURS
from tests.benchmarks.results_cache import Metrics
from tests.benchmarks.tables import compare
from tests.packaging.import_cost import MODULES
from tests.packaging.import_cost import measure as measure_import

CPU: Final = "CPU, s"
HEAVY: Final = "heavy packages imported (boto3, botocore)"


def measure(context: BenchmarkContext) -> dict[str, Metrics]:
    """
    Measure the import of each provider's operators.

    :param context: the benchmark context.
    """
    names = (OURS.name, AMAZON.name)
    return {
        name: context.cache.get(("import", name), partial(_metrics, module))
        for name, module in zip(names, MODULES, strict=True)
    }


def _metrics(module: str) -> Metrics:
    cost = measure_import(module)
    return Metrics({CPU: cost.seconds, "modules": cost.modules, HEAVY: len(cost.heavy)})


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure the imports and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    print(
        f"\n### What importing the operators adds to `import airflow.sdk`\n\n{compare(measure(context))}",
        flush=True,
    )
