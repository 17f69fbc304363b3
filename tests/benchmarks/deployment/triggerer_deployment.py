"""
The Airflow deployment whose triggerer is measured: PostgreSQL, an API server, and one
triggerer.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from tests.chaos.deployment.postgres import private_postgres
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.process.sessions import ProcessError, wait_until

HERE: Final = Path(__file__).parent
DAG: Final = "benchmark_waits"
TASKS_PER_RUN: Final = 20
SLEEP_TRIGGER: Final = "tests.benchmarks.deployment.sleep_trigger.SleepTrigger"
TRIGGERER: Final = "triggerer"
# Ended before the measurement, so that they do not use the CPU meanwhile.
NOT_NEEDED: Final = ("scheduler", "dag-processor")
SETTINGS: Final = {
    "AIRFLOW__TRIGGERER__CAPACITY": "10000",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
}
# Seconds in which a new triggerer must run its first trigger.
START_TIMEOUT: Final = 90.0
# Seconds after the first trigger until the measurement starts.
SETTLE_TIME: Final = 10.0
POLL_INTERVAL: Final = 2.0


class TriggererDeployment:
    """
    Controls a running Airflow, and measures its triggerer.

    :param airflow: the running Airflow.
    """

    def __init__(self, airflow: PrivateAirflow) -> None:
        self._airflow = airflow
        self._http = httpx.Client(base_url=airflow.url, timeout=60, trust_env=False)

    def store_connections(self, connections: Mapping[str, str]) -> None:
        """
        Store connections in Airflow's database, as real deployments do.

        :param connections: connections as JSON, by the name of their environment
            variable (``AIRFLOW_CONN_*``).
        """
        for name, text in connections.items():
            connection = json.loads(text)
            body = {
                **connection,
                "connection_id": name.removeprefix("AIRFLOW_CONN_").lower(),
            }
            body["extra"] = json.dumps(connection["extra"])
            path = f"/api/v2/connections/{body['connection_id']}"
            self._http.delete(path)
            self._http.post("/api/v2/connections", json=body).raise_for_status()

    def restart_triggerer(self, modules: Sequence[str]) -> None:
        """
        Start a new triggerer process, and wait until it is ready for the measurement.

        :param modules: modules that it imports before the measurement.
        :raises ProcessError: if it does not run a trigger in time.
        """
        self._airflow.start_component(TRIGGERER)
        arguments = {
            "until": 0,
            "modules": list(modules),
            "connection_id": "polysync_default",
        }
        self.defer([(SLEEP_TRIGGER, arguments)])
        if not wait_until(
            lambda: not self.deferred(), timeout=START_TIMEOUT, interval=POLL_INTERVAL
        ):
            raise ProcessError(
                f"The triggerer did not run its first trigger in {START_TIMEOUT:.0f} s"
            )
        time.sleep(SETTLE_TIME)

    def defer(self, triggers: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """
        Trigger DAG runs, and defer their tasks.

        :param triggers: class path and arguments of each trigger.
        """
        for _ in range(math.ceil(len(triggers) / TASKS_PER_RUN)):
            self._airflow.client.trigger(DAG)
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.deployment.defer_tasks", DAG],
            env=self._airflow.env,
            input=f"{json.dumps(triggers)}\n",
            text=True,
            check=True,
            capture_output=True,
        )

    def deferred(self) -> int:
        """Return the number of deferred tasks."""
        path = f"/api/v2/dags/{DAG}/dagRuns/~/taskInstances"
        response = self._http.get(
            path, params={"state": "deferred", "limit": 1}
        ).raise_for_status()
        return int(response.json()["total_entries"])

    def usage(self) -> tuple[float, float]:
        """
        Return the CPU seconds and the peak memory (MiB) of all processes of the
        triggerer.
        """
        cpu = memory = 0.0
        for process in self._processes():
            times = process.cpu_times()
            cpu += times.user + times.system
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory += int(status.partition("VmHWM:")[2].split()[0]) / 1024
        return cpu, memory

    def _processes(self) -> list[psutil.Process]:
        return [
            psutil.Process(pid) for pid in self._airflow.components[TRIGGERER].members()
        ]


@contextmanager
def triggerer_deployment() -> Iterator[TriggererDeployment]:
    """Run an Airflow with PostgreSQL for the time of the context."""
    with (
        tempfile.TemporaryDirectory(prefix="polysync-benchmark-") as home,
        private_postgres() as database,
        PrivateAirflow(
            Path(home),
            dag_folders=[HERE / "dags"],
            connections={},
            settings={**SETTINGS, "PYTHONPATH": str(HERE.parents[2])},
            database=database.url,
        ) as airflow,
    ):
        airflow.client.wait_for_dag(DAG)
        for name in NOT_NEEDED:
            airflow.components.pop(name).kill()
        yield TriggererDeployment(airflow)
