"""
Owns the command line of the benchmarks: both providers, in fresh processes, on the same endpoint.

::

    python -m tests.benchmarks triggers --executions 1000 --pipelines 20

The amazon provider's triggers need ``apache-airflow-providers-amazon[aiobotocore]``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import bars, importing, imports, picture, starts, triggers, workload
from tests.benchmarks.bench import Bench
from tests.benchmarks.capacity import capacity
from tests.benchmarks.deployment import measuring as deployment
from tests.benchmarks.endpoint.running import RunningEndpoint
from tests.benchmarks.files import raise_file_limit
from tests.benchmarks.notebook import Notebook
from tests.benchmarks.providers import providers
from tests.benchmarks.tables import machine
from tests.benchmarks.works import SIGN_IN, THROTTLED, WAITING


def show_capacity(options: argparse.Namespace, bench: Bench) -> None:
    """Print what the endpoint can serve."""
    rates = [f"{rate:,.0f} calls of {name}" for name, rate in capacity(bench.endpoint).items()]
    print(f"The endpoint serves, a second, {' or '.join(rates)}.", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--providers", choices=("ours", "amazon", "both"), default="both")
    common.add_argument("--runs", type=int, default=1, help="show medians of so many (default: %(default)s)")
    common.add_argument(
        "--notebook", type=Path, help="a file that keeps figures, so that none is measured twice"
    )
    parts = parser.add_subparsers(required=True, metavar="part")

    def part(name: str, show: Callable[[argparse.Namespace, Bench], None], about: str | None) -> Any:
        added = parts.add_parser(
            name,
            help=(about or "").strip().splitlines()[0],
            parents=[common],
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        added.set_defaults(show=show)
        return added

    workload.add_options(part("triggers", triggers.show, triggers.__doc__), WAITING)
    workload.add_options(part("throttled", triggers.show, "The same, while AWS throttles."), THROTTLED)
    workload.add_options(
        part("sign-in", triggers.show, "Many that sign in at once, while STS is slow."), SIGN_IN
    )
    importing.add_options(part("list-import", importing.show, importing.__doc__))
    part("starts", starts.show, starts.__doc__)
    part("imports", imports.show, imports.__doc__)
    picture.add_options(part("picture", picture.show, picture.__doc__))
    deployment.add_options(part("triggerer", deployment.show, deployment.__doc__))
    part("bars", bars.show, bars.__doc__)
    part("capacity", show_capacity, show_capacity.__doc__)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print.

    :param arguments: the command line; None for the process's own.
    :returns: the exit status.
    """
    options = _parser().parse_args(arguments)
    raise_file_limit()
    print(machine(), flush=True)
    with RunningEndpoint() as endpoint:
        bench = Bench(endpoint, providers(options.providers), options.runs, Notebook(options.notebook))
        options.show(options, bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
