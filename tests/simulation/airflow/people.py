"""What users do in the UI and with the API."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import ENDED, DagRun, Key, TaskInstance
from tests.simulation.airflow.scheduler import new_id, new_task_instance

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment


class People:
    """The users of a deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def start_run(self, run_id: str) -> bool:
        """Trigger a DAG run; return whether there was none."""
        db = self._deployment.db
        if run_id in db.runs:
            return False
        db.runs[run_id] = DagRun(
            run_id, datetime.fromtimestamp(kernels.KERNEL.now, UTC)
        )
        for task_id, task in self._deployment.tasks.items():
            key = Key(run_id, task_id)
            db.tis[key] = new_task_instance(key, task)
        self._deployment.touch()
        return True

    def mark(self, key: Key, state: str) -> bool:
        """
        Mark a task instance. As ``set_state`` in airflow/serialization/definitions/
        and ``patch_task_instance`` in airflow/api_fastapi/core_api/.
        """
        ti = self._deployment.db.tis.get(key)
        if ti is None or ti.state in ENDED:
            return False
        self._end(ti, state)
        self._deployment.listeners.task_marked(ti)
        return True

    def _end(self, ti: TaskInstance, state: str) -> None:
        process = ti.process
        ti.process = None
        self._deployment.end(ti, state)
        if process:
            self._deployment.workers.end_process(ti, process)

    def clear(self, key: Key, *, downstream: bool) -> list[Key]:
        """
        Clear a task instance, and those below it; return which were cleared. As
        ``clear_task_instances`` in airflow/models/taskinstance.py.
        """
        db = self._deployment.db
        run = db.runs.get(key.run_id)
        if run is None or key not in db.tis:
            return []
        task_ids = self._with_downstream(key.task_id) if downstream else [key.task_id]
        cleared = [ti for ti in db.of_run(run.run_id) if ti.key.task_id in task_ids]
        for ti in cleared:
            self._clear(ti)
        run.clear_number += 1
        if run.state in ("failed", "success"):
            run.state = "queued"
        self._deployment.touch()
        return [ti.key for ti in cleared]

    def _clear(self, ti: TaskInstance) -> None:
        ti.id = new_id()
        if ti.state == "running":
            self._deployment.set_state(ti, "restarting")
            if ti.process:
                self._deployment.workers.end_process(ti, ti.process)
            return
        task = self._deployment.tasks[ti.key.task_id]
        ti.max_tries = ti.try_number + task.retries
        ti.next_method = None
        ti.next_kwargs = {}
        ti.trigger_id = None
        ti.due = 0.0
        self._deployment.set_state(ti, None)

    def _with_downstream(self, task_id: str) -> Iterable[str]:
        found: set[str] = set()
        ahead = {task_id}
        while ahead:
            found |= ahead
            ahead = {
                below
                for each in ahead
                for below in self._deployment.tasks[each].downstream_task_ids
            } - found
        return found

    def pause(self, is_paused: bool) -> None:
        """Pause the DAG, or let it go on."""
        self._deployment.db.is_paused = is_paused
        self._deployment.touch()

    def running(self, run_id: str) -> list[Any]:
        """Return the task instances that have a process."""
        tis = self._deployment.db.of_run(run_id)
        return [ti for ti in tis if ti.process and ti.process.is_alive]
