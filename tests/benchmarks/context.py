"""
What all parts of the benchmarks share: the AWS test server, the providers, the number
of runs, the cache.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.endpoint.endpoint_process import EndpointProcess
from tests.benchmarks.providers import Provider
from tests.benchmarks.results_cache import ResultsCache


@dataclass(frozen=True)
class BenchmarkContext:
    """
    What every part of the benchmarks needs.

    :param endpoint: the AWS test server.
    :param providers: the providers to measure, one after the other.
    :param runs: number of runs; the medians are shown.
    :param cache: results that were measured before.
    """

    endpoint: EndpointProcess
    providers: Sequence[Provider]
    runs: int
    cache: ResultsCache

    def log(self, text: str) -> None:
        """
        Print a progress message to standard error, because the tables go to standard
        output.
        """
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
