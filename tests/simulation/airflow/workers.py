"""Workers: the processes of tries, and the supervisors that end them."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

from polysync_airflow.retrying import forbids_retry
from tests.fakes.airflow_encoding import delivered
from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import TaskInstance, TriggerRow
from tests.simulation.kernel import Process

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

HEARTBEAT_SECONDS: Final = 5.0
KILL_SECONDS: Final = 5.0
LOST_HOST_SECONDS: Final = 300.0
# How a resumed task learns that its trigger has failed.
FAIL_METHOD: Final = "__fail__"


class TriggerFailureError(Exception):
    """A trigger has raised an error."""


class Workers:
    """The workers of a deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._numbers: dict[str, int] = {}

    def start(self, ti: TaskInstance) -> None:
        """Start a process for a queued task instance."""
        deployment = self._deployment
        owner = deployment.owner(ti.key)
        number = self._numbers[str(owner)] = self._numbers.get(str(owner), 0) + 1
        process = Process(f"{owner}.{number}", "worker", deployment, owner)
        ti_id = ti.id
        process.main = kernels.KERNEL.spawn(
            process, lambda: self._run(process, ti, ti_id), "main"
        )

    def _run(self, process: Process, ti: TaskInstance, ti_id: uuid.UUID) -> None:
        kernel = kernels.KERNEL
        deployment = self._deployment
        db = deployment.db
        kernel.sleep(0.2 + kernel.random.random() * 3)
        if ti.state != "queued" or not db.holds(ti, ti_id):
            return
        deployment.set_state(ti, "running")
        ti.process = process
        if not ti.has_begun:
            # As ``ti_run`` in airflow/api_fastapi/execution_api/routes/.
            ti.has_begun = True
            for entry in [each for each in db.xcoms if each[0] == ti.key]:
                del db.xcoms[entry]
        task = deployment.parse()[ti.key.task_id]
        context = deployment.context(ti, task)
        method = ti.next_method or "execute"
        kwargs = delivered(ti.next_kwargs)
        ti.next_method = None
        ti.next_kwargs = {}
        process.on_signal = task.on_kill
        result = self._outcome(task, method, context, kwargs)
        kernel.sleep(0.01 + kernel.random.random() * 0.1)
        if ti.state != "running" or not db.holds(ti, ti_id):
            # The API server refuses the report.
            return
        ti.process = None
        self._finish(ti, task, context, result)

    def _outcome(
        self, task: Any, method: str, context: Any, kwargs: dict[str, Any]
    ) -> Any:
        """
        Run a session of a task. As ``run`` in
        airflow/sdk/execution_time/task_runner.py.

        :return: the exception with which it has ended; None if it has succeeded.
        """
        deployment = self._deployment
        deployment.render(task)
        try:
            if method == FAIL_METHOD:
                raise TriggerFailureError
            result = getattr(task, method)(context, **kwargs)
            if result is not None:
                context["ti"].xcom_push("return_value", result)
        except (TaskDeferred, Exception) as error:
            return error
        return None

    def _finish(self, ti: TaskInstance, task: Any, context: Any, error: Any) -> None:
        deployment = self._deployment
        if isinstance(error, TaskDeferred):
            self._defer(ti, error)
        elif error is None:
            deployment.end(ti, "success")
        elif isinstance(error, AirflowSkipException):
            deployment.end(ti, "skipped")
        else:
            deployment.told(ti.key, f"{type(error).__name__}: {error}")
            policy = getattr(task, "retry_policy", None)
            is_final = isinstance(error, AirflowFailException) or (
                policy is not None and forbids_retry(policy, error, context)
            )
            deployment.scheduler.fail(ti, is_final=is_final)
            if ti.state == "failed":
                self.call_back(task, context)

    def _defer(self, ti: TaskInstance, deferral: TaskDeferred) -> None:
        db = self._deployment.db
        path, kwargs = deferral.trigger.serialize()
        db.last_trigger_id += 1
        row = TriggerRow(db.last_trigger_id, path, kwargs, ti.key, ti.id, ti.try_number)
        db.triggers[row.id] = row
        ti.trigger_id = row.id
        ti.next_method = deferral.method_name
        ti.next_kwargs = dict(deferral.kwargs or {})
        self._deployment.set_state(ti, "deferred")

    def call_back(self, task: Any, context: Any) -> None:
        """Call the failure callbacks of a task."""
        for callback in task.on_failure_callback or ():
            try:
                callback(context)
            except Exception as error:
                self._deployment.told(None, f"failure callback: {error!r}")

    def end_process(self, ti: TaskInstance, process: Process) -> None:
        """
        End a process whose try Airflow has ended or replaced: SIGTERM, then SIGKILL. As
        ``ActivitySubprocess._send_heartbeat_if_needed`` and ``kill`` in
        airflow/sdk/execution_time/supervisor.py.
        """
        kernel = kernels.KERNEL

        def supervise() -> None:
            kernel.sleep(kernel.random.random() * HEARTBEAT_SECONDS)
            process.signal()
            kernel.sleep(KILL_SECONDS)
            process.kill()
            if ti.state == "restarting":
                self._deployment.scheduler.fail(ti)

        kernel.spawn(self._deployment.scheduler.process, supervise, "supervisor")

    def lose(self, ti: TaskInstance, *, with_host: bool) -> None:
        """
        Kill the process of a try, or its host. Then only the scheduler notices: as
        ``_find_and_purge_task_instances_without_heartbeats`` in
        airflow/jobs/scheduler_job_runner.py.
        """
        kernel = kernels.KERNEL
        process = ti.process
        assert process
        process.kill()
        ti_id = ti.id

        def notice() -> None:
            kernel.sleep(LOST_HOST_SECONDS if with_host else 1)
            is_same = ti.state == "running" and ti.id == ti_id
            if ti.process is not process or not (is_same or ti.state == "restarting"):
                return
            task = self._deployment.parse()[ti.key.task_id]
            context = self._deployment.context(ti, task)
            self._deployment.scheduler.fail(ti)
            if ti.state == "failed" and with_host:
                self._call_back_elsewhere(task, context)

        kernel.spawn(self._deployment.scheduler.process, notice, "heartbeats")

    def _call_back_elsewhere(self, task: Any, context: Any) -> None:
        """As ``_execute_task_callbacks`` in airflow/dag_processing/processor.py."""
        deployment = self._deployment
        ti = context["ti"]
        context = {"ti": ti, "task": task, "dag": None, "params": {}}
        name = f"{deployment.name}.dag_processor"
        owner = deployment.owner_of(ti)
        process = Process(name, "dag_processor", deployment, owner)
        call = lambda: self.call_back(task, context)  # noqa: E731
        process.main = kernels.KERNEL.spawn(process, call, "callback")


def dag_run_in_context(run: Any) -> Any:
    """Return the DAG run that the code of a task sees."""
    return SimpleNamespace(
        run_id=run.run_id, start_date=run.start_date, clear_number=run.clear_number
    )
