"""Owns the deployment that the chaos befalls: PostgreSQL, the emulator, and an Airflow with two triggerers."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import boto3

from tests.chaos import marks
from tests.chaos.calls import CallMirror
from tests.chaos.postgres import private_postgres
from tests.system.airflow_client import AirflowError
from tests.system.local_emulator import REGION, SECRET_ACCESS_KEY, LocalEmulator
from tests.system.private_airflow import PrivateAirflow
from tests.system.processes import ProcessError, wait_until

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
FIRST, SECOND = TRIGGERERS = ("triggerer-1", "triggerer-2")
# Emulated time is real time: deadlines and "never two at once" are judged in real seconds.
SPEED: Final = 1.0
# The suite's own requests are not the product's.
OWN_KEY_ID: Final = "AKIACHAOSCHAOSCHAOS0"
START_TIMEOUT: Final = 90.0
# How long a triggerer may be silent before the other takes its triggers.
TRIGGERER_THRESHOLD: Final = 10
# How long a worker may be silent before its task is taken for dead. Generous, since the machine may be busy.
WORKER_THRESHOLD: Final = 20

SETTINGS: Final = {
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__CORE__PARALLELISM": "32",  # many of them wait in a worker, and cost no more than their place
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    "AIRFLOW__DAG_PROCESSOR__PRINT_STATS_INTERVAL": "0",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": f"{WORKER_THRESHOLD}",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": f"{TRIGGERER_THRESHOLD}",
}


class Deployment:
    """
    Everything that can die, while its context is open.

    :param home: an empty folder for logs, settings and marks.
    :param provider: whose operators: ``polysync`` or ``amazon``.
    """

    def __init__(self, home: Path, provider: str) -> None:
        self.provider = provider
        self.logs = home / "logs"
        self.marks = home / "marks"
        self.marks.mkdir()
        self._stack = ExitStack()
        self._home = home
        self._jobs: dict[str, int] = {}

    def __enter__(self) -> Deployment:
        with ExitStack() as stack:
            database = stack.enter_context(private_postgres())
            self.emulator = stack.enter_context(
                LocalEmulator(self._home, speed=SPEED, definitions=self._none())
            )
            self.airflow = stack.enter_context(self._airflow(database))
            self.client = self.airflow.client
            self._jobs[FIRST] = self._only_new(set())
            self.start_triggerer(SECOND)
            self.calls = CallMirror(self.emulator.control, ignored_key=OWN_KEY_ID)
            self.sagemaker = self._own_client()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start_triggerer(self, name: str) -> None:
        """
        Start a triggerer, at first or after its end.

        :raises AirflowError: if it does not report for duty.
        """
        before = self.client.jobs("TriggererJob")
        self.airflow.start_component(name)
        self._jobs[name] = self._only_new(before)

    def triggerer_of(self, job_id: int | None) -> str | None:
        """Tell which triggerer has a job id; None if it is nobody's, or of one that has ended."""
        return next((name for name, job in self._jobs.items() if job == job_id), None)

    def repair(self) -> None:
        """Bring back what a row has killed or stopped."""
        for name in TRIGGERERS:
            triggerer = self.airflow.components[name]
            triggerer.signal(signal.SIGCONT, session=True)
            try:
                triggerer.check_alive()
            except ProcessError:
                self.start_triggerer(name)
        self.emulator.control.remove_faults()

    def replace_scheduler(self) -> None:
        """Kill the scheduler and all its workers, and start another, as after a crash of their host."""
        self.airflow.components["scheduler"].kill()
        self.airflow.start_component("scheduler")

    def stop_api_server(self) -> None:
        """End Airflow's API server, as for an upgrade."""
        self.airflow.components["api-server"].signal(signal.SIGTERM)

    def api_server_runs(self) -> bool:
        """Tell whether anything of Airflow's API server runs."""
        return bool(self.airflow.components["api-server"].members())

    def _only_new(self, before: set[int]) -> int:
        new: set[int] = set()

        def reports() -> bool:
            self.airflow.check_alive()
            new.update(self.client.jobs("TriggererJob") - before)
            return bool(new)

        if not wait_until(reports, timeout=START_TIMEOUT, interval=0.5):
            raise AirflowError(f"A triggerer does not report after {START_TIMEOUT:.0f} s")
        return max(new)

    def _none(self) -> Path:
        folder = self._home / "definitions"
        folder.mkdir()
        return folder

    def _airflow(self, database: str) -> PrivateAirflow:
        emulator = self.emulator.connection
        extra = {name: emulator["extra"][name] for name in ("region_name", "endpoint_url")}
        return PrivateAirflow(
            self._home,
            dag_folders=[HERE / "dags" / self.provider],
            connections={
                "polysync_default": emulator,
                "aws_default": {**emulator, "conn_type": "aws", "extra": extra},
            },
            settings={**SETTINGS, marks.FOLDER_VARIABLE: str(self.marks), "PYTHONPATH": str(ROOT)},
            components=("api-server", "dag-processor", "scheduler", FIRST),
            database=database,
        )

    def _own_client(self) -> Any:
        return boto3.client(
            "sagemaker",
            region_name=REGION,
            endpoint_url=self.emulator.endpoint_url,
            aws_access_key_id=OWN_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )
