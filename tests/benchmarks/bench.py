"""Owns what every part of the benchmarks has: endpoint, providers, number of runs, figures that are known."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.endpoint.running import RunningEndpoint
from tests.benchmarks.notebook import Notebook
from tests.benchmarks.providers import Provider


@dataclass(frozen=True)
class Bench:
    """
    A place to measure at.

    :param endpoint: what stands in for AWS.
    :param providers: whose work is measured, in turn.
    :param runs: how often; medians are shown.
    :param notebook: what was measured.
    """

    endpoint: RunningEndpoint
    providers: Sequence[Provider]
    runs: int
    notebook: Notebook

    def say(self, text: str) -> None:
        """Tell a person what goes on, beside the tables."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
