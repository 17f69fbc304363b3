"""Workers: the processes of tries, and the supervisors that end them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
    conf,
)
from airflow.sdk.exceptions import (
    AirflowRescheduleException,
    AirflowRuntimeError,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
)

from polysync_airflow.retrying import forbids_retry
from tests.fakes.airflow_encoding import delivered
from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import TaskInstance
from tests.simulation.kernel import Process

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

_HEARTBEAT_SECONDS: Final = conf.getfloat("workers", "min_heartbeat_interval")
_MAX_FAILED_HEARTBEATS: Final = conf.getint("workers", "max_failed_heartbeats")
_LOST_HOST_SECONDS: Final = conf.getfloat(
    "scheduler", "task_instance_heartbeat_timeout"
)
# ``kill`` of ``WatchedSubprocess`` in airflow/sdk/execution_time/supervisor.py.
KILL_SECONDS: Final = 5.0
# As that of a pod.
GRACE_SECONDS: Final = 30.0
_FINAL_ERRORS: Final = (AirflowFailException, AirflowSensorTimeout)


@dataclass
class _Session:
    """
    A process that runs a try, as its supervisor knows it.

    :param ti_id: that of the try for which it was started.
    :param should_retry: what Airflow has said at its start.
    :param has_alarm: whether ``execution_timeout`` is over.
    """

    process: Process
    ti: TaskInstance
    ti_id: uuid.UUID
    should_retry: bool = False
    is_executing: bool = False
    has_alarm: bool = False

    def is_current(self, database: Any) -> bool:
        """Return whether the API server accepts what the process reports."""
        return database.holds(self.ti, self.ti_id) and self.ti.state == "running"


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
        session = _Session(process, ti, ti.id)
        process.main = kernels.KERNEL.spawn(process, lambda: self._run(session), "main")

    def _run(self, session: _Session) -> None:
        kernel = kernels.KERNEL
        kernel.sleep(0.2 + kernel.random.random() * 3)
        try:
            if self._begin(session):
                self._run_session(session)
        finally:
            # ``os._exit`` waits for no other thread.
            session.process.kill()

    def _begin(self, session: _Session) -> bool:
        """As ``ti_run`` in airflow/api_fastapi/execution_api/routes/."""
        deployment = self._deployment
        db = deployment.db
        ti = session.ti
        try:
            deployment.api.reach("StartTask")
        except AirflowRuntimeError:
            if ti.state == "queued" and db.holds(ti, session.ti_id):
                deployment.scheduler.handle_failure(ti)
            return False
        if ti.state != "queued" or not db.holds(ti, session.ti_id):
            return False
        session.should_retry = should_retry(ti.try_number, ti.max_tries)
        if not ti.next_method:
            for entry in [each for each in db.xcoms if each[0] == ti.key]:
                del db.xcoms[entry]
        db.begun.add(ti.key[:2])
        ti.process = session.process
        deployment.set_state(ti, "running")
        return True

    def _run_session(self, session: _Session) -> None:
        deployment = self._deployment
        ti = session.ti
        task = deployment.task_of(ti.key)
        context = deployment.context(ti, task)
        session.process.on_signal = lambda: _on_signal(session, task)
        error = self._outcome(session, task, context)
        report = self._report_of(session, task, context, error)
        self._send(session, type(error).__name__, report)
        # Also if the API server refuses the report: ``finalize`` in task_runner.py.
        if isinstance(error, (TaskDeferred, AirflowRescheduleException)):
            return
        if error is not None and not isinstance(error, AirflowSkipException):
            is_retried = self._is_retried(session, task, context, error)
            self.call_back(task, context, is_retried=is_retried)

    def _outcome(self, session: _Session, task: Any, context: Any) -> Any:
        """
        Run a session of a task. As ``_execute_task`` in
        airflow/sdk/execution_time/task_runner.py.

        :return: the exception with which it has ended; None if it has succeeded.
        """
        ti = session.ti
        self._deployment.render(ti.key, task)
        try:
            try:
                session.is_executing = True
                self._set_alarm(session, task)
                if ti.next_method:
                    kwargs = delivered(ti.next_kwargs)
                    result = task.resume_execution(ti.next_method, kwargs, context)
                else:
                    result = task.execute(context)
            except AirflowTaskTimeout:
                session.is_executing = False
                task.on_kill()
                raise
            finally:
                session.is_executing = False
            if result is not None:
                context["ti"].xcom_push("return_value", result)
        except (TaskDeferred, AirflowTaskTimeout, Exception) as error:
            return error
        return None

    def _set_alarm(self, session: _Session, task: Any) -> None:
        """As ``TimeoutPosix`` in airflow/sdk/execution_time/timeout.py."""
        if not task.execution_timeout:
            return
        seconds = task.execution_timeout.total_seconds()

        def ring() -> None:
            kernels.KERNEL.sleep(seconds)
            if session.is_executing:
                session.has_alarm = True
                session.process.signal()

        kernels.KERNEL.spawn(session.process, ring, "alarm")

    def _is_retried(
        self, session: _Session, task: Any, context: Any, error: Any
    ) -> bool:
        """As ``_handle_current_task_failed`` in task_runner.py."""
        policy = getattr(task, "retry_policy", None)
        if isinstance(error, _FINAL_ERRORS):
            return False
        if policy is not None and forbids_retry(policy, error, context):
            return False
        return session.should_retry

    def _report_of(
        self, session: _Session, task: Any, context: Any, error: Any
    ) -> Callable[[], None]:
        """As ``_create_ti_state_update_query_and_update_state`` of the API server."""
        deployment = self._deployment
        ti = session.ti
        if isinstance(error, TaskDeferred):
            return lambda: self._defer(ti, task, error)
        if isinstance(error, AirflowRescheduleException):
            return lambda: _reschedule(deployment, ti, error)
        if isinstance(error, AirflowSkipException):
            return lambda: deployment.end(ti, "skipped")
        if error is None:
            return lambda: deployment.end(ti, "success")
        deployment.told(ti, f"{type(error).__name__}: {error}")
        is_retried = self._is_retried(session, task, context, error)
        return lambda: deployment.scheduler.end_try(ti, is_retried=is_retried)

    def _send(self, session: _Session, name: str, report: Callable[[], None]) -> None:
        """
        Report the end of a session, twice if need be
        (``_replay_pending_terminal_state_msg`` in supervisor.py).
        """
        deployment = self._deployment
        for _ in range(2):
            try:
                deployment.api.reach(name)
            except AirflowRuntimeError:
                continue
            if session.is_current(deployment.db):
                if session.ti.process is session.process:
                    session.ti.process = None
                report()
            kernels.KERNEL.request("answered", "airflow", name)
            return
        if session.is_current(deployment.db):
            deployment.scheduler.handle_failure(session.ti)

    def _defer(self, ti: TaskInstance, task: Any, deferral: TaskDeferred) -> None:
        """As ``_defer_task`` in task_runner.py, and the API server."""
        deployment = self._deployment
        path, kwargs = deferral.trigger.serialize()
        queue = task.queue if deployment.settings.has_queues else None
        ti.trigger_id = deployment.db.add_trigger(path, kwargs, queue).id
        ti.trigger_timeout = None
        if deferral.timeout is not None:
            seconds = deferral.timeout.total_seconds()
            ti.trigger_timeout = kernels.KERNEL.now + seconds
        ti.next_method = deferral.method_name
        ti.next_kwargs = dict(deferral.kwargs or {})
        deployment.set_state(ti, "deferred")

    def call_back(self, task: Any, context: Any, *, is_retried: bool) -> None:
        """As ``_run_task_state_change_callbacks`` in task_runner.py."""
        name = "on_retry_callback" if is_retried else "on_failure_callback"
        for callback in getattr(task, name) or ():
            try:
                callback(context)
            except Exception as error:
                self._deployment.told(None, f"{name}: {error!r}")

    def call_back_elsewhere(self, ti: TaskInstance, *, is_retried: bool) -> None:
        """As ``_execute_task_callbacks`` in airflow/dag_processing/processor.py."""
        deployment = self._deployment
        task = deployment.task_of(ti.key)
        runtime = deployment.context(ti, task)["ti"]
        context = {"ti": runtime, "task": task, "dag": None, "params": {}}
        owner = deployment.owner(ti.key)
        name = f"{deployment.name}.dag_processor"
        process = Process(name, "dag_processor", deployment, owner)
        call = partial(self.call_back, task, context, is_retried=is_retried)
        process.main = kernels.KERNEL.spawn(process, call, "callback")

    # ---- supervisors

    def check(self, ti: TaskInstance) -> None:
        """
        Let the supervisor of a process notice at its next heartbeat that Airflow has
        ended or replaced the try: ``ti_heartbeat`` of the API server answers 404, 409
        or 410. As ``_send_heartbeat_if_needed`` in supervisor.py. The executor then
        reports the end of the process: as ``process_executor_events`` in airflow/jobs/
        scheduler_job_runner.py, which ends a try that ``airflow tasks test`` runs now.
        """
        process = ti.process
        number = ti.try_number
        if process is None or ti.state == "running":
            return
        ti.process = None

        def supervise() -> None:
            kernel = kernels.KERNEL
            kernel.sleep(kernel.random.random() * _HEARTBEAT_SECONDS)
            while self._deployment.api.is_down("worker"):
                kernel.sleep(_HEARTBEAT_SECONDS)
            _terminate(process)
            if ti.state == "restarting":
                self._deployment.scheduler.restart(ti)
            elif ti.state in ("queued", "running") and ti.try_number == number:
                self._deployment.scheduler.handle_failure(ti)

        self._supervise(supervise)

    def miss_heartbeats(self) -> None:
        """
        Let the supervisors end their processes if the API server does not answer: as
        ``_handle_heartbeat_failures`` in supervisor.py.
        """
        for ti in self._deployment.db.tis.values():
            if ti.process and ti.process.is_alive:
                session = _Session(ti.process, ti, ti.id)
                self._supervise(partial(self._heartbeat, session))

    def _heartbeat(self, session: _Session) -> None:
        for _ in range(_MAX_FAILED_HEARTBEATS):
            kernels.KERNEL.sleep(_HEARTBEAT_SECONDS)
            try:
                self._deployment.api.reach("Heartbeat")
            except AirflowRuntimeError:
                continue
            return
        _terminate(session.process)
        if session.ti.process is session.process and session.ti.state == "running":
            self._deployment.scheduler.handle_failure(session.ti)

    def lose(self, ti: TaskInstance, *, with_host: bool) -> None:
        """
        Kill the process of a try, or its host. In the first case, its supervisor tells
        Airflow (``final_state`` in supervisor.py), in the second, only the scheduler
        notices (``_find_and_purge_task_instances_without_heartbeats``).
        """
        process = ti.process
        assert process
        process.kill()

        def notice() -> None:
            kernels.KERNEL.sleep(_LOST_HOST_SECONDS if with_host else 1)
            self._lost(ti, process, with_host=with_host)

        self._supervise(notice)

    def _lost(self, ti: TaskInstance, process: Process, *, with_host: bool) -> None:
        scheduler = self._deployment.scheduler
        if ti.process is not process or ti.state != "running":
            return
        if with_host or scheduler.is_eligible_to_retry(ti):
            if with_host:
                is_retried = ti.try_number <= ti.max_tries
                self.call_back_elsewhere(ti, is_retried=is_retried)
            scheduler.handle_failure(ti)
        else:
            scheduler.end_try(ti, is_retried=False)

    def evict(self, ti: TaskInstance) -> None:
        """
        Send SIGTERM to a supervisor, which hands it on (``_forward_signal`` in
        supervisor.py), and end both when the time of grace is over.
        """
        process = ti.process
        assert process
        process.signal()

        def end() -> None:
            kernels.KERNEL.sleep(GRACE_SECONDS)
            if ti.process is process and process.is_alive:
                self.lose(ti, with_host=True)

        self._supervise(end)

    def _supervise(self, function: Callable[[], None]) -> None:
        process = self._deployment.scheduler.process
        kernels.KERNEL.spawn(process, function, "supervisor")


def should_retry(try_number: int, max_tries: int) -> bool:
    """As ``_is_eligible_to_retry`` in the execution API's routes/task_instances.py."""
    return max_tries != 0 and try_number <= max_tries


def _on_signal(session: _Session, task: Any) -> None:
    if session.has_alarm:
        session.has_alarm = False
        if session.is_executing:
            raise AirflowTaskTimeout("Timeout")
        return
    task.on_kill()


def _terminate(process: Process) -> None:
    """As ``WatchedSubprocess.kill`` in supervisor.py: SIGTERM, then SIGKILL."""
    process.signal()
    end = kernels.KERNEL.now + KILL_SECONDS
    while process.is_alive and kernels.KERNEL.now < end:
        kernels.KERNEL.sleep(1)
    process.kill()


def _reschedule(deployment: Deployment, ti: TaskInstance, error: Any) -> None:
    ti.began_at = ti.began_at or kernels.KERNEL.now
    ti.due = error.reschedule_date.timestamp()
    ti.forget_method()
    deployment.set_state(ti, "up_for_reschedule")
