"""The deployment whose processes the suite kills: PostgreSQL, the emulator, and an Airflow with two triggerers."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import boto3

from tests.chaos import markers
from tests.chaos.deployment.call_log import CallLog
from tests.chaos.deployment.postgres import private_postgres
from tests.system.airflow.client import AirflowError
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.emulator_process import REGION, SECRET_ACCESS_KEY, EmulatorProcess
from tests.system.process.sessions import ProcessError, wait_until

DAG_FOLDERS: Final = Path(__file__).parents[1] / "dags"
REPOSITORY: Final = Path(__file__).parents[3]
FIRST, SECOND = TRIGGERERS = ("triggerer-1", "triggerer-2")
# Emulated time is real time, because deadlines and overlapping executions are checked in real seconds.
SPEED: Final = 1.0
# Distinguishes the suite's own calls from those of the provider.
SUITE_ACCESS_KEY_ID: Final = "AKIACHAOSCHAOSCHAOS0"
START_TIMEOUT: Final = 90.0
# Seconds without a heartbeat after which the other triggerer takes over a triggerer's triggers.
TRIGGERER_THRESHOLD: Final = 10
# Seconds without a heartbeat after which a task counts as dead. Long, because the machine may be busy.
WORKER_THRESHOLD: Final = 20

SETTINGS: Final = {
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__CORE__PARALLELISM": "32",  # high, because tasks that wait in a worker need almost no CPU
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    "AIRFLOW__DAG_PROCESSOR__PRINT_STATS_INTERVAL": "0",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": f"{WORKER_THRESHOLD}",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": f"{TRIGGERER_THRESHOLD}",
}


class AirflowDeployment:
    """
    Context manager that runs the deployment.

    :param home: an empty folder for logs, settings and marker files.
    :param provider: the provider whose operators run: ``polysync`` or ``amazon``.
    """

    def __init__(self, home: Path, provider: str) -> None:
        self.provider = provider
        self.logs = home / "logs"
        self.markers = home / "markers"
        self.markers.mkdir()
        self._stack = ExitStack()
        self._home = home
        self._jobs: dict[str, int] = {}

    def __enter__(self) -> AirflowDeployment:
        with ExitStack() as stack:
            database = stack.enter_context(private_postgres())
            self.emulator = stack.enter_context(
                EmulatorProcess(self._home, speed=SPEED, definitions=self._empty_folder())
            )
            self.airflow = stack.enter_context(self._airflow(database))
            self.client = self.airflow.client
            self._jobs[FIRST] = self._new_job(set())
            self.start_triggerer(SECOND)
            self.calls = CallLog(self.emulator.control, ignored_key=SUITE_ACCESS_KEY_ID)
            self.sagemaker = self._suite_client()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start_triggerer(self, name: str) -> None:
        """
        Start or restart a triggerer.

        :param name: the name of the component, for example ``triggerer-2``.
        :raises AirflowError: if it does not register a job in time.
        """
        before = self.client.jobs("TriggererJob")
        self.airflow.start_component(name)
        self._jobs[name] = self._new_job(before)

    def triggerer_of(self, job_id: int | None) -> str | None:
        """Return the triggerer with a job id; None if there is none, or if it was restarted."""
        return next((name for name, job in self._jobs.items() if job == job_id), None)

    def repair(self) -> None:
        """Restart or continue the triggerers that a test case killed or stopped, and remove its faults."""
        for name in TRIGGERERS:
            triggerer = self.airflow.components[name]
            triggerer.signal(signal.SIGCONT, session=True)
            try:
                triggerer.check_alive()
            except ProcessError:
                self.start_triggerer(name)
        self.emulator.control.remove_faults()

    def replace_scheduler(self) -> None:
        """Kill the scheduler and all its workers, as in a crash of their host, and start a new scheduler."""
        self.airflow.components["scheduler"].kill()
        self.airflow.start_component("scheduler")

    def stop_api_server(self) -> None:
        """Send TERM to Airflow's API server, as for an upgrade."""
        self.airflow.components["api-server"].signal(signal.SIGTERM)

    def api_server_runs(self) -> bool:
        """Return whether a process of Airflow's API server runs."""
        return bool(self.airflow.components["api-server"].members())

    def _new_job(self, before: set[int]) -> int:
        new: set[int] = set()

        def registered() -> bool:
            self.airflow.check_alive()
            new.update(self.client.jobs("TriggererJob") - before)
            return bool(new)

        if not wait_until(registered, timeout=START_TIMEOUT, interval=0.5):
            raise AirflowError(f"The triggerer did not register a job in {START_TIMEOUT:.0f} s")
        return max(new)

    def _empty_folder(self) -> Path:
        folder = self._home / "definitions"
        folder.mkdir()
        return folder

    def _airflow(self, database: str) -> PrivateAirflow:
        emulator = self.emulator.connection
        extra = {name: emulator["extra"][name] for name in ("region_name", "endpoint_url")}
        return PrivateAirflow(
            self._home,
            dag_folders=[DAG_FOLDERS / self.provider],
            connections={
                "polysync_default": emulator,
                "aws_default": {**emulator, "conn_type": "aws", "extra": extra},
            },
            settings={**SETTINGS, markers.FOLDER_VARIABLE: str(self.markers), "PYTHONPATH": str(REPOSITORY)},
            components=("api-server", "dag-processor", "scheduler", FIRST),
            database=database,
        )

    def _suite_client(self) -> Any:
        return boto3.client(
            "sagemaker",
            region_name=REGION,
            endpoint_url=self.emulator.endpoint_url,
            aws_access_key_id=SUITE_ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )
