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
from tests.benchmarks.deployment import measuring
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
        "triggers": ("Many waits at once, each for an execution of its own.", WAITING),
        "throttled": ("The same, while AWS throttles.", THROTTLED),
        "crowded": ("More executions than the account's quota allows to look at in time.", CROWDED),
        "sign-in": ("Many that sign in at once, while STS is slow.", SIGN_IN),
    }
    for name, (about, default) in waits.items():
        workload.add_options(_part(parts, name, triggers.show, about), default)
    importing.add_options(
        _part(
            parts,
            "list-import",
            importing.show,
            "ListImport, beside pipelines that are described one by one.",
        )
    )
    _part(parts, "imports", imports.show, "What importing the operators costs.")
    _part(parts, "starts", starts.show, "A start without a wait, in a fresh process and once more.")
    picture.add_options(
        _part(
            parts,
            "picture",
            picture.show,
            "The picture of what waiting costs against the number of executions.",
        )
    )
    measuring.add_options(
        _part(parts, "triggerer", measuring.show, "Waits in a real triggerer, on PostgreSQL.")
    )
    _part(parts, "capacity", capacity.show, "How many calls a second the endpoint serves.")
    _part(parts, "bars", bars.show, "What each piece of work may cost, and whether it is met.", runs=RUNS)
    everything.add_options(
        _part(parts, "everything", everything.show, "All but the real triggerer: some hours.", runs=RUNS)
    )
    return parser


def _part(parts: Any, name: str, show: Show, about: str, *, runs: int = 1) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = parts.add_parser(
        name,
        help=about,
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
