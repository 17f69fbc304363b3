"""Owns the whole of the benchmarks, one part after the other: some hours, best on a machine with nothing else to do."""

from __future__ import annotations

import argparse
from dataclasses import replace

from tests.benchmarks import bars, capacity, importing, imports, picture, starts, triggers
from tests.benchmarks.bench import Bench
from tests.benchmarks.works import CROWDED, MATRIX, SIGN_IN, THROTTLED


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options: those of the parts that have some.

    :param parser: the part's.
    """
    importing.add_options(parser)
    picture.add_options(parser)


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure and print.

    :param options: the command line.
    :param bench: where.
    :raises SystemExit: with status 1, if ours misses a bar.
    """
    capacity.show(options, bench)
    for part in (imports, starts, importing):
        part.show(options, bench)
    # Costs grow by so much between these that one run tells; the bars' are run more often below.
    once = replace(bench, runs=1)
    triggers.show_all([*MATRIX, THROTTLED, CROWDED, SIGN_IN], once)
    picture.show(options, once)
    bars.show(options, bench)
