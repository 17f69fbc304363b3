"""
Measures several real triggerers that share the waits of one deployment: the passes of
Airflow's loop, CPU, memory, calls of AWS, and what is left at the end.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.deployment.patched_airflow import patched_airflow
from tests.benchmarks.deployment.real_triggerer import ENDS_PER_SECOND, HEAD_START
from tests.benchmarks.deployment.statsd_server import StatsdServer
from tests.benchmarks.deployment.triggerer_deployment import (
    RUNNER,
    SUPERVISOR,
    TRIGGERER,
    TriggererDeployment,
    triggerer_deployment,
)
from tests.benchmarks.endpoint.endpoint_process import EndpointStatistics
from tests.benchmarks.providers import OURS
from tests.benchmarks.results_cache import Metrics, median
from tests.benchmarks.tables import compare
from tests.benchmarks.workload import Workload

# Seconds in which Airflow must defer a thousand tasks, and the triggerers begin their
# waits.
LEAD_PER_THOUSAND: Final = 60.0
# Between two looks at the database.
SAMPLE_INTERVAL: Final = 2.0
OPERATIONS: Final = (
    "ListPipelineExecutions",
    "DescribePipelineExecution",
    "ListPipelineExecutionSteps",
)
# As ``polysync check`` and Airflow's own health check see them.
_HEARTBEATS: Final = (
    "SELECT extract(epoch FROM now() - min(latest_heartbeat)) FROM job"
    " WHERE job_type = 'TriggererJob' AND end_date IS NULL"
)
_TRIGGERS: Final = "SELECT count(*) FROM trigger"


@dataclass(frozen=True)
class Reading:
    """
    What was counted until a time.

    :param at: the time (Unix time).
    :param passes: passes of the loops of all triggerers.
    :param cpu: CPU seconds of all triggerers, by the kind of the process.
    :param memory: peak memory (MiB) of all triggerers, by the kind of the process.
    """

    at: float
    passes: int
    cpu: Mapping[str, float]
    memory: Mapping[str, float]
    statistics: EndpointStatistics


class Triggerers:
    """
    The triggerers of one run.

    :param servers: what receives the metrics of each, by its name.
    """

    def __init__(
        self,
        deployment: TriggererDeployment,
        context: BenchmarkContext,
        servers: Mapping[str, StatsdServer],
    ) -> None:
        self._deployment, self._context = deployment, context
        self._servers = servers
        self.oldest_heartbeat = 0.0

    def read(self) -> Reading:
        """Read all counters."""
        cpu, memory = {SUPERVISOR: 0.0, RUNNER: 0.0}, {SUPERVISOR: 0.0, RUNNER: 0.0}
        for name in self._servers:
            for kind, usage in self._deployment.usage_of(name).items():
                cpu[kind] += usage.cpu
                memory[kind] += usage.memory
        passes = sum(server.passes for server in self._servers.values())
        statistics = self._context.endpoint.statistics()
        return Reading(time.time(), passes, cpu, memory, statistics)

    def watch(self, until: float) -> None:
        """Look at the heartbeats until a time, or until no task is deferred."""
        while time.time() < until and self._deployment.deferred():
            ((age,),) = self._deployment.query(_HEARTBEATS)
            self.oldest_heartbeat = max(self.oldest_heartbeat, float(age))
            time.sleep(min(SAMPLE_INTERVAL, max(0.0, until - time.time())))

    def highest(self) -> dict[str, float]:
        """Return the highest value of each gauge of the provider."""
        values: dict[str, float] = {}
        for server in self._servers.values():
            for gauge, value in server.highest.items():
                # Without the values of the tags.
                name = ".".join(gauge.split(".")[:3])
                values[name] = max(value, values.get(name, 0.0))
        return values


def run(
    count: int,
    options: argparse.Namespace,
    deployment: TriggererDeployment,
    context: BenchmarkContext,
) -> Metrics:
    """
    Let triggerers wait for executions, once.

    :param count: the number of triggerers.
    :param options: the parsed command line.
    """
    with ExitStack() as stack:
        servers = {
            f"{TRIGGERER}-{number + 1}": stack.enter_context(StatsdServer())
            for number in range(count)
        }
        python_path = None
        if options.patch:
            python_path = stack.enter_context(patched_airflow(options.patch))
        settings = {
            name: _settings(server, count, options, python_path)
            for name, server in servers.items()
        }
        context.endpoint.reset(latency=options.latency)
        deployment.store_connections(context.endpoint.connections("key"))
        modules = (OURS.trigger.rpartition(".")[0], *OURS.modules)
        deployment.start_triggerers(settings, modules)
        triggerers = Triggerers(deployment, context, servers)
        return _measure(triggerers, options, deployment, context)


def _settings(
    server: StatsdServer,
    count: int,
    options: argparse.Namespace,
    python_path: Path | None,
) -> dict[str, str]:
    # The first triggerer that asks takes as many triggers as it may run.
    capacity = math.ceil(options.executions / count)
    settings = {**server.settings, "AIRFLOW__TRIGGERER__CAPACITY": str(capacity)}
    if python_path:
        settings["PYTHONPATH"] = f"{python_path}:{Path(__file__).parents[3]}"
    return settings


def _measure(
    triggerers: Triggerers,
    options: argparse.Namespace,
    deployment: TriggererDeployment,
    context: BenchmarkContext,
) -> Metrics:
    lead = LEAD_PER_THOUSAND * math.ceil(options.executions / 1000)
    start = time.time()
    seconds = HEAD_START + lead + options.seconds
    executions = context.endpoint.start(
        options.executions,
        options.pipelines,
        start=start - HEAD_START,
        per_second=ENDS_PER_SECOND,
        seconds=seconds,
    )
    work = Workload(poll_interval=options.poll, progress_interval=options.progress)
    before = triggerers.read()
    deployment.defer(
        [
            (OURS.trigger, OURS.trigger_arguments(execution, work))
            for execution in executions
        ]
    )
    deferred_after = time.time() - start
    triggerers.watch(start + lead)
    waiting = triggerers.read()
    triggerers.watch(executions[0].start + seconds)
    ending = triggerers.read()
    last_end = executions[-1].start + seconds
    triggerers.watch(last_end + options.grace)
    after = triggerers.read()
    left = deployment.deferred()
    ((triggers,),) = deployment.query(_TRIGGERS)
    values = {
        "seconds until all tasks were deferred": deferred_after,
        **_of_phase("all", before, after),
        **_of_phase("while all wait", waiting, ending),
        "peak memory of a supervisor, MiB": after.memory[SUPERVISOR],
        "peak memory of a runner, MiB": after.memory[RUNNER],
        "calls per execution": _calls(before, after) / options.executions,
        "ends seen": options.executions - left,
        "tasks still deferred": left,
        "triggers left": triggers,
        "from the last end until no task is deferred, s": after.at - last_end,
        "oldest heartbeat, s": triggerers.oldest_heartbeat,
        **{f"highest {name}": value for name, value in triggerers.highest().items()},
    }
    return Metrics(values)


def _of_phase(phase: str, before: Reading, after: Reading) -> dict[str, float]:
    seconds = after.at - before.at
    passes = after.passes - before.passes
    supervisor = after.cpu[SUPERVISOR] - before.cpu[SUPERVISOR]
    runner = after.cpu[RUNNER] - before.cpu[RUNNER]
    calls = {
        operation: after.statistics.calls.get(operation, 0)
        - before.statistics.calls.get(operation, 0)
        for operation in OPERATIONS
    }
    return {
        f"{phase}: seconds": seconds,
        f"{phase}: passes": passes,
        f"{phase}: CPU of the supervisors, s": supervisor,
        f"{phase}: CPU of the supervisors per pass, ms": 1000
        * supervisor
        / max(passes, 1),
        f"{phase}: CPU of the runners, s": runner,
        f"{phase}: calls a second": _calls(before, after) / seconds,
        **{
            f"{phase}: {operation} a second": number / seconds
            for operation, number in calls.items()
        },
    }


def _calls(before: Reading, after: Reading) -> int:
    return sum(after.statistics.calls.values()) - sum(before.statistics.calls.values())


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of this part.

    :param parser: the parser of this part.
    """
    add = parser.add_argument
    add(
        "--triggerers",
        type=int,
        nargs="+",
        default=[2, 4],
        help="numbers of triggerers, one run for each",
    )
    add("--executions", type=int, default=4000, help="executions, of all triggerers")
    add("--pipelines", type=int, default=20, help="number of pipelines")
    add(
        "--seconds",
        type=float,
        default=60.0,
        help="seconds that executions last after all are deferred",
    )
    add("--poll", type=float, default=30.0, help="seconds between two polls of a wait")
    add(
        "--progress",
        type=float,
        default=60.0,
        help="seconds between two lists of an execution's steps",
    )
    add("--latency", type=float, default=0.02, help="seconds until AWS responds")
    add(
        "--grace",
        type=float,
        default=120.0,
        help="seconds to wait after the end of the last execution",
    )
    add("--patch", type=Path, help="a patch of Airflow's triggerer to measure")


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure each number of triggerers, and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    columns: dict[str, Metrics] = {}
    print(f"\n### {_description(options)}", flush=True)
    with triggerer_deployment() as deployment:
        for count in options.triggerers:
            runs = [
                _cached(count, number, options, deployment, context)
                for number in range(context.runs)
            ]
            columns[f"{count} triggerers"] = median(runs)
            # At once: the next run may take minutes, or fail.
            print(f"\n{compare(columns)}", flush=True)


def _cached(
    count: int,
    number: int,
    options: argparse.Namespace,
    deployment: TriggererDeployment,
    context: BenchmarkContext,
) -> Metrics:
    context.log(f"{count} triggerers, run {number + 1} of {context.runs}")
    key: Any = ("triggerers", count, _description(options), number)
    measure = partial(run, count, options, deployment, context)
    return context.cache.get(key, measure)


def _description(options: argparse.Namespace) -> str:
    names = ("executions", "pipelines", "seconds", "poll", "progress", "latency")
    described = ", ".join(f"{name} {getattr(options, name)}" for name in names)
    patch = f", with {options.patch.name}" if options.patch else ""
    return f"Several triggerers: {described}{patch}"
