"""
Measures real triggerers that share the waits of one deployment, with the triggers of
each provider, and with triggers that only sleep: the passes of Airflow's loop, CPU,
memory, calls of AWS, and what is left at the end.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.deployment.patched_airflow import patched_airflow
from tests.benchmarks.deployment.statsd_server import StatsdServer
from tests.benchmarks.deployment.triggerer_deployment import (
    RUNNER,
    SLEEP_TRIGGER,
    SUPERVISOR,
    TRIGGERER,
    TriggererDeployment,
    triggerer_deployment,
)
from tests.benchmarks.endpoint.endpoint_process import (
    EndpointStatistics,
    StartedExecution,
)
from tests.benchmarks.providers import Provider
from tests.benchmarks.results_cache import Metrics, median
from tests.benchmarks.tables import compare
from tests.benchmarks.workload import Workload

AIRFLOW_ALONE: Final = "Airflow alone"
PASSES: Final = "passes of the loops"
CPU: Final = "CPU, s"
MEMORY: Final = "peak memory above the start, MiB"
# Executions start this many seconds before their tasks are deferred.
HEAD_START: Final = 15.0
# Seconds in which Airflow must defer a thousand tasks, and the triggerers begin their
# waits.
LEAD_PER_THOUSAND: Final = 60.0
ENDS_PER_SECOND: Final = 100.0
# Between two looks at the database.
SAMPLE_INTERVAL: Final = 2.0
# As ``polysync check`` and Airflow's own health check see them.
_HEARTBEATS: Final = (
    "SELECT extract(epoch FROM now() - min(latest_heartbeat)) FROM job"
    " WHERE job_type = 'TriggererJob' AND end_date IS NULL"
)
_TRIGGERS: Final = "SELECT count(*) FROM trigger"


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

    @property
    def calls(self) -> int:
        """All calls of AWS."""
        return sum(self.statistics.calls.values())


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
    kind: TriggerKind,
    count: int,
    options: argparse.Namespace,
    deployment: TriggererDeployment,
    context: BenchmarkContext,
) -> Metrics:
    """
    Let triggerers wait for executions, once.

    :param kind: the kind of trigger.
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
        deployment.store_connections(context.endpoint.connections(options.credentials))
        deployment.start_triggerers(settings, kind.modules)
        triggerers = Triggerers(deployment, context, servers)
        return _measure(kind, triggerers, options, deployment, context)


def _settings(
    server: StatsdServer,
    count: int,
    options: argparse.Namespace,
    python_path: Path | None,
) -> dict[str, str]:
    # The first triggerer that asks takes as many triggers as it may run.
    capacity = math.ceil(options.executions / count)
    settings = {
        **server.settings,
        "AIRFLOW__TRIGGERER__CAPACITY": str(capacity),
        "AIRFLOW__POLYSYNC_SAGEMAKER__TRIGGERERS": str(count),
    }
    if python_path:
        settings["PYTHONPATH"] = f"{python_path}:{Path(__file__).parents[3]}"
    return settings


def _measure(
    kind: TriggerKind,
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
    before = triggerers.read()
    deployment.defer(
        [kind.trigger(execution, execution.start + seconds) for execution in executions]
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
        PASSES: after.passes - before.passes,
        CPU: sum(after.cpu.values()) - sum(before.cpu.values()),
        MEMORY: sum(after.memory.values()) - sum(before.memory.values()),
        "calls per execution": (after.calls - before.calls) / options.executions,
        "connections to AWS, open at once": after.statistics.peak_connections,
        "seconds until all tasks were deferred": deferred_after,
        **_of_phase("all", before, after),
        **_of_phase("while all wait", waiting, ending),
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
    return {
        f"{phase}: seconds": seconds,
        f"{phase}: passes": passes,
        f"{phase}: CPU of the supervisors, s": supervisor,
        f"{phase}: CPU of the supervisors per pass, ms": 1000
        * supervisor
        / max(passes, 1),
        f"{phase}: CPU of the runners, s": after.cpu[RUNNER] - before.cpu[RUNNER],
        f"{phase}: calls a second": (after.calls - before.calls) / seconds,
    }


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
    for name in (PASSES, CPU, MEMORY):
        alone, total = airflow.values[name], metrics.values[name]
        values |= {
            name: total,
            f"{name}: {AIRFLOW_ALONE}": alone,
            f"{name}: added by the triggers": total - alone,
        }
    return Metrics({**values, **metrics.values}, metrics.note, metrics.measured_at)


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
        default=[1],
        help="numbers of triggerers that share the executions, a table for each",
    )
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
        default=60.0,
        help="seconds between two lists of an execution's steps; 0 for none",
    )
    add(
        "--max-cost",
        type=float,
        help="what each of our tasks may spend; by default no limit",
    )
    add(
        "--job-logs",
        action="store_true",
        help="let our tasks write the lines of running jobs",
    )
    add("--latency", type=float, default=0.02, help="seconds until AWS responds")
    add(
        "--grace",
        type=float,
        default=120.0,
        help="seconds to wait after the end of the last execution",
    )
    add("--patch", type=Path, help="a patch of Airflow's triggerer to measure")
    add(
        "--no-airflow-alone",
        action="store_true",
        help="measure no triggers that only sleep",
    )


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure the triggerers with each kind of trigger, and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    kinds = _kinds(options, context)
    with triggerer_deployment() as deployment:
        for count in options.triggerers:
            results: dict[str, Metrics] = {}
            for name, kind in kinds.items():
                measure = partial(run, kind, count, options, deployment, context)
                results[name] = _runs(name, count, options, context, measure)
            airflow = results.pop(AIRFLOW_ALONE, None)
            if airflow:
                results = {
                    name: _without_airflow(airflow, metrics)
                    for name, metrics in results.items()
                }
            # At once: the next run may take minutes, or fail.
            print(
                f"\n### {count} real triggerers: {_description(options)}\n\n"
                f"{compare(results)}",
                flush=True,
            )


def _kinds(
    options: argparse.Namespace, context: BenchmarkContext
) -> dict[str, TriggerKind]:
    work = Workload(
        poll_interval=options.poll,
        progress_interval=options.progress or None,
        max_cost=options.max_cost,
        job_logs=options.job_logs,
    )
    kinds: dict[str, TriggerKind] = {}
    if not options.no_airflow_alone:
        kinds[AIRFLOW_ALONE] = TriggerKind(_sleep_trigger)
    for provider in context.providers:
        modules = (provider.trigger.rpartition(".")[0], *provider.modules)
        trigger = partial(_provider_trigger, provider, work)
        kinds[provider.name] = TriggerKind(trigger, modules)
    return kinds


def _runs(
    name: str,
    count: int,
    options: argparse.Namespace,
    context: BenchmarkContext,
    measure: Callable[[], Metrics],
) -> Metrics:
    runs = []
    for number in range(context.runs):
        context.log(
            f"{name}, run {number + 1} of {context.runs}, {count} real triggerers"
        )
        key = ("triggerer", name, count, _description(options), number)
        runs.append(context.cache.get(key, measure))
    return median(runs)


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
    described = ", ".join(f"{name} {getattr(options, name)}" for name in names)
    if options.patch:
        return f"{described}, with {options.patch.name}"
    return described
