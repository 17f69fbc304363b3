"""
Runs an Airflow deployment that only the tests use: its home folder, settings, database,
and components.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx

from tests.system.airflow.client import AirflowError
from tests.system.airflow.versions import INSTALLED, environment, team_settings
from tests.system.process.sessions import (
    ProcessError,
    ProcessSession,
    end_all,
    wait_until,
)

HOST: Final = "127.0.0.1"

# The commands of the components. They are started one by one instead of with `airflow
# standalone`, because the log servers of `standalone` listen on all interfaces (it has
# no option --skip-serve-logs; the API server reads the logs from the folder anyway),
# and because a test must be able to end a single component.
COMPONENTS: Final = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "worker": ("celery", "worker", "--skip-serve-logs"),
    **INSTALLED.commands,
}
STANDALONE: Final = ("api-server", "dag-processor", "scheduler", "triggerer")
MIGRATION_TIMEOUT: Final = 120.0
START_TIMEOUT: Final = 150.0
# Below those that Linux gives to a server that takes any port.
_PORTS: Final = range(20_000, 32_000)
_PORT_ATTEMPTS: Final = 100
# Short, because a worker that has just finished a task may take long to end after TERM,
# and its work is not needed.
STOP_GRACE: Final = 5.0

# Environment variables with these prefixes are not inherited: the user's own Airflow
# must not influence the private one, and the private one must not reach an AWS account.
_EXCLUDED_PREFIXES: Final = ("AIRFLOW", "AWS_", "_AIRFLOW", "PYTEST_")


class PrivateAirflow:
    """
    Context manager that runs an Airflow on the loopback interface, by default with
    LocalExecutor and a triggerer.

    It requires no authentication, unless ``settings`` say so: everyone who can reach
    its port is an administrator. Its version is the one that is installed.

    :param home: an empty folder for its database, settings and logs.
    :param dag_folders: the folders with its DAG files.
    :param connections: connections by connection id, in Airflow's JSON format.
    :param settings: further environment variables. Options have the names of the newest
        version of Airflow.
    :param components: the components to start, in this order; a number distinguishes
        components of the same kind (``triggerer-1``, ``triggerer-2``).
    :param database: the SQLAlchemy URL of an empty database; by default SQLite in
        ``home``.
    :param python: the interpreter of the environment with Airflow; by default that of
        this process.
    :param team: the team that has all DAGs and triggerers; None for a deployment
        without teams.
    :param queues: whose triggers the triggerers run; None for a deployment without
        queues of triggers.
    :param on_wait: called with what the start waits for, each time that this changes.
    """

    def __init__(
        self,
        home: Path,
        *,
        dag_folders: Sequence[Path],
        connections: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, str] | None = None,
        components: Sequence[str] = STANDALONE,
        database: str | None = None,
        python: Path = Path(sys.executable),
        team: str | None = None,
        queues: str | None = None,
        on_wait: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.home = home
        self._on_wait, self._waits_for = on_wait, ""
        self._python = python
        self._initial_components = components
        self._team = team
        self._queues = queues
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        # Five seconds, the default, are too short for a busy machine.
        database = database or f"sqlite:///{home}/airflow.db?timeout=60"
        self.env = {
            **_inherited_environment(),
            **environment(INSTALLED.dag_options(home, dag_folders)),
            **INSTALLED.rename({**_settings(home, port, database), **(settings or {})}),
            **{
                f"AIRFLOW_CONN_{name.upper()}": json.dumps(content)
                for name, content in connections.items()
            },
        }
        if team is not None:
            self.env |= team_settings(team, self.env)
        self.client = INSTALLED.client(self.url, database)
        self.components: dict[str, ProcessSession] = {}
        self._commands: list[ProcessSession] = []

    def start(self) -> None:
        """
        Create the database, start all components, and wait until all are healthy.

        :raises ProcessError: if a component ends, or is not healthy in time; the
            message has the end of its log.
        """
        self._on_wait("the tables of the database")
        migration = self._spawn("db-migrate", ("db", "migrate"))
        try:
            migration.wait(MIGRATION_TIMEOUT)
        finally:
            end_all([migration])
        if self._team is not None:
            self.command("teams", "sync")
        for name in self._initial_components:
            self.start_component(name)
        if not wait_until(self._healthy, timeout=START_TIMEOUT, interval=0.5):
            raise ProcessError(
                f"Airflow was not healthy in {START_TIMEOUT:.0f} s: {self.health()}\n"
                + "\n".join(
                    component.log_tail() for component in self.components.values()
                )
            )

    def upgrade(self, python: Path) -> None:
        """
        End all components, migrate the database to the Airflow of another environment,
        and start that.

        Only the components that were given at first are started.

        :param python: the interpreter of the environment.
        :raises ProcessError: as ``start``.
        """
        end_all(self.components.values(), grace=STOP_GRACE)
        self.components.clear()
        self._python = python
        self.start()

    def start_component(
        self, name: str, settings: Mapping[str, str] | None = None
    ) -> ProcessSession:
        """
        Start or restart a component. Processes that remain of the previous one are
        killed.

        :param name: the name of the component.
        :param settings: further environment variables for this component only.
        """
        if name in self.components:
            self.components[name].kill()
        kind = _kind(name)
        component = self._spawn(
            name, (*COMPONENTS[kind], *self._options(name)), settings
        )
        self.components[name] = component
        return component

    def _options(self, name: str) -> tuple[str, ...]:
        kind = _kind(name)
        if kind == "worker":
            # Celery workers of the same machine must have different names.
            return ("--celery-hostname", name)
        if kind == "triggerer" and self._team is not None:
            # A triggerer without a team does not run the triggers of teams.
            return ("--team-name", self._team)
        if kind == "triggerer" and self._queues is not None:
            return ("--queues", self._queues)
        return ()

    def stop(self) -> None:
        """
        End all components and their descendants.

        :raises ProcessError: if a process still runs.
        """
        self.client.close()
        end_all([*self.components.values(), *self._commands], grace=STOP_GRACE)

    def environment(self, settings: Mapping[str, str] | None = None) -> dict[str, str]:
        """
        Return the environment variables of a component.

        :param settings: further environment variables.
        """
        # Airflow 2 starts programs of its environment by their names.
        path = f"{self._python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {**self.env, "PATH": path, **INSTALLED.rename(settings or {})}

    def command(
        self,
        *arguments: str,
        settings: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> str:
        """
        Run a command of Airflow's command line, and return its output.

        :param arguments: the arguments of ``airflow``.
        :param settings: further environment variables for this command only.
        :param timeout: seconds that the command may take.
        :raises subprocess.SubprocessError: if the command fails.
        """
        completed = subprocess.run(
            self._airflow(arguments),
            env=self.environment(settings),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
        return completed.stdout

    def start_command(self, name: str, *arguments: str) -> ProcessSession:
        """
        Start a command of Airflow's command line, which may end at any time.

        :param name: the name of its log.
        :param arguments: the arguments of ``airflow``.
        """
        command = self._spawn(name, arguments)
        self._commands.append(command)
        return command

    def check_alive(self) -> None:
        """
        Check that all components run.

        :raises ProcessError: if a component ended; the message has its name and the end
            of its log.
        """
        for component in self.components.values():
            component.check_alive()

    def health(self) -> dict[str, str]:
        """
        Return the status of each component, for example ``healthy``; an error if the
        API server does not respond.
        """
        try:
            return self.client.health()
        except (httpx.HTTPError, AirflowError) as error:
            return {"api-server": str(error)}

    def healthy(self) -> bool:
        """Return whether all components are healthy."""
        return set(self.health().values()) == {"healthy"}

    def __enter__(self) -> PrivateAirflow:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(
        self,
        name: str,
        arguments: Sequence[str],
        settings: Mapping[str, str] | None = None,
    ) -> ProcessSession:
        env, log = self.environment(settings), self.home / f"{name}.log"
        return ProcessSession(
            f"airflow {name}", self._airflow(arguments), env=env, log=log
        )

    def _airflow(self, arguments: Sequence[str]) -> list[str]:
        return [str(self._python), "-m", "airflow", *arguments]

    def _healthy(self) -> bool:
        self.check_alive()
        if self.healthy():
            return True
        waits_for = ", ".join(
            name for name, status in self.health().items() if status != "healthy"
        )
        if waits_for and waits_for != self._waits_for:
            self._on_wait(waits_for)
        self._waits_for = waits_for
        return False


def free_port() -> int:
    """
    Return a free TCP port of the loopback interface.

    A server that takes any port gets none of these, so none takes it before its server
    has begun to listen.

    :raises OSError: if no port was free.
    """
    for port in random.sample(_PORTS, _PORT_ATTEMPTS):
        with socket.socket() as server, suppress(OSError):
            server.bind((HOST, port))
            return port
    raise OSError(f"no free port in {_PORTS}")


def _kind(component: str) -> str:
    return component if component in COMPONENTS else component.rpartition("-")[0]


def _inherited_environment() -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_EXCLUDED_PREFIXES)
    }
    return {
        **inherited,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": f"{HOST},localhost",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _settings(home: Path, port: int, database: str) -> dict[str, str]:
    options = {
        "core": {
            "executor": INSTALLED.local_executor,
            "parallelism": "4",
            "load_examples": "False",
            "simple_auth_manager_all_admins": "True",
            "execution_api_server_url": f"http://{HOST}:{port}/execution/",
        },
        "api": {
            "host": HOST,
            "port": str(port),
            "base_url": f"http://{HOST}:{port}",
            "workers": "1",
        },
        "database": {"load_default_connections": "False", "sql_alchemy_conn": database},
        # A file that has not changed is not parsed again: that would use a core all the
        # time.
        "dag_processor": {"min_file_process_interval": "300"},
        # Ignore the schedules of the DAGs: only the runs that a test triggers may
        # start.
        "scheduler": {"scheduler_heartbeat_sec": "1", "use_job_schedule": "False"},
        "usage_data_collection": {"enabled": "False"},
    }
    return {
        "AIRFLOW_HOME": str(home),
        **environment(INSTALLED.options),
        **environment(options),
    }
