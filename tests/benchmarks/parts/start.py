"""
Benchmark of starting an execution: ``execute`` without waiting, in a fresh process and
again in that process.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any, Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.endpoint.account import REGION
from tests.benchmarks.measure import fresh_process
from tests.benchmarks.providers import AMAZON, OURS
from tests.benchmarks.results_cache import Metrics, median
from tests.benchmarks.tables import compare

TIMEOUT: Final = 120.0
LATENCY: Final = 0.02
_COMMON: Final = {
    "task_id": "start",
    "region_name": REGION,
    "wait_for_completion": False,
}
OPERATORS: Final = {
    OURS.name: "polysync_airflow.operators.PolysyncStartPipelineOperator",
    AMAZON.name: "airflow.providers.amazon.aws.operators.sagemaker.SageMakerStartPipelineOperator",
}


def measure(credentials: str, context: BenchmarkContext) -> dict[str, Metrics]:
    """
    Start executions with each provider, as many times as requested; return the medians
    by provider.

    :param credentials: ``key`` or ``role``.
    :param context: the benchmark context.
    """
    runs: dict[str, list[Metrics]] = {name: [] for name in OPERATORS}
    for number in range(context.runs):
        for name, metrics in runs.items():
            key = ("start", name, credentials, number)
            metrics.append(
                context.cache.get(key, partial(_run, name, credentials, context))
            )
    return {name: median(metrics) for name, metrics in runs.items()}


def _run(name: str, credentials: str, context: BenchmarkContext) -> Metrics:
    context.endpoint.reset(latency=LATENCY)
    (pipeline,) = context.endpoint.add_pipelines(1)
    operator = (OPERATORS[name], {**_COMMON, "pipeline_name": pipeline})
    first, second = fresh_process.measure(
        "tests.benchmarks.measure.worker_process",
        ["airflow.sdk"],
        env=context.endpoint.connections(credentials),
        task=lambda: {"operators": [operator, operator]},
        timeout=TIMEOUT,
    )
    return Metrics(
        {
            "fresh process: import, CPU, s": first["import"]["cpu"],
            "fresh process: execute, CPU, s": first["execute"]["cpu"],
            "fresh process: both, CPU, s": first["import"]["cpu"]
            + first["execute"]["cpu"],
            "fresh process: both, wall time, s": first["import"]["wall"]
            + first["execute"]["wall"],
            "same process again: execute, CPU, s": second["execute"]["cpu"],
            "same process again: execute, wall time, s": second["execute"]["wall"],
            "peak memory of the process, MiB": second["peak"] / 2**20,
            **_calls(context),
        }
    )


def _calls(context: BenchmarkContext) -> dict[str, Any]:
    calls = context.endpoint.statistics().calls
    return {"calls of SageMaker and STS per start": sum(calls.values()) / 2}


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure starts with an access key and with a role, and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    for credentials, method in {"key": "access key", "role": "assumed role"}.items():
        title = (
            f"Start without waiting, {method}, AWS responds after {1000 * LATENCY:g} ms"
        )
        print(f"\n### {title}\n\n{compare(measure(credentials, context))}", flush=True)
