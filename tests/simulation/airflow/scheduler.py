"""The scheduler: which task instances run, and when DAG runs end."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import ENDED, DagRun, Key, TaskInstance
from tests.simulation.kernel import Process

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

RETRY_DELAY_SECONDS: Final = 20.0


class Scheduler:
    """The process that schedules tasks."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.process = Process(f"{deployment.name}.scheduler", "scheduler", deployment)
        self._has_news = True
        self._fiber = kernels.KERNEL.spawn(self.process, self._run, "scheduler")

    def touch(self) -> None:
        """Look soon: something has changed."""
        if self._has_news:
            return
        self._has_news = True
        if self._fiber is not kernels.KERNEL.current:
            kernels.KERNEL.wake(self._fiber)

    def _run(self) -> None:
        kernel = kernels.KERNEL
        db = self._deployment.db
        while True:
            if not self._has_news:
                # What waits for a time is looked at often enough.
                waits = any(ti.state == "up_for_retry" for ti in db.tis.values())
                kernel.park(5 if waits else 60)
            self._has_news = False
            kernel.sleep(0.5 + kernel.random.random() * 2)
            for run in list(db.runs.values()):
                self._schedule(run)
            self._clean_triggers()

    def _clean_triggers(self) -> None:
        """As ``Trigger.clean_unused`` in airflow/models/trigger.py."""
        db = self._deployment.db
        used = {ti.trigger_id for ti in db.tis.values() if ti.state == "deferred"}
        for row_id in [each for each in db.triggers if each not in used]:
            del db.triggers[row_id]
            self._deployment.touch()

    def _schedule(self, run: DagRun) -> None:
        """
        As ``_schedule_dag_run`` in airflow/jobs/scheduler_job_runner.py and
        ``DagRun.update_state`` in airflow/models/dagrun.py.
        """
        db = self._deployment.db
        now = kernels.KERNEL.now
        tis = db.of_run(run.run_id)
        if run.state == "queued":
            run.state = "running"
            run.start_date = datetime.fromtimestamp(now, UTC)
        if run.state != "running" or db.is_paused:
            return
        timeout = self._deployment.settings.dagrun_timeout
        if timeout and now - run.start_date.timestamp() > timeout:
            for ti in tis:
                if ti.state not in ENDED:
                    self._deployment.end(ti, "skipped")
            self._end_run(run, "failed")
        elif all(ti.state in ENDED for ti in tis):
            failed = any(ti.state in ("failed", "upstream_failed") for ti in tis)
            self._end_run(run, "failed" if failed else "success")
        else:
            for ti in tis:
                is_waiting = ti.state in (None, "up_for_retry", "scheduled")
                if is_waiting and ti.due <= now:
                    self._next(ti)

    def _end_run(self, run: DagRun, state: str) -> None:
        run.state = state
        self._deployment.journal.note("run", f"{run.run_id} is {state}")
        self._deployment.listeners.run_ended(run)

    def _next(self, ti: TaskInstance) -> None:
        """Queue a task instance if its trigger rule allows it."""
        deployment = self._deployment
        if ti.next_method is None:
            task = deployment.tasks[ti.key.task_id]
            above = [
                deployment.db.tis[ti.key._replace(task_id=each, map_index=-1)].state
                for each in sorted(task.upstream_task_ids)
            ]
            state = _state_by_rule(task.trigger_rule, above)
            if state is None:
                return
            if state != "queued":
                deployment.end(ti, state)
                return
            if type(task).__name__ == "EmptyOperator":
                deployment.end(ti, "success")
                return
            ti.try_number += 1
            ti.has_begun = False
        deployment.set_state(ti, "queued")
        deployment.workers.start(ti)

    def fail(self, ti: TaskInstance, *, is_final: bool = False) -> None:
        """
        Let a task instance wait for its retry, or fail. As
        ``fetch_handle_failure_context`` in airflow/models/taskinstance.py.
        """
        is_restarting = ti.state == "restarting"
        ti.process = None
        if not is_restarting and (is_final or ti.try_number > ti.max_tries):
            self._deployment.end(ti, "failed")
            return
        if not is_restarting:
            ti.id = new_id()
        ti.next_method = None
        ti.due = kernels.KERNEL.now
        if not is_restarting:
            ti.due += RETRY_DELAY_SECONDS
        self._deployment.set_state(ti, "up_for_retry")


def new_id() -> uuid.UUID:
    """Return the id of a new try."""
    return uuid.UUID(int=kernels.KERNEL.random.getrandbits(128))


def new_task_instance(key: Key, task: Any) -> TaskInstance:
    """Return the row of a task instance that has not run."""
    return TaskInstance(key, new_id(), task.retries)


def _state_by_rule(rule: str, above: list[str | None]) -> str | None:
    """
    Return the state that a trigger rule leads to: ``queued``, one of an end, or None
    to wait. As ``_evaluate_trigger_rule`` in airflow/ti_deps/deps/trigger_rule_dep.py.
    """
    failed = any(state in ("failed", "upstream_failed") for state in above)
    is_done = all(state in ENDED for state in above)
    if rule == "all_success":
        if failed:
            return "upstream_failed"
        if "skipped" in above:
            return "skipped"
        return "queued" if is_done else None
    if "success" in above:
        return "queued"
    if not is_done:
        return None
    return "upstream_failed" if failed else "skipped"
