"""A simulated task instance, in the way that Airflow runs it over several tries."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from polysync_airflow.airflow_compat.sdk import (
    TRIGGER_TIMEOUT,
    RetryAction,
    RetryDecision,
    RetryPolicy,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.operators import (
    PolysyncRunJobOperator,
    PolysyncStartPipelineOperator,
)
from polysync_airflow.operators.step_tasks import PolysyncStepsExecutionOperator
from polysync_airflow.records.keys import RECORD_KEY
from polysync_airflow.records.store import CONFIRMED_SECONDS
from polysync_airflow.states import DELETED
from sagemaker_emulator.sagemaker.store import ExecutionRecord
from tests.fakes.airflow_service import DEPLOYMENT
from tests.fakes.json_store import JsonStore
from tests.fakes.simulated_airflow import AIRFLOW
from tests.tasks import (
    DagRun,
    EmulatedTime,
    Run,
    TaskInstance,
    allow_execute_in_this_thread,
    cause_of,
    fire,
    run_task,
)

STEPS = ("Shard0", "Shard3", "Merge")
MERGE_FAILS = {"steps": {"Merge": {"fail": {"reason": "AlgorithmError: no data"}}}}


def merge_fails(times: int) -> dict[str, Any]:
    """Return the scenario in which the last step fails at its first attempts."""
    failure = {"reason": "AlgorithmError: no data", "times": times}
    return {"steps": {"Merge": {"fail": failure}}}


MERGE_FAILS_ONCE = merge_fails(1)
MERGE_FAILS_TWICE = merge_fails(2)

JOB_ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
PROCESSING: dict[str, Any] = {
    "ProcessingJobName": "report-{{ ds }}",
    "RoleArn": JOB_ROLE,
    "AppSpecification": {
        "ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/report:1",
        "ContainerArguments": ["--day", "{{ ds }}"],
    },
    "Environment": {"DAY": "{{ ds }}"},
    "ProcessingResources": {
        "ClusterConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": "{{ params.n }}",
            "VolumeSizeInGB": 10,
        }
    },
}


class CrashError(BaseException):
    """
    Simulates that the task's process ends at once: no ``except Exception`` of its own
    code runs.
    """


def crash(*_: Any) -> None:
    """End the task's process at once."""
    raise CrashError


class RetryEverything(RetryPolicy):
    """The policy of a DAG author who wants retries after every error."""

    def evaluate(self, *_: Any, **__: Any) -> RetryDecision:
        """Return Airflow's own decision."""
        return RetryDecision.default()


@dataclass
class Task:
    """
    Simulates one task instance over several tries, in the way that Airflow runs it.

    :param deferrable: whether the task defers or waits on the worker.
    :param arguments: the operator's arguments in the DAG.
    :param retries: the task's retries in the DAG.
    """

    make_operator: ClassVar[type[PolysyncStartPipelineOperator]] = (
        PolysyncStartPipelineOperator
    )
    deferrable: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    retries: int = 2
    task_id: str = "train"
    dag_id: str = "retraining"
    run_id: str = "scheduled__2026-01-01T00:00:00+00:00"
    map_index: int = -1
    store: JsonStore = field(default_factory=JsonStore)
    try_number: int = 0
    state: str = "scheduled"
    dag_run: DagRun = field(default_factory=DagRun)
    deployment: str | None = DEPLOYMENT
    reschedules: int = 0
    first_session: datetime | None = None

    def __post_init__(self) -> None:
        self.max_tries = self.retries
        self.operator = self._make_operator({})
        self.ti = TaskInstance(self.task_id)

    @property
    def finished(self) -> bool:
        """Whether the task instance is in a final state."""
        return self.state in ("success", "failed", "skipped")

    @property
    def record(self) -> Any:
        """The record that the tries have stored."""
        return self.store.get(RECORD_KEY)

    @property
    def last_record(self) -> Any:
        """
        The record that the tries have stored last, even if the task has deleted it
        because it succeeded.
        """
        return self.record or self.store.deleted.get(RECORD_KEY)

    @property
    def key(self) -> TaskKey:
        """What identifies the task instance."""
        return TaskKey(self.dag_id, self.run_id, self.task_id, self.map_index)

    def prepare_try(self, **arguments: Any) -> PolysyncStartPipelineOperator:
        """
        Create the operator of the next try, which ``run_prepared_try`` then runs.

        :param arguments: arguments that replace those of the DAG, as templates may
            render differently in each try.
        """
        self.operator = self._make_operator(arguments)
        return self.operator

    def run_prepared_try(self) -> Run:
        """
        Run the operator that ``prepare_try`` created, to the end of the try.

        The new try has no XComs of earlier tries, but the record is kept.
        """
        operator = self.operator
        ti = self._begin_try()
        try:
            run = run_task(operator, ti)
        except CrashError as crash_error:
            run = Run(ti, error=crash_error)
        except AirflowTaskTimeout as timeout:
            # Like ``_execute_task`` in airflow/sdk/execution_time/task_runner.py.
            operator.on_kill()
            run = Run(ti, error=timeout)
        if ti is self.ti and self.state == "running":
            self.state = self._state_after(run)
        return run

    def _begin_try(self) -> TaskInstance:
        if self.state == "up_for_reschedule":
            # ``ti_run`` in airflow/api_fastapi/execution_api/routes/task_instances.py
            # deletes the XComs here, too.
            self.reschedules += 1
        else:
            self.try_number += 1
            self.reschedules, self.first_session = 0, None
        self.state = "running"
        self.ti = TaskInstance(
            self.task_id,
            self.dag_id,
            self.run_id,
            self.map_index,
            self.try_number,
            self.max_tries,
            store=self.store,
            latest=lambda: self.ti,
            state=lambda: self.state,
            dag_run=self.dag_run,
            deployment=self.deployment,
            reschedules=self.reschedules,
            first_session=self.first_session,
        )
        return self.ti

    def defer(self) -> TaskDeferred:
        """Run the first session of the next try, which defers."""
        operator = self.prepare_try()
        ti = self._begin_try()
        allow_execute_in_this_thread()
        with AIRFLOW.process(ti), pytest.raises(TaskDeferred) as deferral:
            operator.execute(ti.context(operator))
        self.state = "deferred"
        return deferral.value

    def fire(self, deferral: TaskDeferred) -> Any:
        """
        Run the trigger of a deferral to its end, and return its event, which Airflow
        stores. The state of the task stays, as it does until Airflow handles the event.
        """
        class_path, arguments = deferral.trigger.serialize()
        return asyncio.run(fire(class_path, arguments, self.ti))

    def resume(self, deferral: TaskDeferred, event: Any) -> Run:
        """Deliver an event, and run the session that ends the try."""
        arguments = {**(deferral.kwargs or {}), "event": event}
        return self._resume(deferral.method_name, arguments)

    def end_deferral(self, deferral: TaskDeferred) -> Run:
        """
        Let the time of a deferral pass that no trigger ends, and run the session in
        which Airflow then resumes the task, as ``check_trigger_timeouts`` in
        airflow/jobs/scheduler_job_runner.py says.
        """
        assert deferral.timeout is not None
        clock.sleep(deferral.timeout.total_seconds())
        return self._resume("__fail__", {"error": TRIGGER_TIMEOUT})

    def _resume(self, method_name: str, arguments: dict[str, Any]) -> Run:
        self.state = "running"
        self.operator = operator = self._make_operator({})
        run = Run(self.ti, event=arguments.get("event"), operator=operator)
        context = self.ti.context(operator)
        with AIRFLOW.process(self.ti):
            allow_execute_in_this_thread()
            try:
                run.result = operator.resume_execution(method_name, arguments, context)
            except Exception as error:
                run.error = cause_of(error)
        self.state = self._state_after(run)
        return run

    def next_try(self, **arguments: Any) -> Run:
        """
        Create the operator of the next try and run it to the end of the try.

        :param arguments: arguments that replace those of the DAG.
        """
        self.prepare_try(**arguments)
        return self.run_prepared_try()

    def crash_while_waiting(self, time: EmulatedTime, **arguments: Any) -> Run:
        """Run the next try, whose process dies while it waits."""
        time.after(100, crash)
        return self.next_try(**arguments)

    def clear(self) -> None:
        """
        Clear the task, as ``clear_task_instances`` in airflow/models/taskinstance.py
        does for a user.
        """
        self.max_tries = self.try_number + self.retries
        self.state = "scheduled"

    def clear_while_running(self) -> None:
        """
        Clear the running task: ``clear_task_instances`` then leaves ``max_tries`` as it
        was.
        """
        self.state = "restarting"

    def kill(self) -> None:
        """
        Mark the running task as failed, as a user does: Airflow then kills its process.
        """
        self.state = "failed"
        self.operator.on_kill()

    def kill_by_clear(self) -> None:
        """Clear the running task, as a user does: Airflow then kills its process."""
        self.clear_while_running()
        self.operator.on_kill()

    def shut_down_worker(self) -> None:
        """
        Send SIGTERM to the task's process, as an eviction does: Airflow still has the
        task as running.
        """
        self.operator.on_kill()

    def delete(self) -> None:
        """
        Delete the task instance, as with its DAG run. The Variable with the record
        stays.
        """
        self.state = DELETED
        self.ti.xcoms.clear()

    def create_again(self, started_at: datetime) -> None:
        """Create the DAG run that was deleted again, with the same run id."""
        self.dag_run = DagRun(started_at)
        self.state, self.try_number, self.max_tries = "scheduled", 0, self.retries

    def lose_heartbeat(self) -> None:
        """
        Let the scheduler replace a try that sends no heartbeats, while its process may
        still be alive.
        """
        clock.sleep(CONFIRMED_SECONDS + 1)
        self.state = "up_for_retry"

    def _make_operator(self, changes: dict[str, Any]) -> PolysyncStartPipelineOperator:
        return self.make_operator(
            **{
                "task_id": self.task_id,
                "pipeline_name": "fanout",
                "poll_interval": 180,
                # What the log and the XComs say of steps is not what these tests are
                # about.
                "progress_interval": None,
                "deferrable": self.deferrable,
                "retries": self.retries,
                **self.arguments,
                **changes,
            }
        )

    def _state_after(self, run: Run) -> str:
        # Like ``_run_task_and_map_outcome`` and ``_handle_current_task_failed`` in
        # task_runner.py. A crashed process cannot report its state, so the scheduler
        # sets the state to failed.
        if run.error is None:
            return "success"
        if isinstance(run.error, AirflowSkipException):
            return "skipped"
        retried = self.try_number <= self.max_tries and not isinstance(
            run.error, AirflowFailException
        )
        operator = run.operator or self.operator
        policy = operator.retry_policy
        if policy and not isinstance(run.error, (AirflowFailException, CrashError)):
            context = run.ti.context(operator)
            with suppress(LookupError):  # Airflow ignores a policy that raises
                decision = policy.evaluate(
                    run.error, self.try_number, self.max_tries, context
                )
                if decision.action.value == "reschedule":
                    self.first_session = self.first_session or clock.now()
                    return "up_for_reschedule"
                retried &= decision.action is not RetryAction.FAIL
        return "up_for_retry" if retried else "failed"


@dataclass
class JobTask(Task):
    """
    A task that runs a job.

    :param day: what its templates render.
    :param config: the request before they are rendered.
    """

    day: str = "2026-01-01"
    config: Any = None

    def _make_operator(self, changes: dict[str, Any]) -> PolysyncRunJobOperator:
        values = {
            "task_id": self.task_id,
            "job_type": "Processing",
            "config": self.config or PROCESSING,
            "poll_interval": 60,
            "progress_interval": None,
            "deferrable": self.deferrable,
            "retries": self.retries,
            **self.arguments,
            **changes,
        }
        operator = PolysyncRunJobOperator(**values).prepare_for_execution()
        context: Any = {"ds": self.day, "params": {"n": 2}}
        operator.render_template_fields(context)
        return operator


@dataclass
class GroupTask(Task):
    """
    The execution task of a group.

    :param steps: the states of the tasks of the steps.
    """

    make_operator = PolysyncStepsExecutionOperator
    steps: dict[str, str | None] = field(
        default_factory=lambda: dict.fromkeys(STEPS, "deferred")
    )

    def __post_init__(self) -> None:
        tasks = {
            "first_task_id": "begin",
            "step_task_ids": {step: step for step in STEPS},
        }
        self.arguments |= tasks
        super().__post_init__()
        self.first_ti = TaskInstance("begin", run_id=self.run_id)
        self.step_tis = {
            step: TaskInstance(
                step, run_id=self.run_id, state=partial(self._state_of, step)
            )
            for step in STEPS
        }

    def _state_of(self, step: str) -> str | None:
        return self.steps[step]


def run_failure_callbacks(operator: Any, ti: TaskInstance) -> None:
    """
    Run the failure callbacks, as Airflow does on the worker or in the DAG processor.
    """
    for callback in operator.on_failure_callback:
        callback({"ti": ti, "task": operator, "dag": None, "params": {}})


def step_attempts(record: ExecutionRecord) -> dict[str, int]:
    """
    Return how often each step of an execution ran, as ``AttemptCount`` of
    ListPipelineExecutionSteps.
    """
    return {name: run.attempt for name, run in record.engine.runs.items()}
