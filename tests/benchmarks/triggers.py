"""Owns the benchmark of waiting: many triggers, each for an execution of its own, in one event loop."""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.benchmarks import process
from tests.benchmarks.bench import Bench
from tests.benchmarks.endpoint.running import Seen, Started
from tests.benchmarks.lag import percentile
from tests.benchmarks.notebook import Figures, median
from tests.benchmarks.providers import Provider
from tests.benchmarks.tables import aligned, as_text, compare
from tests.benchmarks.triggerer import Measured
from tests.benchmarks.workload import Workload, workloads

# Names of figures that other parts look up.
CPU: Final = "CPU, s"
CPU_EACH: Final = "CPU per execution, ms"
MEMORY: Final = "peak memory above the start, MiB"
PEAK_CONNECTIONS: Final = "connections to AWS, open at once"
CALLS_EACH: Final = "calls per execution"
STALL: Final = "event loop: longest stall, ms"
DETECTION: Final = "from an execution's end to its event, p99, s"
GAP_MEDIAN: Final = "longest time without a look, median execution, s"
GAP_MOST: Final = "longest time without a look, worst execution, s"
UNSEEN: Final = "executions that were never looked at"
FAILED: Final = "failed tasks"
UNDONE: Final = "tasks that were not done in time"
STS_CALLS: Final = "calls of AssumeRole"
OPERATIONS: Final = (
    "DescribePipelineExecution",
    "ListPipelineExecutions",
    "ListPipelineExecutionSteps",
    "AssumeRole",
)

# Seconds until the first trigger starts: thousands of arguments have to be read before, the probe calibrated.
LEAD: Final = 5.0
# Beyond the limit, for a process that its triggers hold up.
GRACE: Final = 60.0


@dataclass(frozen=True)
class Outcome:
    """
    What came of a provider's triggers.

    :param provider: whose.
    :param started: their executions.
    :param measured: what their process saw.
    :param seen: what the endpoint saw.
    """

    provider: Provider
    started: Sequence[Started]
    measured: Measured
    seen: Seen

    def figures(self) -> Figures:
        """Return all figures."""
        count, measured, seen = len(self.started), self.measured, self.seen
        calls = Counter(seen.calls)
        values = {
            CPU: measured.cpu,
            CPU_EACH: 1000 * measured.cpu / count,
            MEMORY: measured.memory / 2**20,
            PEAK_CONNECTIONS: seen.peak_connections,
            "connections to AWS, opened": seen.connections,
            **{f"calls of {operation}": calls[operation] for operation in OPERATIONS},
            "calls that were throttled": sum(seen.throttled.values()),
            CALLS_EACH: calls.total() / count,
            STALL: 1000 * measured.stall,
            "event loop: lag, p99, ms": 1000 * measured.lag,
            **self._delays(),
            FAILED: len(measured.errors) + len(self._bad),
            UNDONE: count - len(measured.fired) - len(measured.errors),
            "wall time, s": measured.wall,
        }
        return Figures(values, self._note)

    def _delays(self) -> dict[str, float]:
        looked = [self.seen.executions[execution.arn] for execution in self.started]
        ends = [execution.ends for execution in looked]
        detected = [at - ends[number] for number, at, _ in self.measured.fired]
        gaps = [execution.longest_gap for execution in looked if execution.first_poll is not None]
        first = [each.first_poll - each.begins for each in looked if each.first_poll is not None]
        return {
            "from an execution's end to its event, p50, s": percentile(detected, 50),
            DETECTION: percentile(detected, 99),
            "from an execution's beginning to its first look, longest, s": max(first, default=0.0),
            UNSEEN: len(looked) - len(first),
            GAP_MEDIAN: statistics.median(gaps) if gaps else 0.0,
            GAP_MOST: max(gaps, default=0.0),
        }

    @property
    def _bad(self) -> Sequence[str]:
        return [status for _, _, status in self.measured.fired if status != self.provider.success]

    @property
    def _note(self) -> str | None:
        cut = [f"stopped, as {self.measured.cut}"] if self.measured.cut else []
        failed = [*(error for _, error in self.measured.errors), *self._bad][:1]
        return "; ".join([*cut, *(f"first failure: {failure}" for failure in failed)]) or None


def run(provider: Provider, work: Workload, bench: Bench) -> Figures:
    """
    Run a provider's triggers in a fresh process, once.

    :param provider: whose triggers.
    :param work: what they wait for.
    :param bench: where.
    """
    bench.endpoint.reset(quota=work.quota, latency=work.latency, sts_latency=work.sts_latency)
    started: list[Started] = []

    def orders() -> dict[str, Any]:
        started.extend(
            bench.endpoint.start(
                work.executions,
                work.pipelines,
                begin=time.time() + LEAD,
                per_second=work.per_second,
                seconds=work.seconds,
            )
        )
        triggers = [(execution.begins, provider.arguments(execution, work.poll)) for execution in started]
        return {"triggers": triggers, "limit": work.limit, "memory": int(work.memory * 2**30)}

    found = process.measure(
        "tests.benchmarks.triggerer",
        [provider.trigger, *provider.modules],
        env=bench.endpoint.connections(work.credentials),
        orders=orders,
        timeout=LEAD + work.limit + GRACE,
    )
    return Outcome(provider, started, Measured(**found), bench.endpoint.seen()).figures()


def measure(work: Workload, bench: Bench) -> dict[str, Figures]:
    """
    Run every provider's triggers in turn, as often as was asked for; return the medians by provider.

    :param work: what they wait for.
    :param bench: where.
    """
    runs: dict[str, list[Figures]] = {provider.name: [] for provider in bench.providers}
    for number in range(bench.runs):
        for provider in bench.providers:
            bench.say(f"{provider.name}, run {number + 1} of {bench.runs}: {work}")
            name = ("triggers", provider.name, work, number)
            found = bench.notebook.figures(name, partial(run, provider, work, bench))
            runs[provider.name].append(found)
    return {name: median(figures) for name, figures in runs.items()}


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure and print what was asked for.

    :param options: the command line.
    :param bench: where.
    """
    show_all(workloads(options), bench)


def show_all(works: Sequence[Workload], bench: Bench) -> None:
    """
    Measure and print, one table for each workload, and one for all.

    :param works: what is waited for.
    :param bench: where.
    """
    found = {work: _shown(work, bench) for work in works}
    if len(found) > 1:
        show_together(found)


def _shown(work: Workload, bench: Bench) -> dict[str, Figures]:
    found = measure(work, bench)
    print(f"\n### {work}\n\n{compare(found)}", flush=True)
    return found


def show_together(found: Mapping[Workload, Mapping[str, Figures]]) -> None:
    """
    Print the most telling figures of several workloads, a line for each.

    :param found: figures by workload and provider.
    """
    names = (CPU, MEMORY, PEAK_CONNECTIONS, CALLS_EACH, STALL, DETECTION, FAILED, UNDONE)
    lines = [
        ["executions", "pipelines", "signs in by", "provider", *names],
        [*["---:"] * 2, "---", "---", *["---:"] * 8],
    ]
    for work, providers in found.items():
        for name, figures in providers.items():
            cells = [as_text(figures.values[each]) for each in names]
            cut = "*" if figures.note else ""
            lines.append(
                [f"{work.executions:,}", f"{work.pipelines:,}", work.credentials, name + cut, *cells]
            )
    print(
        f"\n### All together (* with failures, or stopped before the end)\n\n{chr(10).join(aligned(lines))}",
        flush=True,
    )
