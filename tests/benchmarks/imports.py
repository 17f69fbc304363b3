"""Owns the benchmark of what importing the operators costs, in fresh interpreters."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.notebook import Figures
from tests.benchmarks.providers import AMAZON, OURS
from tests.benchmarks.tables import compare
from tests.packaging.import_cost import MODULES
from tests.packaging.import_cost import measure as measure_import

CPU: Final = "CPU, s"
HEAVY: Final = "of boto3 and botocore, imported"


def measure(bench: Bench) -> dict[str, Figures]:
    """
    Import each provider's operators.

    :param bench: where.
    """
    names = (OURS.name, AMAZON.name)
    return {
        name: bench.notebook.figures(("import", name), partial(_figures, module))
        for name, module in zip(names, MODULES, strict=True)
    }


def _figures(module: str) -> Figures:
    cost = measure_import(module)
    return Figures({CPU: cost.seconds, "modules": cost.modules, HEAVY: len(cost.heavy)})


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure and print.

    :param options: the command line.
    :param bench: where.
    """
    print(
        f"\n### What importing the operators adds to `import airflow.sdk`\n\n{compare(measure(bench))}",
        flush=True,
    )
