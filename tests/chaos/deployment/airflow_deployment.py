"""
The deployment whose processes the suite kills: PostgreSQL, the emulator, and an Airflow
with two triggerers.

With CeleryExecutor, Redis and two Celery workers are added; with KubernetesExecutor, a
cluster whose pods are processes. A second Airflow, ``staging``, may run beside it, with
a database of its own, and the same Fernet key, DAGs and emulator; or ``copy``, with a
copy of the database. Each has an address of its own in its settings.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import boto3
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.chaos import markers
from tests.chaos.deployment.call_log import CallLog
from tests.chaos.deployment.edited_dags import EditedDags
from tests.chaos.deployment.kubernetes.api import LoopbackCluster
from tests.chaos.deployment.kubernetes.pods import ENTRY_POINT
from tests.chaos.deployment.kubernetes.requests import DEFAULT_GRACE_PERIOD
from tests.chaos.deployment.packages import PackageInstaller
from tests.chaos.deployment.postgres import private_postgres
from tests.chaos.deployment.redis import RedisServer, private_redis
from tests.chaos.deployment.settings import (
    QUEUE_SETTINGS,
    SETTINGS,
    SHORT_VISIBILITY,
    celery_settings,
    pod_settings,
)
from tests.chaos.deployment.training_jobs import TrainingJobs
from tests.system.airflow.client import AirflowError
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.emulator_process import REGION, SECRET_ACCESS_KEY, EmulatorProcess
from tests.system.process.sessions import ProcessError, ProcessSession, wait_until

DAG_FOLDERS: Final = Path(__file__).parents[1] / "dags"
VARIABLES: Final = text("SELECT key FROM variable")
REPOSITORY: Final = Path(__file__).parents[3]
PYTHONPATH: Final = "PYTHONPATH"
LOCAL, CELERY, PODS, TEAM, NO_KEY, QUEUES = EXECUTORS = (
    "local",
    "celery",
    "pods",
    "team",
    "no-key",
    "queues",
)
POLYSYNC, AMAZON = PROVIDERS = ("polysync", "amazon")
OF_JOB: Final = "_job"
AMAZON_JOB: Final = f"{AMAZON}{OF_JOB}"
TEAM_NAME: Final = "polysync_team"
DEFAULT_QUEUE: Final = "default"
FIRST, SECOND = TRIGGERERS = ("triggerer-1", "triggerer-2")
WORKERS: Final = ("worker-1", "worker-2")
STAGING: Final = "staging"
COPY: Final = "copy"
# Emulated time is real time, because deadlines and overlapping executions are checked
# in real seconds.
SPEED: Final = 1.0
# Distinguishes the suite's own calls from those of the provider.
SUITE_ACCESS_KEY_ID: Final = "AKIACHAOSCHAOSCHAOS0"
START_TIMEOUT: Final = 90.0
REPAIR_TIMEOUT: Final = 180.0
# Airflow 2 has another name for it.
CAPACITY: Final = (
    "AIRFLOW__TRIGGERER__CAPACITY",
    "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY",
)
# What a Celery worker writes to its log when it can run tasks.
WORKER_READY: Final = "ready."
# Seconds after which a worker's request for a message expires in the broker, and some
# time more.
BROKER_REQUEST_SECONDS: Final = 2.0


class AirflowDeployment:
    """
    Context manager that runs the deployment.

    :param home: an empty folder for logs, settings and marker files.
    :param provider: the provider whose operators run: ``polysync`` or ``amazon``; with
        ``_job`` at the end, that for a training job.
    :param executor: Airflow's executor: ``local``, ``celery`` or ``pods``; ``team`` for
        the LocalExecutor of a team, which has all DAGs and triggerers; ``no-key`` for
        LocalExecutor without a Fernet key; or ``queues`` for LocalExecutor with
        triggerers that run only the triggers of a queue.
    :param python: the interpreter of the environment with Airflow, until `upgrade`.
    """

    def __init__(
        self,
        home: Path,
        provider: str,
        executor: str,
        python: Path = Path(sys.executable),
    ) -> None:
        self._python = python
        self.provider = provider
        self.executor = executor
        self.workers = WORKERS if executor == CELERY else ()
        self.logs = home / "logs"
        self.markers = home / "markers"
        self.markers.mkdir()
        self._stack = ExitStack()
        self._home = home
        self._fernet_key = "" if executor == NO_KEY else Fernet.generate_key().decode()
        self._beside: dict[str, PrivateAirflow] = {}
        self._cluster_folder = home / "cluster"
        self.edited = EditedDags(home / "edited")
        self._jobs: dict[str, int] = {}
        self._broker: RedisServer | None = None
        self._cluster: LoopbackCluster | None = None
        self._workers_changed = False
        self.training_jobs: TrainingJobs | None = None

    def __enter__(self) -> AirflowDeployment:
        with ExitStack() as stack:
            self.database = stack.enter_context(private_postgres())
            if self.executor == CELERY:
                self._broker = stack.enter_context(private_redis())
            self.emulator = stack.enter_context(
                EmulatorProcess(
                    self._home, speed=SPEED, definitions=self._empty_folder()
                )
            )
            if self.provider == AMAZON_JOB:
                self.training_jobs = stack.enter_context(TrainingJobs())
            airflow = self._airflow(
                self._home,
                self.database.url,
                self.markers,
                ("api-server", "dag-processor", "scheduler", FIRST),
            )
            if self.executor == PODS:
                _install_entry_point()
                self._cluster = LoopbackCluster(
                    self._cluster_folder, airflow.environment()
                )
                stack.enter_context(self._cluster)
            self.airflow = stack.enter_context(airflow)
            self.client = self.airflow.client
            self._jobs[FIRST] = self._new_job(FIRST, set())
            self.start_triggerer(SECOND)
            self._start_workers()
            self.calls = CallLog(self.emulator.control, ignored_key=SUITE_ACCESS_KEY_ID)
            self.sagemaker = self._suite_client()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start_triggerer(self, name: str, *, capacity: int | None = None) -> None:
        """
        Start or restart a triggerer.

        :param name: the name of the component, for example ``triggerer-2``.
        :param capacity: how many triggers it may run; None for Airflow's default.
        :raises AirflowError: if it does not register a job in time.
        """
        settings = {}
        if capacity:
            settings = dict.fromkeys(CAPACITY, str(capacity))
        before = self.client.jobs("TriggererJob")
        self.airflow.start_component(name, settings)
        self._jobs[name] = self._new_job(name, before)

    def upgrade(self) -> None:
        """
        Replace Airflow by that of the suite's own environment, with the same database
        and settings.

        :raises ProcessError: if the migration fails, or Airflow is not healthy in time.
        """
        before = self.client.jobs("TriggererJob")
        self.airflow.upgrade(Path(sys.executable))
        self._jobs = {FIRST: self._new_job(FIRST, before)}
        self.start_triggerer(SECOND)

    @property
    def staging(self) -> PrivateAirflow:
        """The Airflow that `start_staging` has started."""
        return self._beside[STAGING]

    @property
    def copy(self) -> PrivateAirflow:
        """The Airflow that `start_copy` has started."""
        return self._beside[COPY]

    def start_staging(self) -> None:
        """
        Start a second Airflow, which a deployment can start once: another database and
        one triggerer, but the same Fernet key, DAGs, connections and emulator.

        :raises ProcessError: if it is not healthy in time.
        """
        self._start_beside(STAGING, self.database.create_database(STAGING))

    def start_copy(self) -> None:
        """
        Start another one, which has a copy of the database as it is now.

        :raises ProcessError: if it is not healthy in time.
        """
        self._start_beside(COPY, self.database.copy_database(COPY))

    def _start_beside(self, name: str, database: str) -> None:
        home = self._home / name
        marker_folder = home / "markers"
        marker_folder.mkdir(parents=True)
        components = ("api-server", "dag-processor", "scheduler", "triggerer")
        airflow = self._airflow(home, database, marker_folder, components)
        self._beside[name] = self._stack.enter_context(airflow)

    def variables(self) -> set[str]:
        """Return the keys of all Variables."""
        engine = create_engine(self.database.url, poolclass=NullPool)
        with engine.connect() as connection:
            return set(connection.execute(VARIABLES).scalars())

    def stop_orphans(self) -> None:
        """Run ``polysync records --stop-orphans`` beside Airflow's components."""
        command = [str(self._python.parent / "polysync"), "records", "--stop-orphans"]
        environment = self.airflow.environment()
        subprocess.run(command, check=True, env=environment, cwd=self._home)

    def kill_triggerers(self) -> None:
        """Kill both triggerers with SIGKILL."""
        for name in TRIGGERERS:
            self.airflow.components[name].kill()

    def start_triggerers(self) -> None:
        """Start both triggerers again."""
        for name in TRIGGERERS:
            self.start_triggerer(name)

    def triggerer_of(self, job_id: int | None) -> str | None:
        """
        Return the triggerer with a job id; None if there is none, or if it was
        restarted.
        """
        return next((name for name, job in self._jobs.items() if job == job_id), None)

    @property
    def broker(self) -> RedisServer:
        """The broker of the Celery workers."""
        assert self._broker, "LocalExecutor has no broker"
        return self._broker

    @property
    def cluster(self) -> LoopbackCluster:
        """The cluster of KubernetesExecutor."""
        assert self._cluster, "only KubernetesExecutor has a cluster"
        return self._cluster

    def worker_of(self, pid: int) -> ProcessSession:
        """
        Return the component to which the process of a task belongs: a Celery worker, or
        LocalExecutor's scheduler.

        :param pid: the id of the process.
        :raises ProcessError: if the process has ended, or belongs to another component.
        """
        for name in self.workers or ("scheduler",):
            component = self.airflow.components[name]
            if pid in component.members():
                return component
        raise ProcessError(f"Process {pid} does not belong to a worker")

    def supervise(self) -> None:
        """
        Restart the components that have ended, as Kubernetes does; elsewhere none may
        end.

        :raises ProcessError: one has.
        """
        if self.executor != PODS:
            self.airflow.check_alive()
        elif ended := self.restart_ended():
            print(f"ended and restarted: {', '.join(ended)}", flush=True)

    def evict(self, name: str) -> str:
        """
        End a component as an eviction ends its pod.

        :return: how long it took, as a sentence.
        """
        component, start = self.airflow.components[name], time.monotonic()
        component.signal(signal.SIGTERM)
        in_time = wait_until(
            lambda: not component.members(), timeout=DEFAULT_GRACE_PERIOD
        )
        component.kill()
        seconds = time.monotonic() - start
        return f"{name} {'ended' if in_time else 'was killed'} after {seconds:.0f} s"

    def restart_one_after_the_other(self) -> None:
        """
        Evict each component, and start it again before the next one, as in an upgrade.
        """
        for name in tuple(self.airflow.components):
            self.evict(name)
            if name in TRIGGERERS:
                self.start_triggerer(name)
            else:
                self.airflow.start_component(name)
            if not wait_until(self.airflow.healthy, timeout=REPAIR_TIMEOUT, interval=1):
                raise ProcessError(
                    f"Airflow was not healthy after the restart of {name}"
                )

    def restart_ended(self) -> list[str]:
        """
        Restart the components that have ended, as a service manager does, and return
        their names.
        """
        ended = [name for name in self.airflow.components if not self._runs(name)]
        for name in ended:
            self.airflow.start_component(name)
            self._jobs.pop(name, None)
        return ended

    def repair(self) -> None:
        """
        Restart or continue the components that a test case killed or stopped, and
        remove its faults.
        """
        for component in self.airflow.components.values():
            component.signal(signal.SIGCONT, session=True)
        changed = [
            name
            for name in self.workers
            if self._workers_changed or not self._runs(name)
        ]
        self._start_workers(changed)
        self._workers_changed = False
        if not wait_until(self._runs_again, timeout=REPAIR_TIMEOUT, interval=1):
            raise ProcessError(
                f"Airflow was not healthy again in {REPAIR_TIMEOUT:.0f} s: {self.airflow.health()}"
            )
        for name in TRIGGERERS:
            if name not in self._jobs:
                self.start_triggerer(name)
        self.emulator.control.remove_faults()

    def pause_second_worker(self) -> None:
        """Freeze the second Celery worker, so that the first one gets all tasks."""
        for name in self.workers[1:]:
            self.airflow.components[name].signal(signal.SIGSTOP, session=True)
            # A message that the broker still sends in answer to the worker's last
            # request would be delayed.
            time.sleep(BROKER_REQUEST_SECONDS)

    def resume_second_worker(self) -> None:
        """Let the second Celery worker continue."""
        for name in self.workers[1:]:
            self.airflow.components[name].signal(signal.SIGCONT, session=True)

    def restart_workers_with_short_visibility(self) -> None:
        """
        Restart the Celery workers, so that the broker sends the messages of long tasks
        again.
        """
        self._workers_changed = True
        self._start_workers(self.workers, SHORT_VISIBILITY)

    def worker_log(self) -> str:
        """Return the logs of all Celery workers."""
        return "".join(
            self.airflow.components[name].log.read_text(errors="replace")
            for name in self.workers
        )

    def replace_scheduler(self) -> None:
        """
        Kill the scheduler and the workers of LocalExecutor, as in a crash of the host,
        and start a new scheduler.
        """
        self.airflow.components["scheduler"].kill()
        self.airflow.start_component("scheduler")

    def stop_api_server(self) -> None:
        """Send TERM to Airflow's API server, as for an upgrade."""
        self.airflow.components["api-server"].signal(signal.SIGTERM)

    def api_server_runs(self) -> bool:
        """Return whether a process of Airflow's API server runs."""
        return bool(self.airflow.components["api-server"].members())

    def _runs_again(self) -> bool:
        # After an outage of the database, the scheduler with LocalExecutor ends only
        # when its tasks have ended.
        self.restart_ended()
        return self.airflow.healthy()

    def _runs(self, name: str) -> bool:
        try:
            self.airflow.components[name].check_alive()
        except ProcessError:
            return False
        return True

    def _start_workers(
        self,
        names: Sequence[str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """
        Start or restart Celery workers, all at once, and wait until they can run tasks.
        """
        names = self.workers if names is None else names
        logs = {name: self.airflow.home / f"{name}.log" for name in names}
        sizes = {
            name: log.stat().st_size if log.exists() else 0
            for name, log in logs.items()
        }
        for name in names:
            self.airflow.start_component(name, settings)

        def ready() -> bool:
            for name in names:
                self.airflow.components[name].check_alive()
            return all(
                WORKER_READY in logs[name].read_text(errors="replace")[sizes[name] :]
                for name in names
            )

        if not wait_until(ready, timeout=START_TIMEOUT, interval=0.5):
            raise ProcessError(
                f"The Celery workers {', '.join(names)} were not ready in {START_TIMEOUT:.0f} s"
            )

    def _new_job(self, name: str, before: set[int]) -> int:
        new: set[int] = set()

        def registered() -> bool:
            self.airflow.components[name].check_alive()
            new.update(self.client.jobs("TriggererJob") - before)
            return bool(new)

        if not wait_until(registered, timeout=START_TIMEOUT, interval=0.5):
            raise AirflowError(
                f"{name} did not register a job in {START_TIMEOUT:.0f} s"
            )
        return max(new)

    def _empty_folder(self) -> Path:
        folder = self._home / "definitions"
        folder.mkdir()
        return folder

    def _airflow(
        self,
        home: Path,
        database: str,
        marker_folder: Path,
        components: Sequence[str],
    ) -> PrivateAirflow:
        return PrivateAirflow(
            home,
            dag_folders=[DAG_FOLDERS / self.provider, self.edited.folder],
            connections=self._connections(),
            settings={
                **SETTINGS,
                **self._executor_settings(database),
                "AIRFLOW__CORE__FERNET_KEY": self._fernet_key,
                "AIRFLOW__API__BASE_URL": f"https://{home.name}.example.com",
                markers.FOLDER_VARIABLE: str(marker_folder),
                PYTHONPATH: str(REPOSITORY),
                # otherwise, the package in the current folder would come before the one
                # there
                "PYTHONSAFEPATH": "1",
                **self._more_settings(),
            },
            components=components,
            database=database,
            python=self._python,
            team=TEAM_NAME if self.executor == TEAM else None,
            queues=DEFAULT_QUEUE if self.executor == QUEUES else None,
        )

    def _connections(self) -> dict[str, Mapping[str, Any]]:
        """Return the connections of Airflow, when the emulator runs."""
        emulator = self.emulator.connection
        extra = {
            name: emulator["extra"][name] for name in ("region_name", "endpoint_url")
        }
        if self.training_jobs:
            url = self.training_jobs.endpoint_url
            extra["service_config"] = {"sagemaker": {"endpoint_url": url}}
        return {
            "polysync_default": emulator,
            "aws_default": {**emulator, "conn_type": "aws", "extra": extra},
        }

    def _more_settings(self) -> dict[str, str]:
        return {}

    def _executor_settings(self, database: str) -> dict[str, str]:
        if self.executor == CELERY:
            return celery_settings(self.broker.url, database)
        if self.executor == QUEUES:
            return QUEUE_SETTINGS
        return (
            pod_settings(self._cluster_folder, self._home)
            if self.executor == PODS
            else {}
        )

    def _suite_client(self) -> Any:
        return boto3.client(
            "sagemaker",
            region_name=REGION,
            endpoint_url=self.emulator.endpoint_url,
            aws_access_key_id=SUITE_ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )


def _install_entry_point() -> None:
    """Install the entry point of Airflow's image, if it is missing."""
    if not shutil.which(ENTRY_POINT):
        PackageInstaller(ENTRY_POINT).install(ENTRY_POINT)
