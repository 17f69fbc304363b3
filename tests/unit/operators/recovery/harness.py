"""
Test harness for recovery: a simulated task instance, a request interceptor and an
execution log.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from botocore.httpsession import URLLib3Session

from polysync_airflow.airflow_compat.sdk import RetryAction, RetryDecision, RetryPolicy
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.records import CONFIRMED_SECONDS, RECORD_KEY
from polysync_airflow.states import DELETED, has_ended
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.engine.execution import Execution
from sagemaker_emulator.sagemaker.store import ExecutionRecord
from tests.fakes.airflow_service import DEPLOYMENT
from tests.fakes.json_store import JsonStore
from tests.fakes.simulated_airflow import AIRFLOW
from tests.tasks import (
    DagRun,
    Run,
    TaskInstance,
    allow_execute_in_this_thread,
    cause_of,
    fire,
    run_task,
)

NEVER_ENDS = {"steps": {"Merge": {"duration": None}}}
MERGE_FAILS = {"steps": {"Merge": {"fail": {"reason": "AlgorithmError: no data"}}}}
MERGE_FAILS_ONCE = {
    "steps": {"Merge": {"fail": {"reason": "AlgorithmError: no data", "times": 1}}}
}
MERGE_FAILS_TWICE = {
    "steps": {"Merge": {"fail": {"reason": "AlgorithmError: no data", "times": 2}}}
}

START, RETRY, STOP = (
    "StartPipelineExecution",
    "RetryPipelineExecution",
    "StopPipelineExecution",
)
DESCRIBE, LIST_STEPS = "DescribePipelineExecution", "ListPipelineExecutionSteps"
CHANGES = (START, RETRY, STOP)


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
        self.try_number += 1
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
        self.state = "running"
        operator = self._make_operator({})
        run = Run(self.ti, event=event, operator=operator)
        context = self.ti.context(operator)
        method = getattr(operator, deferral.method_name)
        with AIRFLOW.process(self.ti):
            allow_execute_in_this_thread()
            try:
                run.result = method(context, event, **(deferral.kwargs or {}))
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
        return PolysyncStartPipelineOperator(
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
        policy = self.operator.retry_policy
        if retried and policy and not isinstance(run.error, CrashError):
            context: Any = {"task": self.operator}
            with suppress(LookupError):  # Airflow ignores a policy that raises
                decision = policy.evaluate(
                    run.error, self.try_number, self.max_tries, context
                )
                retried = decision.action is not RetryAction.FAIL
        return "up_for_retry" if retried else "failed"


Action = Callable[[dict[str, Any]], Any]


class RequestInterceptor:
    """
    Runs actions just before a request leaves botocore, or when its response has
    arrived.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._actions: dict[tuple[str, str], list[Action]] = {}
        send = URLLib3Session.send

        def intercepted_send(session: URLLib3Session, request: Any) -> Any:
            target = request.headers.get("X-Amz-Target", b"")
            operation = (
                target.decode() if isinstance(target, bytes) else target
            ).rpartition(".")[2]
            # STS has another protocol.
            body = json.loads(request.body or b"{}") if operation else {}
            self._run_actions("before", operation, body)
            response = send(session, request)
            self._run_actions("after", operation, body)
            return response

        monkeypatch.setattr(URLLib3Session, "send", intercepted_send)

    def before(self, operation: str, action: Action) -> None:
        """
        Run an action once, just before the next request of this operation is sent.
        """
        self._actions.setdefault(("before", operation), []).append(action)

    def after(self, operation: str, action: Action) -> None:
        """
        Run an action once, when the next such request has a response that botocore has
        not read.
        """
        self._actions.setdefault(("after", operation), []).append(action)

    def clear(self) -> None:
        """Remove all actions that have not run."""
        self._actions.clear()

    def _run_actions(self, moment: str, operation: str, body: dict[str, Any]) -> None:
        actions = self._actions.get((moment, operation))
        if actions:
            actions.pop(0)(body)


class ExecutionLog:
    """
    Records from the emulator's engine which executions ran at which times.

    It does not depend on any API response, so it also sees executions of which the task
    does not know.
    """

    def __init__(
        self, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._emulator = emulator
        self.finished_attempts: list[tuple[float, float, str]] = []
        running_since: dict[str, float] = {}
        create, retry, finish = (
            Execution.__post_init__,
            Execution.retry,
            Execution._finish,
        )

        def created(engine: Execution) -> None:
            create(engine)
            running_since[engine.seed] = engine.created_at

        def retried(engine: Execution, now: float, *arguments: Any) -> None:
            retry(engine, now, *arguments)
            running_since[engine.seed] = now

        def finished(engine: Execution, at: float) -> None:
            finish(engine, at)
            self.finished_attempts.append(
                (running_since.pop(engine.seed), at, engine.status)
            )

        self._running_since = running_since
        monkeypatch.setattr(Execution, "__post_init__", created)
        monkeypatch.setattr(Execution, "retry", retried)
        monkeypatch.setattr(Execution, "_finish", finished)

    def clear(self) -> None:
        """Forget everything; called after the emulator was reset."""
        self.finished_attempts.clear()
        self._running_since.clear()

    @property
    def executions(self) -> list[ExecutionRecord]:
        """All executions in their current state, in the order of their starts."""
        regions = self._emulator.sagemaker.regions.values()
        records = [record for region in regions for record in region.executions()]
        for record in records:
            record.engine.advance(self._emulator.clock.now())
        return sorted(records, key=lambda record: record.engine.created_at)

    @property
    def arns(self) -> list[str]:
        """The ARNs of all executions, in the order of their starts."""
        return [record.arn for record in self.executions]

    @property
    def statuses(self) -> list[str]:
        """The AWS statuses of all executions, in the order of their starts."""
        return [record.engine.status for record in self.executions]

    @property
    def running(self) -> list[str]:
        """
        The ARNs of the executions that have not finished, including those that are
        stopping.
        """
        return [
            record.arn
            for record in self.executions
            if not has_ended(record.engine.status)
        ]

    @property
    def max_concurrent(self) -> int:
        """The highest number of executions that ran at the same time."""
        assert (
            self.executions is not None
        )  # advances the engine, which adds to finished_attempts
        changes = [(end, -1) for _, end, _ in self.finished_attempts]
        changes += [(start, 1) for start, _, _ in self.finished_attempts]
        changes += [(start, 1) for start in self._running_since.values()]
        running = maximum = 0
        for _, change in sorted(changes):
            running += change
            maximum = max(maximum, running)
        return maximum


def calls(emulator: EmulatorServer, *operations: str) -> list[str]:
    """
    Return the operations that were called, in order; only the given operations if there
    are any.
    """
    called = [call["operation"] for call in emulator.control.calls()]
    return [
        operation for operation in called if not operations or operation in operations
    ]


def tokens(emulator: EmulatorServer, operation: str) -> list[str]:
    """
    Return the client tokens of all calls of an operation, including calls that were not
    processed.
    """
    return [
        call["request"].get("ClientRequestToken", "")
        for call in emulator.control.calls(operation)
    ]


def step_attempts(record: ExecutionRecord) -> dict[str, int]:
    """
    Return how often each step of an execution ran, as ``AttemptCount`` of
    ListPipelineExecutionSteps.
    """
    return {name: run.attempt for name, run in record.engine.runs.items()}
