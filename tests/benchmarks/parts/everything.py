"""
All parts of the benchmarks except the real triggerers, one after the other. Takes hours;
use an idle machine.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.parts import (
    cost_picture,
    endpoint_capacity,
    ends,
    import_cost,
    limits,
    list_import,
    sensors,
    start,
    triggers,
)
from tests.benchmarks.workload_presets import (
    CROWDED,
    MATRIX,
    SENSING,
    SIGN_IN,
    THROTTLED,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of the parts that have options.

    :param parser: the parser of this part.
    """
    list_import.add_options(parser)
    ends.add_options(parser)
    cost_picture.add_options(parser)


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure everything and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    :raises SystemExit: with status 1 if this provider exceeds a limit.
    """
    endpoint_capacity.show(options, context)
    for part in (import_cost, start, ends, list_import):
        part.show(options, context)
    # One run is enough here, because the costs of these workloads differ by large
    # factors. The workloads that have limits are measured more often below.
    single_run = replace(context, runs=1)
    triggers.show_all([*MATRIX, THROTTLED, CROWDED, SIGN_IN], single_run)
    sensors.show_all([SENSING], single_run)
    cost_picture.show(options, single_run)
    limits.show(options, context)
