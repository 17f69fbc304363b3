"""
The Airflow deployment whose triggerers are measured: PostgreSQL, an API server, and one
or more triggerers.
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
from typing import Any, Final, NamedTuple

import httpx
import psutil
from sqlalchemy import create_engine
from sqlalchemy import text as sql
from sqlalchemy.pool import NullPool

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
# The supervisor starts the runner, in which the triggers are.
SUPERVISOR: Final = "supervisor"
RUNNER: Final = "runner"

# Class path and arguments of a trigger, and the id of the triggerer's job, if that is
# not left to Airflow.
AnyTrigger = tuple[str, dict[str, Any]] | tuple[str, dict[str, Any], int]


class Usage(NamedTuple):
    """
    What a process has used since it began.

    :param cpu: CPU seconds.
    :param memory: peak memory, MiB.
    """

    cpu: float
    memory: float


class TriggererDeployment:
    """
    Controls a running Airflow, and measures its triggerers.

    :param airflow: the running Airflow.
    :param database: the SQLAlchemy URL of its database.
    """

    def __init__(self, airflow: PrivateAirflow, database: str) -> None:
        self._airflow = airflow
        self._engine = create_engine(database, poolclass=NullPool)
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

    def start_triggerers(
        self, settings: Mapping[str, Mapping[str, str]], modules: Sequence[str]
    ) -> None:
        """
        Start new triggerers in place of all others, and wait until all are ready for
        the measurement.

        :param settings: further environment variables of each triggerer, by its name.
        :param modules: modules that each imports before the measurement.
        :raises ProcessError: if one of them does not run a trigger in time.
        """
        for name in list(self._airflow.components):
            if name.startswith(TRIGGERER):
                self._airflow.components.pop(name).kill()
        self.query("UPDATE job SET end_date = now() WHERE job_type = 'TriggererJob'")
        # What triggerers that did not keep up have left is not for the next ones.
        self.query(
            "UPDATE task_instance SET state = 'failed', trigger_id = NULL"
            " WHERE state = 'deferred'"
        )
        self.query("DELETE FROM trigger")
        for name, own in settings.items():
            self._airflow.start_component(name, own)
        if not wait_until(
            lambda: len(self.jobs()) == len(settings),
            timeout=START_TIMEOUT,
            interval=POLL_INTERVAL,
        ):
            raise ProcessError(
                f"{len(self.jobs())} of {len(settings)} triggerers run after"
                f" {START_TIMEOUT:.0f} s"
            )
        arguments = {"until": 0, "modules": list(modules)}
        arguments["connection_id"] = "polysync_default"
        self.defer([(SLEEP_TRIGGER, arguments, job) for job in self.jobs()])
        if not wait_until(
            lambda: not self.deferred(), timeout=START_TIMEOUT, interval=POLL_INTERVAL
        ):
            raise ProcessError(
                f"{self.deferred()} triggerers did not run their first trigger in"
                f" {START_TIMEOUT:.0f} s"
            )
        time.sleep(SETTLE_TIME)

    def jobs(self) -> list[int]:
        """Return the ids of the jobs of all triggerers that run."""
        rows = self.query(
            "SELECT id FROM job WHERE job_type = 'TriggererJob' AND end_date IS NULL"
        )
        return [job for (job,) in rows]

    def query(self, statement: str) -> Sequence[Any]:
        """Execute a statement in Airflow's database, and return its rows."""
        with self._engine.begin() as connection:
            result = connection.execute(sql(statement))
            return result.all() if result.returns_rows else []

    def defer(self, triggers: Sequence[AnyTrigger]) -> None:
        """
        Trigger DAG runs, and defer their tasks.

        :param triggers: the trigger of each task.
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

    def usage_of(self, name: str) -> dict[str, Usage]:
        """
        Return what the processes of a triggerer have used, by their kind.

        :param name: the name of the triggerer.
        """
        usages = {SUPERVISOR: Usage(0, 0), RUNNER: Usage(0, 0)}
        for pid in self._airflow.components[name].members():
            process = psutil.Process(pid)
            kind = RUNNER
            if pid == self._airflow.components[name].pid:
                kind = SUPERVISOR
            times = process.cpu_times()
            status = Path(f"/proc/{pid}/status").read_text()
            peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
            usages[kind] = Usage(
                usages[kind].cpu + times.user + times.system,
                usages[kind].memory + peak,
            )
        return usages


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
        yield TriggererDeployment(airflow, database.url)
