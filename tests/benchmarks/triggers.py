"""Owns the benchmark of waiting: many triggers, each for an execution of its own, in one event loop."""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from tests.benchmarks import process
from tests.benchmarks.bench import Bench
from tests.benchmarks.endpoint.running import CREDENTIALS, Seen, Started
from tests.benchmarks.lag import percentile
from tests.benchmarks.notebook import Figures, median
from tests.benchmarks.providers import Provider
from tests.benchmarks.tables import compare
from tests.benchmarks.triggerer import Measured

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
class Workload:
    """
    What is waited for.

    :param executions: how many.
    :param pipelines: of how many pipelines, in turn.
    :param seconds: how long each execution takes.
    :param poll: seconds between two looks.
    :param per_second: how many begin each second, each with its trigger; 0 for all at once.
    :param credentials: ``key`` for an access key, ``role`` for one that assumes a role.
    :param quota: calls a second that AWS grants; 0 for no limit.
    :param latency: seconds until AWS answers.
    :param sts_latency: seconds until STS answers; None for the same.
    :param grace: seconds from the last execution's end until the triggers are cancelled.
    :param memory: GiB above the start at which the triggers are cancelled.
    """

    executions: int = 1000
    pipelines: int = 20
    seconds: float = 60.0
    poll: float = 5.0
    per_second: float = 100.0
    credentials: str = "key"
    quota: float = 0.0
    latency: float = 0.02
    sts_latency: float | None = None
    grace: float = 60.0
    memory: float = 6.0

    @property
    def limit(self) -> float:
        """Seconds from the first trigger's start until they are cancelled."""
        beginning = self.executions / self.per_second if self.per_second else 0.0
        return beginning + self.seconds + self.grace

    def __str__(self) -> str:
        begin = f"{self.per_second:g} a second" if self.per_second else "all at once"
        parts = [
            f"{self.executions:,} executions of {self.pipelines:,} pipelines",
            f"{self.seconds:g} s each, begun {begin}",
            f"poll {self.poll:g} s",
            {"key": "access key", "role": "assumed role"}[self.credentials],
            f"AWS answers after {1000 * self.latency:g} ms",
        ]
        if self.sts_latency is not None:
            parts.append(f"STS after {1000 * self.sts_latency:g} ms")
        if self.quota:
            parts.append(f"and grants {self.quota:g} calls a second")
        return ", ".join(parts)


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
        gaps = [execution.longest_gap for execution in looked if execution.first_look is not None]
        first = [each.first_look - each.begins for each in looked if each.first_look is not None]
        return {
            "from an execution's end to its event, p50, s": percentile(detected, 50),
            DETECTION: percentile(detected, 99),
            "from an execution's beginning to its first look, longest, s": max(first, default=0.0),
            "executions that were never looked at": len(looked) - len(first),
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


def add_options(parser: argparse.ArgumentParser, default: Workload) -> None:
    """
    Add the options of a workload.

    :param parser: the part's.
    :param default: the part's workload.
    """
    add = parser.add_argument
    add("--executions", default=str(default.executions), help="how many, or several numbers with commas")
    add(
        "--pipelines",
        default=str(default.pipelines),
        help="of how many pipelines; N for one each; or several",
    )
    add("--credentials", default=default.credentials, help="key, role, or key,role")
    add("--seconds", type=float, default=default.seconds, help="how long each execution takes")
    add("--poll", type=float, default=default.poll, help="seconds between two looks")
    add(
        "--per-second",
        type=float,
        default=default.per_second,
        help="how many begin each second; 0: all at once",
    )
    add("--quota", type=float, default=default.quota, help="calls a second that AWS grants; 0: no limit")
    add("--latency", type=float, default=default.latency, help="seconds until AWS answers")
    add("--sts-latency", type=float, default=default.sts_latency, help="the same for STS, if it is another")
    add(
        "--grace",
        type=float,
        default=default.grace,
        help="seconds from the last end until triggers are cancelled",
    )
    add("--memory", type=float, default=default.memory, help="GiB at which triggers are cancelled")


def workloads(options: argparse.Namespace) -> list[Workload]:
    """
    Return the workloads that were asked for.

    :param options: the command line.
    """
    names = ("seconds", "poll", "per_second", "quota", "latency", "sts_latency", "grace", "memory")
    common = Workload(**{name: getattr(options, name) for name in names})
    found = []
    for credentials in options.credentials.split(","):
        if credentials not in CREDENTIALS:
            raise SystemExit(f"--credentials {credentials}: give {' or '.join(CREDENTIALS)}.")
        for count in map(int, options.executions.split(",")):
            for pipelines in options.pipelines.split(","):
                of = count if pipelines == "N" else min(int(pipelines), count)
                found.append(replace(common, credentials=credentials, executions=count, pipelines=of))
    return list(dict.fromkeys(found))


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure and print, one table for each workload.

    :param options: the command line.
    :param bench: where.
    """
    for work in workloads(options):
        found = measure(work, bench)
        print(f"\n### {work}\n\n{compare(found)}", flush=True)
