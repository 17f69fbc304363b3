"""The scheduler: which task instances run, and when DAG runs end."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import ENDED, DagRun, TaskInstance
from tests.simulation.journal import Owner
from tests.simulation.kernel import Process

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

# How a resumed task learns that its trigger has failed, or took too long:
# ``TRIGGER_FAIL_REPR`` and ``TriggerFailureReason`` in airflow/models/trigger.py.
FAIL_METHOD: Final = "__fail__"
TRIGGER_FAILURE: Final = "Trigger failure"
TRIGGER_TIMEOUT: Final = "Trigger timeout"
_IDLE_SECONDS: Final = 60.0


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
        while True:
            if not self._has_news:
                kernel.park(max(1.0, min(self._next_due() - kernel.now, _IDLE_SECONDS)))
            self._has_news = False
            kernel.sleep(0.5 + kernel.random.random() * 2)
            if self._deployment.api.is_down("scheduler"):
                self._has_news = True
                continue
            for run in list(self._deployment.db.runs.values()):
                self._schedule(run)
            self._check_trigger_timeouts()
            if self._deployment.db.clean_triggers():
                self._deployment.touch()

    def _next_due(self) -> float:
        """Return when something is due without a change before."""
        db = self._deployment.db
        times = [
            ti.due
            for ti in db.tis.values()
            if ti.state in ("up_for_retry", "up_for_reschedule")
        ]
        for ti in db.tis.values():
            if ti.state == "deferred" and ti.trigger_timeout:
                times.append(ti.trigger_timeout)
        return min(times, default=kernels.KERNEL.now + _IDLE_SECONDS)

    def _check_trigger_timeouts(self) -> None:
        """As ``check_trigger_timeouts`` in airflow/jobs/scheduler_job_runner.py."""
        for ti in self._deployment.db.tis.values():
            timeout = ti.trigger_timeout
            if ti.state == "deferred" and timeout and timeout < kernels.KERNEL.now:
                ti.trigger_id = None
                ti.next_method = FAIL_METHOD
                ti.next_kwargs = {"error": TRIGGER_TIMEOUT}
                self._deployment.set_state(ti, "scheduled")

    def _schedule(self, run: DagRun) -> None:
        """
        As ``_start_queued_dagruns`` and ``_schedule_dag_run`` in airflow/jobs/
        scheduler_job_runner.py. Neither sees the runs of a paused DAG
        (``get_running_dag_runs_to_examine`` in airflow/models/dagrun.py).
        """
        deployment = self._deployment
        if deployment.db.is_paused or run.state not in ("queued", "running"):
            return
        now = kernels.KERNEL.now
        if run.state == "queued" or run.start_date is None:
            run.state = "running"
            run.start_date = datetime.fromtimestamp(now, UTC)
        tis = deployment.db.of_run(run.run_id)
        timeout = deployment.settings.dagrun_timeout
        if timeout and now - run.start_date.timestamp() > timeout:
            for ti in tis:
                if ti.state not in ENDED:
                    deployment.set_state(ti, "skipped")
            self._end_run(run, "failed")
        elif all(ti.state in ENDED for ti in tis):
            self._end_run(run, self._state_of(tis))
        else:
            for ti in tis:
                if ti.state in _WAITING and ti.due <= now:
                    self._next(ti)

    def _state_of(self, tis: list[TaskInstance]) -> str:
        """As ``DagRun.update_state`` in airflow/models/dagrun.py: the leaves count."""
        failed = any(
            ti.state in ("failed", "upstream_failed")
            for ti in tis
            if not self._deployment.tasks[ti.key.task_id].downstream_task_ids
        )
        return "failed" if failed else "success"

    def _end_run(self, run: DagRun, state: str) -> None:
        run.state = state
        owner = Owner(self._deployment.name, run.run_id, "")
        self._deployment.journal.note("run", state, owner)
        self._deployment.listeners.run_ended(run)

    def _next(self, ti: TaskInstance) -> None:
        """
        Queue a task instance if its trigger rule allows it, or defer it. As
        ``DagRun.schedule_tis`` and ``_critical_section_enqueue_task_instances``.
        """
        deployment = self._deployment
        task = deployment.tasks[ti.key.task_id]
        if ti.state != "scheduled":
            state = state_by_rule(task.trigger_rule, self._states_above(ti, task))
            if state is None:
                return
            if state == "queued" and task.inherits_from_empty_operator:
                state = "success"
            if state != "queued":
                deployment.set_state(ti, state)
                return
            if ti.state != "up_for_reschedule":
                ti.try_number += 1
            if getattr(task, "start_from_trigger", False):
                self._defer(ti, task)
                return
        deployment.set_state(ti, "queued")
        deployment.workers.start(ti)

    def _states_above(self, ti: TaskInstance, task: Any) -> list[str | None]:
        keys = (ti.key._replace(task_id=each) for each in task.upstream_task_ids)
        return [
            above.state
            for key in sorted(keys)
            for above in self._deployment.db.of_task(key._replace(map_index=-1))
        ]

    def _defer(self, ti: TaskInstance, task: Any) -> None:
        """As ``TaskInstance.defer_task`` in airflow/models/taskinstance.py."""
        arguments = task.start_trigger_args
        now = kernels.KERNEL.now
        times = [
            now + each.total_seconds()
            for each in (arguments.timeout, task.execution_timeout)
            if each
        ]
        row = self._deployment.db.add_trigger(
            arguments.trigger_cls, arguments.trigger_kwargs or {}
        )
        ti.trigger_id = row.id
        ti.trigger_timeout = min(times, default=None)
        ti.next_method = arguments.next_method
        ti.next_kwargs = dict(arguments.next_kwargs or {})
        self._deployment.set_state(ti, "deferred")

    # ---- ends of tries

    def end_try(self, ti: TaskInstance, *, is_retried: bool) -> None:
        """
        Let a task instance fail, or wait for its retry: what ``ti_update_state`` in
        airflow/api_fastapi/execution_api/routes/ and ``fetch_handle_failure_context``
        in airflow/models/taskinstance.py have in common.
        """
        ti.process = None
        ti.forget_method()
        if not is_retried:
            self._deployment.set_state(ti, "failed")
            return
        if ti.state not in ("restarting", "queued"):
            new_try(ti)
        delay = self._deployment.tasks[ti.key.task_id].retry_delay
        ti.due = kernels.KERNEL.now + delay.total_seconds()
        self._deployment.set_state(ti, "up_for_retry")

    def handle_failure(self, ti: TaskInstance) -> None:
        """
        End a try whose process is gone. As ``process_executor_events`` in airflow/jobs/
        scheduler_job_runner.py and ``TaskInstance.handle_failure``.
        """
        is_retried = self.is_eligible_to_retry(ti)
        self._deployment.workers.call_back_elsewhere(ti, is_retried=is_retried)
        self.end_try(ti, is_retried=is_retried)
        self._deployment.listeners.task_ended(ti, "failed")

    def is_eligible_to_retry(self, ti: TaskInstance) -> bool:
        """As ``TaskInstance.is_eligible_to_retry`` in airflow/models/."""
        if ti.state == "restarting":
            return True
        task = self._deployment.tasks[ti.key.task_id]
        return bool(task.retries and ti.try_number <= ti.max_tries)

    def restart(self, ti: TaskInstance) -> None:
        """
        Let a task run that was cleared while it ran, and whose process has ended. As
        ``process_executor_events`` does for ``restarting``.
        """
        task = self._deployment.tasks[ti.key.task_id]
        ti.process = None
        ti.max_tries = ti.try_number + task.retries
        self._deployment.set_state(ti, None)


_WAITING: Final = (None, "up_for_retry", "up_for_reschedule", "scheduled")


def new_id() -> uuid.UUID:
    """Return the id of a new try."""
    return uuid.UUID(int=kernels.KERNEL.random.getrandbits(128))


def new_try(ti: TaskInstance) -> None:
    """As ``TaskInstance.prepare_db_for_next_try`` in airflow/models/."""
    ti.id = new_id()
    ti.began_at = None


def state_by_rule(rule: str, above: list[str | None]) -> str | None:
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
    if failed:
        return "upstream_failed"
    return "skipped"
