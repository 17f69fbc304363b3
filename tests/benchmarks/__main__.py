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
from typing import Any, Final

from tests.benchmarks import (
    bars,
    capacity,
    everything,
    importing,
    imports,
    picture,
    starts,
    triggers,
    workload,
)
from tests.benchmarks.bench import Bench
from tests.benchmarks.deployment import measuring as deployment
from tests.benchmarks.endpoint.running import RunningEndpoint
from tests.benchmarks.files import raise_file_limit
from tests.benchmarks.notebook import Notebook
from tests.benchmarks.providers import providers
from tests.benchmarks.tables import machine
from tests.benchmarks.works import CROWDED, SIGN_IN, THROTTLED, WAITING

Show = Callable[[argparse.Namespace, Bench], None]
# Of those figures that are held against a limit.
RUNS: Final = 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parts = parser.add_subparsers(required=True, metavar="part")
    waits = {
        "triggers": (triggers.__doc__, WAITING),
        "throttled": ("The same, while AWS throttles.", THROTTLED),
        "crowded": ("More executions than the account's quota allows to look at in time.", CROWDED),
        "sign-in": ("Many that sign in at once, while STS is slow.", SIGN_IN),
    }
    for name, (about, default) in waits.items():
        workload.add_options(_part(parts, name, triggers.show, about), default)
    importing.add_options(_part(parts, "list-import", importing.show, importing.__doc__))
    _part(parts, "imports", imports.show, imports.__doc__)
    _part(parts, "starts", starts.show, starts.__doc__)
    picture.add_options(_part(parts, "picture", picture.show, picture.__doc__))
    deployment.add_options(_part(parts, "triggerer", deployment.show, deployment.__doc__))
    _part(parts, "capacity", capacity.show, capacity.__doc__)
    _part(parts, "bars", bars.show, bars.__doc__, runs=RUNS)
    everything.add_options(_part(parts, "everything", everything.show, everything.__doc__, runs=RUNS))
    return parser


def _part(parts: Any, name: str, show: Show, about: str | None, *, runs: int = 1) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = parts.add_parser(
        name,
        help=(about or "").strip().splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = added.add_argument
    add("--providers", choices=("ours", "amazon", "both"), default="both", help="whose work is measured")
    add("--runs", type=int, default=runs, help="how often; medians are shown")
    add("--notebook", type=Path, help="a file that keeps figures, so that none is measured twice")
    added.set_defaults(show=show)
    return added


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
