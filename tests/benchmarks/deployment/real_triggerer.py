"""
Measures a real triggerer with the triggers of each provider, and with triggers that
only sleep.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.deployment.statsd_server import StatsdServer
from tests.benchmarks.deployment.triggerer_deployment import (
    POLL_INTERVAL,
    SLEEP_TRIGGER,
    TRIGGERER,
    TriggererDeployment,
    triggerer_deployment,
)
from tests.benchmarks.endpoint.endpoint_process import StartedExecution
from tests.benchmarks.providers import Provider
from tests.benchmarks.results_cache import Metrics, median
from tests.benchmarks.tables import compare
from tests.benchmarks.workload import Workload
from tests.system.process.sessions import wait_until

AIRFLOW_ALONE: Final = "Airflow alone"
CPU: Final = "CPU of the triggerer, s"
MEMORY: Final = "peak memory above the start, MiB"
PASSES: Final = "passes of the loop of Airflow's supervisor"
# Executions start this many seconds before their tasks are deferred.
HEAD_START: Final = 15.0
# Seconds in which Airflow must defer all tasks and assign the triggers to the
# triggerer.
LEAD: Final = 40.0
ENDS_PER_SECOND: Final = 100.0


@dataclass(frozen=True)
class TriggerKind:
    """
    A kind of trigger to measure.

    :param trigger: returns class path and arguments of a trigger, for an execution and
        the execution's end.
    :param modules: modules to import before the measurement.
    """

    trigger: Callable[[StartedExecution, float], tuple[str, dict[str, Any]]]
    modules: Sequence[str] = ()


def run(
    kind: TriggerKind,
    options: argparse.Namespace,
    deployment: TriggererDeployment,
    context: BenchmarkContext,
) -> Metrics:
    """
    Let the triggerer wait for executions, once.

    :param kind: the kind of trigger.
    :param options: the parsed command line.
    :param deployment: the Airflow deployment.
    :param context: the benchmark context.
    """
    with StatsdServer() as server:
        return _run(kind, options, deployment, context, server)


def _run(
    kind: TriggerKind,
    options: argparse.Namespace,
    deployment: TriggererDeployment,
    context: BenchmarkContext,
    server: StatsdServer,
) -> Metrics:
    context.endpoint.reset(latency=options.latency)
    deployment.store_connections(context.endpoint.connections(options.credentials))
    deployment.start_triggerers({TRIGGERER: server.settings}, kind.modules)
    passes_before = server.passes
    cpu_before, memory_before = deployment.usage()
    start = time.time()
    seconds = HEAD_START + LEAD + options.seconds
    executions = context.endpoint.start(
        options.executions,
        options.pipelines,
        start=start - HEAD_START,
        per_second=ENDS_PER_SECOND,
        seconds=seconds,
    )
    deployment.defer(
        [kind.trigger(execution, execution.start + seconds) for execution in executions]
    )
    last_end = executions[-1].start + seconds
    timeout = last_end - time.time() + options.grace
    wait_until(
        lambda: not deployment.deferred(), timeout=timeout, interval=POLL_INTERVAL
    )
    end = time.time()
    cpu, memory = deployment.usage()
    statistics = context.endpoint.statistics()
    return Metrics(
        {
            CPU: cpu - cpu_before,
            MEMORY: memory - memory_before,
            PASSES: server.passes - passes_before,
            "connections to AWS, open at once": statistics.peak_connections,
            "calls per execution": sum(statistics.calls.values()) / options.executions,
            "delay from the last execution's end until no task is deferred, s": end
            - last_end,
            "tasks still deferred": deployment.deferred(),
            "wall time, s": end - start,
        }
    )


def _sleep_trigger(
    execution: StartedExecution, end: float
) -> tuple[str, dict[str, Any]]:
    return SLEEP_TRIGGER, {"until": end}


def _provider_trigger(
    provider: Provider, work: Workload, execution: StartedExecution, end: float
) -> tuple[str, dict[str, Any]]:
    return provider.trigger, provider.trigger_arguments(execution, work)


def _without_airflow(airflow: Metrics, metrics: Metrics) -> Metrics:
    """Add the costs of Airflow itself, and the costs without them."""
    values: dict[str, float] = {}
    for name in (CPU, MEMORY, PASSES):
        alone, total = airflow.values[name], metrics.values[name]
        values |= {
            name: total,
            f"{name}: Airflow alone": alone,
            f"{name}: added by the triggers": total - alone,
        }
    return Metrics({**values, **metrics.values}, metrics.note, metrics.measured_at)


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of this part.

    :param parser: the parser of this part.
    """
    add = parser.add_argument
    add("--executions", type=int, default=1000, help="number of executions")
    add("--pipelines", type=int, default=20, help="number of pipelines")
    add(
        "--credentials",
        choices=("key", "role"),
        default="key",
        help="authentication of the connection",
    )
    add(
        "--seconds",
        type=float,
        default=60.0,
        help="seconds that executions last after all are deferred",
    )
    add(
        "--poll",
        type=float,
        default=5.0,
        help="seconds between two polls of the same execution",
    )
    add(
        "--progress",
        type=float,
        help="seconds between two lists of an execution's steps; by default none",
    )
    add(
        "--max-cost",
        type=float,
        help="what each of our tasks may spend, with --progress; by default no limit",
    )
    add(
        "--job-logs",
        action="store_true",
        help="let our tasks write the lines of running jobs, with --progress",
    )
    add("--latency", type=float, default=0.02, help="seconds until AWS responds")
    add(
        "--grace",
        type=float,
        default=120.0,
        help="seconds to wait after the end of the last execution",
    )


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure the triggerer with each kind of trigger, and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    work = Workload(
        poll_interval=options.poll,
        progress_interval=options.progress,
        max_cost=options.max_cost,
        job_logs=options.job_logs,
    )
    kinds = {AIRFLOW_ALONE: TriggerKind(_sleep_trigger)}
    for provider in context.providers:
        modules = (provider.trigger.rpartition(".")[0], *provider.modules)
        kinds[provider.name] = TriggerKind(
            partial(_provider_trigger, provider, work), modules
        )
    runs: dict[str, list[Metrics]] = {name: [] for name in kinds}
    with triggerer_deployment() as deployment:
        for number in range(context.runs):
            for name, kind in kinds.items():
                context.log(
                    f"{name}, run {number + 1} of {context.runs}, in a real triggerer"
                )
                key = ("triggerer", name, _description(options), number)
                runs[name].append(
                    context.cache.get(
                        key, partial(run, kind, options, deployment, context)
                    )
                )
    results = {name: median(metrics) for name, metrics in runs.items()}
    airflow = results.pop(AIRFLOW_ALONE)
    shown = {
        name: _without_airflow(airflow, metrics) for name, metrics in results.items()
    }
    print(
        f"\n### In a real triggerer: {_description(options)}\n\n{compare(shown)}",
        flush=True,
    )


def _description(options: argparse.Namespace) -> str:
    names = (
        "executions",
        "pipelines",
        "credentials",
        "seconds",
        "poll",
        "progress",
        "max_cost",
        "job_logs",
        "latency",
    )
    return ", ".join(f"{name} {getattr(options, name)}" for name in names)
