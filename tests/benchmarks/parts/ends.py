"""Benchmark of the end of a task: ``execute_complete`` of a Start task."""

from __future__ import annotations

import argparse
import time
from typing import Any, Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.endpoint.account import REGION
from tests.benchmarks.endpoint.endpoint_process import StartedExecution
from tests.benchmarks.measure import fresh_process
from tests.benchmarks.parts.start import OPERATORS
from tests.benchmarks.providers import OURS
from tests.benchmarks.results_cache import Metrics, median
from tests.benchmarks.tables import compare

LATENCY: Final = 0.02
# The test server throttles at a quota; a process then waits for its rate limiter.
SECONDS_PER_EXECUTION: Final = 60.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of this part.

    :param parser: the parser of this part.
    """
    parser.add_argument(
        "--executions",
        type=int,
        default=1000,
        help="number of executions that have ended",
    )
    parser.add_argument(
        "--quota",
        type=float,
        default=0,
        help="SageMaker calls per second; 0 for no limit",
    )


def _run(executions: int, quota: float, context: BenchmarkContext) -> Metrics:
    context.endpoint.reset(latency=LATENCY, quota=quota)
    begin = time.time() - 120
    started = context.endpoint.start(
        executions, 20, start=begin, per_second=0, seconds=60
    )
    operators = [_operator(each, begin) for each in started]
    ends = fresh_process.measure(
        "tests.benchmarks.measure.worker_process",
        ["airflow.sdk", OPERATORS[OURS.name].rpartition(".")[0]],
        env=context.endpoint.connections("key"),
        task=lambda: {"operators": operators},
        timeout=SECONDS_PER_EXECUTION * executions,
    )
    statistics = context.endpoint.statistics()
    times = {name: [end["execute"][name] for end in ends] for name in ("cpu", "wall")}
    return Metrics(
        {
            "CPU of an end, s": sum(times["cpu"]) / executions,
            "time of an end, s": sum(times["wall"]) / executions,
            "longest end, s": max(times["wall"]),
            "API calls of an end": sum(statistics.calls.values()) / executions,
            "Describes of an end": statistics.calls.get("DescribeProcessingJob", 0)
            / executions,
            "throttled calls": sum(statistics.throttled.values()),
            "peak memory of the process, MiB": ends[-1]["peak"] / 2**20,
        }
    )


def _operator(started: StartedExecution, begin: float) -> tuple[str, Any, Any]:
    arguments = {
        "task_id": "train",
        "region_name": REGION,
        "pipeline_name": started.pipeline,
    }
    event = {
        "outcome": "ended",
        "execution_arn": started.arn,
        "pipeline_name": started.pipeline,
        "status": "Succeeded",
        "message": None,
        "started_at": begin,
        "ended_at": begin + 60,
    }
    return OPERATORS[OURS.name], arguments, event


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure ends of tasks, one after the other in one process, and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    runs: list[Metrics] = []
    for number in range(context.runs):
        context.log(f"run {number + 1}")
        runs.append(_run(options.executions, options.quota, context))
    title = f"Ends of {options.executions:,} executions of 20 steps, AWS responds after {1000 * LATENCY:g} ms"
    print(f"\n### {title}\n\n{compare({OURS.name: median(runs)})}", flush=True)
