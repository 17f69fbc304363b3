"""What users do in the UI, with the API and with commands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import DagRun, Key, TaskInstance
from tests.simulation.airflow.doors import Session
from tests.simulation.airflow.scheduler import new_id, new_try
from tests.simulation.kernel import Process

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

_FAILED = ("failed", "upstream_failed")
_FINISHED = ("success", "failed", "skipped", "upstream_failed", "removed")
_RUNNING = ("running", "deferred", "up_for_reschedule")


class People:
    """The users of a deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    # ---- runs

    def start_run(self, run_id: str) -> bool:
        """Trigger a DAG run; return whether there was none."""
        deployment = self._deployment
        if run_id in deployment.db.runs:
            return False
        date = datetime.fromtimestamp(kernels.KERNEL.now - 1, UTC)
        deployment.db.runs[run_id] = DagRun(run_id, date)
        for task_id, task in deployment.tasks.items():
            for map_index in deployment.map_indexes(task_id):
                key = Key(run_id, task_id, map_index)
                deployment.db.tis[key] = TaskInstance(key, new_id(), task.retries)
        deployment.touch()
        return True

    def mark_run(self, run_id: str, state: str) -> bool:
        """
        Mark a DAG run. As ``patch_dag_run_state`` in airflow/api_fastapi/core_api/
        services/public/dag_run.py and ``_set_dag_run_terminal_state`` in
        airflow/api/common/mark_tasks.py.
        """
        deployment = self._deployment
        run = deployment.db.runs.get(run_id)
        if run is None:
            return False
        tis = deployment.db.of_run(run_id)
        killed = [ti for ti in tis if ti.state in _RUNNING]
        for ti in tis:
            if ti.state not in (*_RUNNING, *_FINISHED):
                deployment.set_state(ti, "skipped")
        run.state = state
        for ti in killed:
            # It takes all instances of a mapped task.
            for each in deployment.db.of_task(ti.key._replace(map_index=-1)):
                if each.state != state:
                    deployment.set_state(each, state)
        session = Session(deployment)
        for ti in killed:
            deployment.listeners.task_ended(ti, state, session)
        deployment.listeners.run_ended(run, session)
        return True

    def delete_run(self, run_id: str) -> bool:
        """
        Delete a DAG run: as ``delete_dag_run`` in airflow/api_fastapi/core_api/routes/
        public/dag_run.py, which answers 409 while it runs, and calls no listener.
        """
        run = self._deployment.db.runs.get(run_id)
        if run is None or run.state == "running":
            return False
        self._delete(run_id)
        return True

    def delete_dag(self) -> bool:
        """Delete the DAG: as ``delete_dag`` in airflow/api/common/delete_dag.py."""
        db = self._deployment.db
        if any(ti.state == "running" for ti in db.tis.values()):
            return False
        for run_id in list(db.runs):
            self._delete(run_id)
        return True

    def _delete(self, run_id: str) -> None:
        deployment = self._deployment
        db = deployment.db
        del db.runs[run_id]
        for ti in db.of_run(run_id):
            deployment.set_state(ti, "deleted")
            del db.tis[ti.key]
        for entry in [each for each in db.xcoms if each[0].run_id == run_id]:
            del db.xcoms[entry]

    def pause(self, is_paused: bool) -> None:
        """Pause the DAG, or let it go on."""
        self._deployment.db.is_paused = is_paused
        self._deployment.touch()

    # ---- tasks

    def mark(self, key: Key, state: str) -> bool:
        """
        Mark a task instance. As ``_patch_task_instance_state`` in airflow/api_fastapi/
        core_api/services/public/task_instances.py and ``set_task_instance_state`` in
        airflow/serialization/definitions/dag.py.
        """
        deployment = self._deployment
        marked = [ti for ti in deployment.db.of_task(key) if ti.state != state]
        for ti in marked:
            deployment.set_state(ti, state)
        if not marked:
            return False
        below = [
            ti
            for task_id in self._relatives(key.task_id) - {key.task_id}
            for ti in deployment.db.of_task(Key(key.run_id, task_id))
        ]
        self._clear_all([ti for ti in below if ti.state in _FAILED])
        session = Session(deployment)
        for ti in marked:
            deployment.listeners.task_ended(ti, state, session)
        return True

    def clear(
        self,
        key: Key,
        *,
        downstream: bool = True,
        upstream: bool = False,
        only_failed: bool = False,
    ) -> bool:
        """
        Clear a task instance, and its relatives on demand; all task instances of the
        run if the key names no task. Return whether there are any. As ``DAG.clear`` in
        airflow/serialization/definitions/dag.py.
        """
        tis = self._deployment.db.of_run(key.run_id)
        if key.task_id:
            relatives = {key.task_id}
            if downstream:
                relatives |= self._relatives(key.task_id)
            if upstream:
                relatives |= self._relatives(key.task_id, "upstream_task_ids")
            tis = [ti for ti in tis if ti.key.task_id in relatives]
        if only_failed:
            tis = [ti for ti in tis if ti.state in _FAILED]
        self._clear_all(tis)
        return bool(tis)

    def _clear_all(self, tis: list[TaskInstance]) -> None:
        """As ``clear_task_instances`` in airflow/models/taskinstance.py."""
        deployment = self._deployment
        for ti in tis:
            new_try(ti)
            if ti.state == "running":
                deployment.set_state(ti, "restarting")
                continue
            task = deployment.tasks[ti.key.task_id]
            ti.max_tries = ti.try_number + task.retries
            ti.forget_method()
            ti.due = 0.0
            deployment.set_state(ti, None)
        for run_id in sorted({ti.key.run_id for ti in tis}):
            run = deployment.db.runs[run_id]
            run.clear_number += 1
            if run.state in ("failed", "success"):
                run.state = "queued"
                run.start_date = None

    def _relatives(
        self, task_id: str, direction: str = "downstream_task_ids"
    ) -> set[str]:
        found: set[str] = set()
        ahead = {task_id}
        while ahead:
            found |= ahead
            ahead = {
                relative
                for each in ahead
                for relative in getattr(self._deployment.tasks[each], direction)
            } - found
        return found

    def test_task(self, key: Key) -> bool:
        """
        ``airflow tasks test``, beside the DAG run: it makes the task instance queued
        and starts it, in the same try. A deferred one goes on without an event. As
        ``_run_task`` in airflow/sdk/definitions/dag.py.
        """
        ti = self._deployment.db.tis.get(key)
        if ti is None or not ti.try_number:
            # Before the first try, its number would be 0.
            return False
        self._deployment.set_state(ti, "queued")
        self._deployment.workers.start(ti)
        return True

    def running(self, run_id: str) -> list[TaskInstance]:
        """Return the task instances that have a process."""
        tis = self._deployment.db.of_run(run_id)
        return [ti for ti in tis if ti.process and ti.process.is_alive]

    def sweep(self) -> None:
        """``polysync records --stop-orphans``."""
        from polysync_airflow.watch.sweep import stop_orphans

        name = f"{self._deployment.name}.sweep"
        process = Process(name, "command", self._deployment)

        def run() -> None:
            for swept in stop_orphans(None):
                self._deployment.told(None, f"sweep: {swept.result}: {swept.text}")

        process.main = kernels.KERNEL.spawn(process, run, "sweep")
