"""Owns the measurement of a real triggerer, for each provider and for triggers that only sleep."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from tests.benchmarks.bench import Bench
from tests.benchmarks.endpoint.running import Started
from tests.benchmarks.notebook import Figures, median
from tests.benchmarks.providers import Provider
from tests.benchmarks.tables import compare
from tests.chaos.postgres import private_postgres
from tests.system.private_airflow import PrivateAirflow
from tests.system.processes import ProcessError, wait_until

HERE: Final = Path(__file__).parent
DAG: Final = "benchmark_waits"
TASKS_PER_RUN: Final = 20
SLEEPING: Final = "tests.benchmarks.deployment.sleeping.SleepTrigger"
ASLEEP: Final = "Airflow alone"
TRIGGERER: Final = "triggerer"
# Nothing else is to be done while it is measured.
IDLE: Final = ("scheduler", "dag-processor")
SETTINGS: Final = {
    "AIRFLOW__TRIGGERER__CAPACITY": "10000",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
}
# Seconds until a triggerer that was just started has settled.
START_TIMEOUT: Final = 90.0
SETTLE: Final = 10.0
# Executions begin a little before their tasks are deferred.
HEAD_START: Final = 15.0
# Seconds in which Airflow has to defer, and to hand the triggers over.
LEAD: Final = 40.0
ENDS_PER_SECOND: Final = 100.0
LOOK_INTERVAL: Final = 2.0


@dataclass(frozen=True)
class Waiting:
    """
    Who waits.

    :param make: class path and arguments of a trigger, for an execution and its end.
    :param modules: what is imported beforehand.
    """

    make: Callable[[Started, float], tuple[str, dict[str, Any]]]
    modules: Sequence[str] = ()


class Deployment:
    """
    An Airflow whose triggerer is measured.

    :param airflow: it runs.
    """

    def __init__(self, airflow: PrivateAirflow) -> None:
        self._airflow = airflow
        self._http = httpx.Client(base_url=airflow.url, timeout=60, trust_env=False)

    def store_connections(self, connections: Mapping[str, str]) -> None:
        """
        Store connections in Airflow's database, where deployments have them.

        :param connections: in their JSON form, by the name of their environment variable.
        """
        for name, content in connections.items():
            found = json.loads(content)
            body = {**found, "connection_id": name.removeprefix("AIRFLOW_CONN_").lower()}
            body["extra"] = json.dumps(found["extra"])
            path = f"/api/v2/connections/{body['connection_id']}"
            self._http.delete(path)
            self._http.post("/api/v2/connections", json=body).raise_for_status()

    def fresh_triggerer(self, modules: Sequence[str]) -> None:
        """
        Start the triggerer anew, and wait until it has settled.

        :param modules: what it has imported.
        """
        self._airflow.start_component(TRIGGERER)
        warm = {"until": 0, "modules": list(modules), "connection_id": "polysync_default"}
        self.defer([(SLEEPING, warm)])
        if not wait_until(lambda: not self.deferred(), timeout=START_TIMEOUT, interval=LOOK_INTERVAL):
            raise ProcessError("The triggerer does not start triggers")
        time.sleep(SETTLE)

    def defer(self, triggers: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """
        Begin DAG runs, and defer their tasks.

        :param triggers: class path and arguments of each.
        """
        for _ in range(math.ceil(len(triggers) / TASKS_PER_RUN)):
            self._airflow.client.trigger(DAG)
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.deployment.deferral", DAG],
            env=self._airflow.env,
            input=f"{json.dumps(triggers)}\n",
            text=True,
            check=True,
            capture_output=True,
        )

    def deferred(self) -> int:
        """Return how many tasks wait."""
        path = f"/api/v2/dags/{DAG}/dagRuns/~/taskInstances"
        answer = self._http.get(path, params={"state": "deferred", "limit": 1}).raise_for_status()
        return int(answer.json()["total_entries"])

    def usage(self) -> tuple[float, float]:
        """Return the CPU seconds and the MiB, at their peak, of the triggerer's processes."""
        cpu = memory = 0.0
        for process in self._processes():
            times = process.cpu_times()
            cpu += times.user + times.system
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory += int(status.partition("VmHWM:")[2].split()[0]) / 1024
        return cpu, memory

    def _processes(self) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in self._airflow.components[TRIGGERER].members()]


@contextmanager
def deployment() -> Iterator[Deployment]:
    """Run an Airflow on PostgreSQL while the context is open."""
    with (
        tempfile.TemporaryDirectory(prefix="polysync-benchmark-") as home,
        private_postgres() as database,
        PrivateAirflow(
            Path(home),
            dag_folders=[HERE / "dags"],
            connections={},
            settings={**SETTINGS, "PYTHONPATH": str(HERE.parents[2])},
            database=database,
        ) as airflow,
    ):
        airflow.client.wait_for_dag(DAG)
        for name in IDLE:
            airflow.components.pop(name).kill()
        yield Deployment(airflow)


def run(waiting: Waiting, options: argparse.Namespace, place: Deployment, bench: Bench) -> Figures:
    """
    Let the triggerer wait for executions, once.

    :param waiting: who waits.
    :param options: the command line.
    :param place: the deployment.
    :param bench: where the executions are.
    """
    bench.endpoint.reset(latency=options.latency)
    place.store_connections(bench.endpoint.connections(options.credentials))
    place.fresh_triggerer(waiting.modules)
    cpu, memory = place.usage()
    began = time.time()
    seconds = HEAD_START + LEAD + options.seconds
    started = bench.endpoint.start(
        options.executions,
        options.pipelines,
        begin=began - HEAD_START,
        per_second=ENDS_PER_SECOND,
        seconds=seconds,
    )
    place.defer([waiting.make(execution, execution.begins + seconds) for execution in started])
    last_end = started[-1].begins + seconds
    until = last_end - time.time() + options.grace
    wait_until(lambda: not place.deferred(), timeout=until, interval=LOOK_INTERVAL)
    ended = time.time()
    after, peak = place.usage()
    seen = bench.endpoint.seen()
    return Figures(
        {
            "CPU of the triggerer, s": after - cpu,
            "its peak memory above the start, MiB": peak - memory,
            "connections to AWS, open at once": seen.peak_connections,
            "calls per execution": sum(seen.calls.values()) / options.executions,
            "from the last end until no task is deferred, s": ended - last_end,
            "tasks still deferred": place.deferred(),
            "wall time, s": ended - began,
        }
    )


def _sleeping(execution: Started, end: float) -> tuple[str, dict[str, Any]]:
    return SLEEPING, {"until": end}


def _waiting(provider: Provider, poll: float, execution: Started, end: float) -> tuple[str, dict[str, Any]]:
    return provider.trigger, provider.arguments(execution, poll)


def _without(airflow: Figures, found: Figures) -> Figures:
    names = ("CPU of the triggerer, s", "its peak memory above the start, MiB")
    own = {
        f"{name.rpartition(',')[0]}, without Airflow's{name[name.rindex(',') :]}": found.values[name]
        - airflow.values[name]
        for name in names
    }
    return Figures({**own, **found.values}, found.note, found.at)


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: the part's.
    """
    add = parser.add_argument
    add("--executions", type=int, default=1000, help="how many")
    add("--pipelines", type=int, default=20, help="of how many pipelines")
    add("--credentials", choices=("key", "role"), default="key", help="how the connection signs in")
    add("--seconds", type=float, default=60.0, help="how long executions last once all are deferred")
    add("--poll", type=float, default=5.0, help="seconds between two looks")
    add("--latency", type=float, default=0.02, help="seconds until AWS answers")
    add("--grace", type=float, default=120.0, help="seconds from the last end until it is given up")


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure and print.

    :param options: the command line.
    :param bench: where.
    """
    waiting = {ASLEEP: Waiting(_sleeping)}
    for provider in bench.providers:
        modules = (provider.trigger.rpartition(".")[0], *provider.modules)
        waiting[provider.name] = Waiting(partial(_waiting, provider, options.poll), modules)
    runs: dict[str, list[Figures]] = {name: [] for name in waiting}
    with deployment() as place:
        for number in range(bench.runs):
            for name, who in waiting.items():
                bench.say(f"{name}, run {number + 1} of {bench.runs}, in a real triggerer")
                key = ("triggerer", name, _name(options), number)
                runs[name].append(bench.notebook.figures(key, partial(run, who, options, place, bench)))
    found = {name: median(each) for name, each in runs.items()}
    airflow = found.pop(ASLEEP)
    shown = {
        ASLEEP: _without(airflow, airflow),
        **{name: _without(airflow, each) for name, each in found.items()},
    }
    title = f"In a real triggerer: {_name(options)}"
    print(f"\n### {title}\n\n{compare(shown)}", flush=True)


def _name(options: argparse.Namespace) -> str:
    names = ("executions", "pipelines", "credentials", "seconds", "poll", "latency")
    return ", ".join(f"{name} {getattr(options, name)}" for name in names)
