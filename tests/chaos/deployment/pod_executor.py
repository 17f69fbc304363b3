"""
An executor that starts each task as KubernetesExecutor does, in a namespace of processes instead of a pod.

It runs in Airflow's scheduler, and shares only files with the suite: see ``pods.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from airflow.executors.base_executor import BaseExecutor

from tests.chaos.deployment.pods import (
    ENTRY_POINT,
    EXIT_STATUS,
    FOLDER_VARIABLE,
    HAS_ENTRY_POINT,
    LOST,
    RECORD,
)
from tests.system.airflow.executors import CallbacksInOwnSession

# The arguments of pods of KubernetesExecutor: ``args`` in pod_generator.py of Airflow's provider for Kubernetes.
COMMAND: Final = (sys.executable, "-m", "airflow.sdk.execution_time.execute_workload", "--json-string")
# Airflow tells the processes of a task apart by host name and process id, and the ids of a namespace repeat.
NAMED: Final = ("sh", "-c", 'hostname "$0"; exec "$@"')
NAMESPACE: Final = ("unshare", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child", "--")
# What the kubelet does: it keeps the exit status, whichever scheduler runs then.
KEEPS_STATUS: Final = ("sh", "-c", '"$@"; echo $? > "$0.unfinished"; mv "$0.unfinished" "$0"')


class PodExecutor(CallbacksInOwnSession, BaseExecutor):
    """Starts a namespace for each task, and reports what has ended. The namespaces outlive the scheduler."""

    serve_logs = False

    def start(self) -> None:
        """Begin without tasks; those of an earlier scheduler are adopted."""
        self._folder = Path(os.environ[FOLDER_VARIABLE])
        self._pods: dict[str, Any] = {}

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        for workload in workload_items:
            key = self._key(workload.ti)
            # Airflow 3.4 has a queue for each type of workload.
            queues = getattr(self, "executor_queues", None)
            (self.queued_tasks if queues is None else queues[workload.type]).pop(key, None)
            self.running.add(key)
            self._pods[self._start_pod(workload)] = key

    def _key(self, ti: Any) -> Any:
        return self.get_task_key(ti) if hasattr(self, "get_task_key") else ti.key

    def _start_pod(self, workload: Any) -> str:
        ti = workload.ti
        name = f"pod-{len(list(self._folder.glob(f'*{RECORD}')))}"
        entry_point = ENTRY_POINT if (ti.executor_config or {}).get(HAS_ENTRY_POINT, True) else ()
        command = (*NAMESPACE, *NAMED, name, *entry_point, *COMMAND, workload.model_dump_json())
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*KEEPS_STATUS, str(self._folder / f"{name}{EXIT_STATUS}"), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        key = {"dag_id": ti.dag_id, "run_id": ti.run_id, "map_index": ti.map_index, "ti": str(ti.id)}
        record = self._folder / f"{name}{RECORD}"
        record.with_suffix(".unfinished").write_text(json.dumps({"pid": process.pid, **key}))
        record.with_suffix(".unfinished").rename(record)
        return name

    def sync(self) -> None:
        """Report the pods that have ended, except those of a lost node."""
        for name, key in list(self._pods.items()):
            status = self._folder / f"{name}{EXIT_STATUS}"
            if (self._folder / f"{name}{LOST}").exists() or not status.exists():
                continue
            del self._pods[name]
            succeeded = int(status.read_text()) == 0
            self.success(key) if succeeded else self.fail(key)

    def try_adopt_task_instances(self, tis: Sequence[Any]) -> Sequence[Any]:
        """Adopt the pods of an earlier scheduler; return the task instances that have none."""
        records = {file.stem: json.loads(file.read_text()) for file in self._folder.glob(f"*{RECORD}")}
        names = {record["ti"]: name for name, record in records.items()}
        for ti in tis:
            if name := names.get(str(ti.id)):
                self._pods[name] = self._key(ti)
                self.running.add(self._key(ti))
        return [ti for ti in tis if str(ti.id) not in names]

    def end(self) -> None:
        """Report what has ended. The pods go on, as in a cluster whose scheduler is replaced."""
        self.sync()

    def terminate(self) -> None:
        """Do nothing, for the same reason."""
