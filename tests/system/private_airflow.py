"""Owns one private Airflow: its folder, settings, components, and the wait until they are all healthy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx

from tests.system.airflow_client import AirflowClient
from tests.system.processes import OwnedProcess, ProcessError, end_all, wait_until

HOST: Final = "127.0.0.1"

# What `airflow standalone` starts, but by ourselves: its log servers listen on all interfaces (their option
# --skip-serve-logs cannot be reached through it; the API server reads the logs from the folder as well), and
# a test can end one component alone.
COMPONENTS: Final = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
MIGRATION_TIMEOUT: Final = 120.0
START_TIMEOUT: Final = 150.0
# A worker that has just ended a task may take long over TERM, and nothing here is worth the wait.
STOP_GRACE: Final = 5.0

# Nothing of the person's own set-up reaches the private one, and nothing in it reaches an AWS account.
_FOREIGN_PREFIXES: Final = ("AIRFLOW", "AWS_", "_AIRFLOW", "PYTEST_")


class PrivateAirflow:
    """
    An Airflow on the loopback interface (LocalExecutor, a triggerer) while its context is open.

    Everybody who can reach its port is its administrator.

    :param home: an empty folder of its own: database, settings, all logs.
    :param dag_folders: where its DAGs lie.
    :param connections: content by connection id, as in a connection's JSON form.
    :param settings: further environment variables.
    :param components: what to start, in this order; several of a kind have numbers, as ``triggerer-2``.
    :param database: address of an empty database, as SQLAlchemy writes it; by default SQLite in ``home``.
    """

    def __init__(
        self,
        home: Path,
        *,
        dag_folders: Sequence[Path],
        connections: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, str] | None = None,
        components: Sequence[str] = tuple(COMPONENTS),
        database: str | None = None,
    ) -> None:
        self.home = home
        self._first_components = components
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        self.env = {
            **_own_environment(),
            **_settings(home, port, dag_folders),
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(content) for name, content in connections.items()},
            **({"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database} if database else {}),
            **(settings or {}),
        }
        self.client = AirflowClient(self.url)
        self.components: dict[str, OwnedProcess] = {}

    def start(self) -> None:
        """
        Make the database, start all components, and wait until each is healthy.

        :raises ProcessError: if one is not in time; with the end of its log.
        """
        migration = self._spawn("db-migrate", ("db", "migrate"))
        try:
            migration.wait(MIGRATION_TIMEOUT)
        finally:
            end_all([migration])
        for name in self._first_components:
            self.start_component(name)
        if not wait_until(self._healthy, timeout=START_TIMEOUT, interval=0.5):
            raise ProcessError(
                f"Airflow is not healthy after {START_TIMEOUT:.0f} s: {self._health()}\n"
                + "\n".join(component.log_tail() for component in self.components.values())
            )

    def start_component(self, name: str) -> OwnedProcess:
        """Start one component, at first or after its end; what is left of an earlier one is ended."""
        if name in self.components:
            self.components[name].kill()
        component = self.components[name] = self._spawn(name, COMPONENTS[_kind(name)])
        return component

    def stop(self) -> None:
        """
        End every process that it started, and what those started.

        :raises ProcessError: if one still runs.
        """
        self.client.close()
        end_all(self.components.values(), grace=STOP_GRACE)

    def command(
        self, *arguments: str, settings: Mapping[str, str] | None = None, timeout: float = 120
    ) -> str:
        """
        Run ``airflow`` with arguments and return what it printed.

        :param settings: further environment variables, for this command alone.
        :raises subprocess.SubprocessError: if it fails.
        """
        done = subprocess.run(
            _airflow(arguments),
            env={**self.env, **(settings or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
        return done.stdout

    def check_alive(self) -> None:
        """
        Make sure that all components run.

        :raises ProcessError: naming the one that does not, with the end of its log.
        """
        for component in self.components.values():
            component.check_alive()

    def __enter__(self) -> PrivateAirflow:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, name: str, arguments: Sequence[str]) -> OwnedProcess:
        return OwnedProcess(
            f"airflow {name}", _airflow(arguments), env=self.env, log=self.home / f"{name}.log"
        )

    def _health(self) -> dict[str, str]:
        try:
            return self.client.health()
        except httpx.HTTPError as error:
            return {"api-server": str(error)}

    def _healthy(self) -> bool:
        self.check_alive()
        return set(self._health().values()) == {"healthy"}


def free_port() -> int:
    """Find a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port


def _kind(component: str) -> str:
    return component if component in COMPONENTS else component.rpartition("-")[0]


def _airflow(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def _own_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_PREFIXES)}
    return {
        **kept,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": f"{HOST},localhost",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _settings(home: Path, port: int, dag_folders: Sequence[Path]) -> dict[str, str]:
    bundles = [
        {
            "name": f"folder-{folder.name}",  # example_dags is a reserved name
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder), "refresh_interval": 5},
        }
        for folder in dag_folders
    ]
    options = {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": "4",
            "load_examples": "False",
            "simple_auth_manager_all_admins": "True",
            "execution_api_server_url": f"http://{HOST}:{port}/execution/",
        },
        "api": {"host": HOST, "port": str(port), "base_url": f"http://{HOST}:{port}", "workers": "1"},
        "database": {"load_default_connections": "False"},
        "dag_processor": {"dag_bundle_config_list": json.dumps(bundles), "min_file_process_interval": "5"},
        # Only the runs that were asked for: a DAG's own schedule would start others beside them.
        "scheduler": {"scheduler_heartbeat_sec": "1", "use_job_schedule": "False"},
        "usage_data_collection": {"enabled": "False"},
    }
    return {"AIRFLOW_HOME": str(home)} | {
        f"AIRFLOW__{section}__{name}".upper(): value
        for section, values in options.items()
        for name, value in values.items()
    }
