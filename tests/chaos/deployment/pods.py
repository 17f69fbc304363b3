"""
The pods of a deployment with the executor of ``pod_executor.py``: namespaces of processes on this machine.

The first process of a namespace has the process id 1 in it, as that of a container: it ignores the signals for which it
has no handler, and all others are killed when it ends.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.deployment.packages import PackageInstaller
from tests.system.process.sessions import ProcessError

# The processes of the scheduler inherit this variable.
FOLDER_VARIABLE: Final = "POLYSYNC_CHAOS_PODS"
# The files of a pod: its processes and its task, its exit status, and that its node is lost.
RECORD, EXIT_STATUS, LOST = ".json", ".status", ".lost"
PROGRAM: Final = "dumb-init"
# The entry point of Airflow's image, which images that users make may not have.
ENTRY_POINT: Final = (PROGRAM, "--")
# In the ``executor_config`` of a task.
HAS_ENTRY_POINT: Final = "entry_point"
# Seconds between SIGTERM and SIGKILL: the default of Kubernetes.
GRACE_PERIOD: Final = 30.0


def install_entry_point() -> None:
    """
    Install the entry point, if it is missing.

    :raises ProcessError: if the installation fails; it requires root and apt-get.
    """
    if not shutil.which(PROGRAM):
        PackageInstaller(PROGRAM).install(PROGRAM)


class Pod:
    """
    The processes of one try.

    :param record: the file that the executor has written.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        content = json.loads(record.read_text())
        self.dag_id, self.run_id = content["dag_id"], content["run_id"]
        self._outside = content["pid"]

    @property
    def runs(self) -> bool:
        """Whether the first process of the pod runs."""
        return bool(self._processes())

    def _processes(self) -> list[psutil.Process]:
        """Return the processes in the namespace, the first one first."""
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._outside).children(recursive=True):
                if process.name() == "unshare":
                    inside = process.children(recursive=True)
                    return [each for each in inside if each.status() != psutil.STATUS_ZOMBIE]
        return []

    def _task(self) -> psutil.Process:
        """Return the process of the task: the child of the one that Airflow calls the supervisor."""
        processes = self._processes()
        supervisor = 1 if processes and processes[0].name() == PROGRAM else 0
        if len(processes) <= supervisor + 1:
            raise ProcessError(f"{self._record.stem} has no process of a task: {processes}")
        return processes[supervisor + 1]

    def evict(self) -> Iterator[None]:
        """Send SIGTERM to the first process, and SIGKILL at the end of the grace period; wait until it has ended."""
        first = self._processes()[0]
        start = time.monotonic()
        first.send_signal(signal.SIGTERM)
        while self.runs:
            if time.monotonic() - start > GRACE_PERIOD:
                self.kill()
            yield

    def kill_task(self) -> None:
        """Kill the process of the task, as the kernel does if the memory of the pod is used up."""
        self._task().kill()

    def kill(self) -> None:
        """Kill all processes of the pod."""
        with suppress(psutil.NoSuchProcess, IndexError):
            self._processes()[0].kill()

    def lose(self) -> None:
        """Freeze all processes, of which the executor then learns nothing more."""
        self._record.with_suffix(LOST).touch()
        self._signal(signal.SIGSTOP)

    def come_back(self) -> None:
        """Let the processes of the lost node continue."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Pods:
    """
    All pods of a deployment.

    :param folder: the folder of their files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def of(self, dag_id: str, run_id: str) -> list[Pod]:
        """Return the pods of a DAG run, the oldest first."""
        return [pod for pod in self._all() if (pod.dag_id, pod.run_id) == (dag_id, run_id)]

    def kill(self) -> None:
        """Kill all pods."""
        for pod in self._all():
            pod.kill()

    def _all(self) -> list[Pod]:
        records = sorted(self.folder.glob(f"*{RECORD}"), key=lambda record: int(record.stem.split("-")[1]))
        return [Pod(record) for record in records]
