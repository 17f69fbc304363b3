"""Owns the benchmark of a start: the operators' ``execute`` without a wait, in a fresh process and once more."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any, Final

from tests.benchmarks import process
from tests.benchmarks.bench import Bench
from tests.benchmarks.endpoint.account import REGION
from tests.benchmarks.notebook import Figures, median
from tests.benchmarks.providers import AMAZON, OURS
from tests.benchmarks.tables import compare

TIMEOUT: Final = 120.0
LATENCY: Final = 0.02
_COMMON: Final = {"task_id": "start", "region_name": REGION, "wait_for_completion": False}
OPERATORS: Final = {
    OURS.name: "polysync_airflow.operators.PolysyncStartPipelineOperator",
    AMAZON.name: "airflow.providers.amazon.aws.operators.sagemaker.SageMakerStartPipelineOperator",
}


def measure(credentials: str, bench: Bench) -> dict[str, Figures]:
    """
    Start with each provider in turn, as often as was asked for; return the medians by provider.

    :param credentials: ``key`` or ``role``.
    :param bench: where.
    """
    runs: dict[str, list[Figures]] = {name: [] for name in OPERATORS}
    for number in range(bench.runs):
        for name, found in runs.items():
            work = ("start", name, credentials, number)
            found.append(bench.notebook.figures(work, partial(_run, name, credentials, bench)))
    return {name: median(found) for name, found in runs.items()}


def _run(name: str, credentials: str, bench: Bench) -> Figures:
    bench.endpoint.reset(latency=LATENCY)
    (pipeline,) = bench.endpoint.add_pipelines(1)
    operator = (OPERATORS[name], {**_COMMON, "pipeline_name": pipeline})
    fresh, again = process.measure(
        "tests.benchmarks.worker",
        ["airflow.sdk"],
        env=bench.endpoint.connections(credentials),
        orders=lambda: {"operators": [operator, operator]},
        timeout=TIMEOUT,
    )
    return Figures(
        {
            "fresh process: import, CPU, s": fresh["import"]["cpu"],
            "fresh process: execute, CPU, s": fresh["execute"]["cpu"],
            "fresh process: both, CPU, s": fresh["import"]["cpu"] + fresh["execute"]["cpu"],
            "fresh process: both, wall time, s": fresh["import"]["wall"] + fresh["execute"]["wall"],
            "same process again: execute, CPU, s": again["execute"]["cpu"],
            "same process again: execute, wall time, s": again["execute"]["wall"],
            "peak memory of the process, MiB": again["peak"] / 2**20,
            **_calls(bench),
        }
    )


def _calls(bench: Bench) -> dict[str, Any]:
    calls = bench.endpoint.seen().calls
    return {"calls of SageMaker and STS, a start": sum(calls.values()) / 2}


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure and print.

    :param options: the command line.
    :param bench: where.
    """
    for credentials in ("key", "role"):
        way = {"key": "access key", "role": "assumed role"}[credentials]
        title = f"A Start that does not wait, {way}, AWS answers after {1000 * LATENCY:g} ms"
        print(f"\n### {title}\n\n{compare(measure(credentials, bench))}", flush=True)
