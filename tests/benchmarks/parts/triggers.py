"""
Benchmark of the triggers: many triggers in one event loop, each waiting for one
execution.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.endpoint.endpoint_process import (
    EndpointStatistics,
    StartedExecution,
)
from tests.benchmarks.measure import fresh_process
from tests.benchmarks.measure.event_loop_lag import percentile
from tests.benchmarks.measure.triggerer_process import Measurement
from tests.benchmarks.providers import Provider
from tests.benchmarks.results_cache import Metrics, median
from tests.benchmarks.tables import aligned, as_text, compare
from tests.benchmarks.workload import Workload, workloads

# Names of metrics that other modules use.
CPU: Final = "CPU, s"
CPU_EACH: Final = "CPU per execution, ms"
MEMORY: Final = "peak memory above the start, MiB"
PEAK_CONNECTIONS: Final = "connections to AWS, open at once"
CALLS_EACH: Final = "calls per execution"
STALL: Final = "event loop: longest stall, ms"
DETECTION: Final = "delay from an execution's end to its event, p99, s"
GAP_MEDIAN: Final = "longest time between polls, median execution, s"
GAP_LONGEST: Final = "longest time between polls, worst execution, s"
NEVER_POLLED: Final = "executions that were never polled"
FAILED: Final = "failed tasks"
UNFINISHED: Final = "tasks not finished in time"
STS_CALLS: Final = "calls of AssumeRole"
OPERATIONS: Final = (
    "DescribePipelineExecution",
    "ListPipelineExecutions",
    "ListPipelineExecutionSteps",
    "DescribeProcessingJob",
    "GetLogEvents",
    "AssumeRole",
)

# Seconds until the first trigger starts. The process first reads thousands of arguments
# and calibrates its probe.
LEAD: Final = 5.0
# Seconds after the time limit, for a process whose event loop is stalled.
GRACE: Final = 60.0


@dataclass(frozen=True)
class Result:
    """
    The result of one run.

    :param provider: the provider whose triggers ran.
    :param started: the executions.
    :param measurement: what the process with the triggers measured.
    :param statistics: what the AWS test server counted.
    """

    provider: Provider
    started: Sequence[StartedExecution]
    measurement: Measurement
    statistics: EndpointStatistics

    def metrics(self) -> Metrics:
        """Return all metrics."""
        count, measurement, server = (
            len(self.started),
            self.measurement,
            self.statistics,
        )
        calls = Counter(server.calls)
        values = {
            CPU: measurement.cpu,
            CPU_EACH: 1000 * measurement.cpu / count,
            MEMORY: measurement.memory / 2**20,
            PEAK_CONNECTIONS: server.peak_connections,
            "connections to AWS, opened": server.connections,
            **{f"calls of {operation}": calls[operation] for operation in OPERATIONS},
            "throttled calls": sum(server.throttled.values()),
            CALLS_EACH: calls.total() / count,
            STALL: 1000 * measurement.stall,
            "event loop: lag, p99, ms": 1000 * measurement.lag,
            **self._delays(),
            FAILED: len(measurement.errors) + len(self._wrong_statuses),
            UNFINISHED: count - len(measurement.events) - len(measurement.errors),
            "wall time, s": measurement.wall,
        }
        return Metrics(values, self._note)

    def _delays(self) -> dict[str, float]:
        executions = [
            self.statistics.executions[execution.arn] for execution in self.started
        ]
        ends = [
            each.start if self.provider.waits_for_start else each.end
            for each in executions
        ]
        detection = [at - ends[index] for index, at, _ in self.measurement.events]
        gaps = [
            execution.longest_gap
            for execution in executions
            if execution.first_poll is not None
        ]
        first_polls = [
            each.first_poll - each.start
            for each in executions
            if each.first_poll is not None
        ]
        return {
            "delay from an execution's end to its event, p50, s": percentile(
                detection, 50
            ),
            DETECTION: percentile(detection, 99),
            "delay from an execution's start to its first poll, longest, s": max(
                first_polls, default=0.0
            ),
            NEVER_POLLED: len(executions) - len(first_polls),
            GAP_MEDIAN: statistics.median(gaps) if gaps else 0.0,
            GAP_LONGEST: max(gaps, default=0.0),
        }

    @property
    def _wrong_statuses(self) -> Sequence[str]:
        return [
            status
            for _, _, status in self.measurement.events
            if status != self.provider.success
        ]

    @property
    def _note(self) -> str | None:
        cancelled = (
            [f"cancelled: {self.measurement.cancelled}"]
            if self.measurement.cancelled
            else []
        )
        failures = [
            *(error for _, error in self.measurement.errors),
            *self._wrong_statuses,
        ][:1]
        return (
            "; ".join(
                [*cancelled, *(f"first failure: {failure}" for failure in failures)]
            )
            or None
        )


def run(provider: Provider, work: Workload, context: BenchmarkContext) -> Metrics:
    """
    Run a provider's triggers in a fresh process, once.

    :param provider: the provider.
    :param work: the workload.
    :param context: the benchmark context.
    """
    context.endpoint.reset(
        quota=work.quota, latency=work.latency, sts_latency=work.sts_latency
    )
    started: list[StartedExecution] = []
    # How long the triggers run before the executions start.
    ahead = work.seconds if provider.waits_for_start else 0.0

    def task() -> dict[str, Any]:
        started.extend(
            context.endpoint.start(
                work.executions,
                work.pipelines,
                start=time.time() + LEAD + ahead,
                per_second=work.starts_per_second,
                seconds=work.seconds,
            )
        )
        return {
            "triggers": [
                (execution.start - ahead, provider.trigger_arguments(execution, work))
                for execution in started
            ],
            "time_limit": work.time_limit,
            "memory_limit": int(work.memory_limit * 2**30),
        }

    measurement = fresh_process.measure(
        "tests.benchmarks.measure.triggerer_process",
        [provider.trigger, *provider.modules],
        env=context.endpoint.connections(work.credentials),
        task=task,
        timeout=LEAD + work.time_limit + GRACE,
    )
    result = Result(
        provider, started, Measurement(**measurement), context.endpoint.statistics()
    )
    return result.metrics()


def measure(work: Workload, context: BenchmarkContext) -> dict[str, Metrics]:
    """
    Run the triggers of every provider, as many times as requested; return the medians
    by provider.

    :param work: the workload.
    :param context: the benchmark context.
    """
    runs: dict[str, list[Metrics]] = {
        provider.name: [] for provider in context.providers
    }
    for number in range(context.runs):
        for provider in context.providers:
            context.log(f"{provider.name}, run {number + 1} of {context.runs}: {work}")
            key = ("triggers", provider.name, work, number)
            metrics = context.cache.get(key, partial(run, provider, work, context))
            runs[provider.name].append(metrics)
    return {name: median(metrics) for name, metrics in runs.items()}


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure the workloads that the command line describes, and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    show_all(workloads(options), context)


def show_all(works: Sequence[Workload], context: BenchmarkContext) -> None:
    """
    Measure several workloads; print one table per workload, and a summary if there are
    several.

    :param works: the workloads.
    :param context: the benchmark context.
    """
    results = {work: _shown(work, context) for work in works}
    if len(results) > 1:
        show_summary(results)


def _shown(work: Workload, context: BenchmarkContext) -> dict[str, Metrics]:
    metrics = measure(work, context)
    print(f"\n### {work}\n\n{compare(metrics)}", flush=True)
    return metrics


def show_summary(results: Mapping[Workload, Mapping[str, Metrics]]) -> None:
    """
    Print the most important metrics of several workloads, with one line per workload
    and provider.

    :param results: metrics by workload and provider.
    """
    names = (
        CPU,
        MEMORY,
        PEAK_CONNECTIONS,
        CALLS_EACH,
        STALL,
        DETECTION,
        FAILED,
        UNFINISHED,
    )
    lines = [
        ["executions", "pipelines", "credentials", "provider", *names],
        [*["---:"] * 2, "---", "---", *["---:"] * 8],
    ]
    for work, providers in results.items():
        for name, metrics in providers.items():
            cells = [as_text(metrics.values[each]) for each in names]
            mark = "*" if metrics.note else ""
            lines.append(
                [
                    f"{work.executions:,}",
                    f"{work.pipelines:,}",
                    work.credentials,
                    name + mark,
                    *cells,
                ]
            )
    print(
        f"\n### Summary (* with failures, or cancelled before the end)\n\n{chr(10).join(aligned(lines))}",
        flush=True,
    )
