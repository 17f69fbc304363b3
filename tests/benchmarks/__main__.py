"""
Command line of the benchmarks. Both providers run in fresh processes, against the same
AWS test server.

::

    python -m tests.benchmarks triggers --executions 1000 --pipelines 20

The amazon provider's triggers need ``apache-airflow-providers-amazon[aiobotocore]``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import workload
from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.deployment import real_triggerers
from tests.benchmarks.endpoint.endpoint_process import EndpointProcess
from tests.benchmarks.measure.file_limit import raise_file_limit
from tests.benchmarks.parts import (
    cost_picture,
    endpoint_capacity,
    ends,
    everything,
    groups,
    import_cost,
    limits,
    list_import,
    sensors,
    start,
    triggers,
)
from tests.benchmarks.providers import providers
from tests.benchmarks.results_cache import ResultsCache
from tests.benchmarks.tables import machine
from tests.benchmarks.workload_presets import (
    CROWDED,
    SENSING,
    SIGN_IN,
    THROTTLED,
    WAITING,
)

Show = Callable[[argparse.Namespace, BenchmarkContext], None]
# Default number of runs for the parts that compare metrics with limits.
RUNS: Final = 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parts = parser.add_subparsers(required=True, metavar="part")
    trigger_parts = {
        "triggers": (
            "Many triggers in one event loop; each waits for one execution.",
            WAITING,
        ),
        "throttled": ("The same as triggers, while AWS throttles.", THROTTLED),
        "crowded": (
            "More executions than the account's quota allows to poll in time.",
            CROWDED,
        ),
        "sign-in": (
            "Many triggers that sign in at the same time, while STS is slow.",
            SIGN_IN,
        ),
    }
    for name, (description, default) in trigger_parts.items():
        workload.add_options(_part(parts, name, triggers.show, description), default)
    workload.add_options(
        _part(
            parts,
            "sensors",
            sensors.show,
            "Many sensors that look for executions, compared with waits of Start.",
            runs=RUNS,
        ),
        SENSING,
    )
    list_import.add_options(
        _part(
            parts,
            "list-import",
            list_import.show,
            "ListImport, compared with describing the pipelines one by one.",
        )
    )
    _part(
        parts,
        "imports",
        import_cost.show,
        "CPU time and modules that importing the operators adds.",
    )
    _part(
        parts,
        "starts",
        start.show,
        "Start without waiting, in a fresh process and again in the same process.",
    )
    ends.add_options(
        _part(
            parts,
            "ends",
            ends.show,
            "The end of a task, without and with the descriptions of its jobs.",
        )
    )
    cost_picture.add_options(
        _part(
            parts,
            "picture",
            cost_picture.show,
            "Draw the CPU and memory of a triggerer against the number of executions.",
        )
    )
    real_triggerers.add_options(
        _part(
            parts,
            "triggerer",
            real_triggerers.show,
            "Deferred tasks in one or more real triggerers, on PostgreSQL.",
        )
    )
    groups.add_options(
        _part(
            parts,
            "groups",
            groups.show,
            "Tasks for each step, compared with Start tasks, in a whole Airflow.",
        )
    )
    _part(
        parts,
        "capacity",
        endpoint_capacity.show,
        "Calls per second that the AWS test server can serve.",
    )
    _part(
        parts,
        "bars",
        limits.show,
        "Measure the metrics that have limits, and check the limits.",
        runs=RUNS,
    )
    everything.add_options(
        _part(
            parts,
            "everything",
            everything.show,
            "All parts except triggerer. Takes hours.",
            runs=RUNS,
        )
    )
    return parser


def _part(
    parts: Any, name: str, show: Show, description: str, *, runs: int = 1
) -> argparse.ArgumentParser:
    part: argparse.ArgumentParser = parts.add_parser(
        name,
        help=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = part.add_argument
    add(
        "--providers",
        choices=("ours", "amazon", "both"),
        default="both",
        help="providers to measure",
    )
    add("--runs", type=int, default=runs, help="number of runs; the medians are shown")
    add(
        "--notebook",
        type=Path,
        help="file that caches results; a result in it is not measured again",
    )
    part.set_defaults(show=show)
    return part


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one part of the benchmarks and print its results.

    :param arguments: the command line arguments; None for those of this process.
    :return: the exit status.
    """
    options = _parser().parse_args(arguments)
    raise_file_limit()
    print(machine(), flush=True)
    with EndpointProcess() as endpoint:
        context = BenchmarkContext(
            endpoint,
            providers(options.providers),
            options.runs,
            ResultsCache(options.notebook),
        )
        options.show(options, context)
    return 0


if __name__ == "__main__":
    sys.exit(main())
