"""Owns what recovery is judged by: a task through its tries, deaths on the wire, and who ran when."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from botocore.httpsession import URLLib3Session

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.emulator.engine.execution import Execution
from polysync_airflow.emulator.sagemaker.store import ExecutionRecord
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.operators.record_store import STORE_KEY
from polysync_airflow.states import has_ended
from tests.tasks import Run, StateStore, TaskInstance, run_task

NEVER_ENDS = {"steps": {"Merge": {"duration": None}}}
MERGE_FAILS = {"steps": {"Merge": {"fail": {"reason": "AlgorithmError: no data"}}}}
MERGE_FAILS_ONCE = {"steps": {"Merge": {"fail": {"reason": "AlgorithmError: no data", "times": 1}}}}
MERGE_FAILS_TWICE = {"steps": {"Merge": {"fail": {"reason": "AlgorithmError: no data", "times": 2}}}}

START, RETRY, STOP = "StartPipelineExecution", "RetryPipelineExecution", "StopPipelineExecution"
DESCRIBE, LIST_STEPS = "DescribePipelineExecution", "ListPipelineExecutionSteps"
CHANGES = (START, RETRY, STOP)


class DeathError(BaseException):
    """The task's process ends here and now: no ``except Exception`` of its own runs."""


def die(*_: Any) -> None:
    """End the task's process."""
    raise DeathError


@dataclass
class Task:
    """
    One task instance from try to try, as Airflow takes it.

    :param deferrable: its mode.
    :param arguments: the operator's, as its DAG has them.
    :param retries: as its DAG has them.
    """

    deferrable: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    retries: int = 2
    task_id: str = "train"
    dag_id: str = "retraining"
    run_id: str = "scheduled__2026-01-01T00:00:00+00:00"
    map_index: int = -1
    store: StateStore = field(default_factory=StateStore)
    try_number: int = 0
    state: str = "scheduled"

    def __post_init__(self) -> None:
        self.max_tries = self.retries
        self.operator = self._operator({})

    @property
    def ended(self) -> bool:
        """Whether Airflow is done with it."""
        return self.state in ("success", "failed", "skipped")

    @property
    def record(self) -> Any:
        """What its tries have stored."""
        return self.store.get(STORE_KEY)

    def begin(self, **arguments: Any) -> PolysyncStartPipelineOperator:
        """
        Make the operator of the next try, which ``go`` then runs.

        :param arguments: what templates give this time.
        """
        self.operator = self._operator(arguments)
        return self.operator

    def go(self) -> Run:
        """Run the next try to its end with the operator that ``begin`` made; XComs are gone, the store is not."""
        self.try_number += 1
        self.state = "running"
        ti = TaskInstance(
            self.task_id,
            self.dag_id,
            self.run_id,
            self.map_index,
            self.try_number,
            self.max_tries,
            store=self.store,
        )
        try:
            run = run_task(self.operator, ti)
        except DeathError as death:
            run = Run(ti, error=death)
        except AirflowTaskTimeout as alarm:
            # As ``_execute_task`` in airflow/sdk/execution_time/task_runner.py.
            self.operator.on_kill()
            run = Run(ti, error=alarm)
        self.state = self._state_after(run)
        return run

    def next_try(self, **arguments: Any) -> Run:
        """Run the next try to its end."""
        self.begin(**arguments)
        return self.go()

    def clear(self) -> None:
        """Clear it, as a user does (``clear_task_instances`` in airflow/models/taskinstance.py)."""
        self.max_tries = self.try_number + self.retries
        self.state = "scheduled"

    def _operator(self, changes: dict[str, Any]) -> PolysyncStartPipelineOperator:
        return PolysyncStartPipelineOperator(
            **{
                "task_id": self.task_id,
                "pipeline_name": "fanout",
                "poll_interval": 60,
                "deferrable": self.deferrable,
                "retries": self.retries,
                **self.arguments,
                **changes,
            }
        )

    def _state_after(self, run: Run) -> str:
        # As ``_run_task_and_map_outcome`` and ``_handle_current_task_failed`` in task_runner.py. Of a dead
        # process, the scheduler says that it failed.
        if run.error is None:
            return "success"
        if isinstance(run.error, AirflowSkipException):
            return "skipped"
        retried = self.try_number <= self.max_tries and not isinstance(run.error, AirflowFailException)
        policy = self.operator.retry_policy
        if retried and policy and not isinstance(run.error, DeathError):
            context: Any = {"task": self.operator}
            with suppress(LookupError):  # a policy that raises is as good as none
                decision = policy.evaluate(run.error, self.try_number, self.max_tries, context)
                retried = decision.action is not RetryAction.FAIL
        return "up_for_retry" if retried else "failed"


Action = Callable[[dict[str, Any]], Any]


class Wire:
    """Between botocore and the emulator: does what was asked before a request leaves, and after it was answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._actions: dict[tuple[str, str], list[Action]] = {}
        send = URLLib3Session.send

        def watched(session: URLLib3Session, request: Any) -> Any:
            target = request.headers.get("X-Amz-Target", b"")
            operation = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]
            body = json.loads(request.body or b"{}")
            self._do("before", operation, body)
            answer = send(session, request)
            self._do("after", operation, body)
            return answer

        monkeypatch.setattr(URLLib3Session, "send", watched)

    def before(self, operation: str, action: Action) -> None:
        """Do something, once, just before the next such request leaves."""
        self._actions.setdefault(("before", operation), []).append(action)

    def after(self, operation: str, action: Action) -> None:
        """Do something, once, when the next such request has been answered, before the answer is read."""
        self._actions.setdefault(("after", operation), []).append(action)

    def clear(self) -> None:
        """Forget what was asked for and has not been done."""
        self._actions.clear()

    def _do(self, moment: str, operation: str, body: dict[str, Any]) -> None:
        actions = self._actions.get((moment, operation))
        if actions:
            actions.pop(0)(body)


class Ledger:
    """Which executions ran when, by the emulator's own engine: not by what anybody was told."""

    def __init__(self, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._emulator = emulator
        self.spans: list[tuple[float, float, str]] = []
        began: dict[str, float] = {}
        create, retry, finish = Execution.__post_init__, Execution.retry, Execution._finish

        def created(engine: Execution) -> None:
            create(engine)
            began[engine.seed] = engine.created_at

        def retried(engine: Execution, now: float, *arguments: Any) -> None:
            retry(engine, now, *arguments)
            began[engine.seed] = now

        def finished(engine: Execution, at: float) -> None:
            finish(engine, at)
            self.spans.append((began.pop(engine.seed), at, engine.status))

        self._began = began
        monkeypatch.setattr(Execution, "__post_init__", created)
        monkeypatch.setattr(Execution, "retry", retried)
        monkeypatch.setattr(Execution, "_finish", finished)

    def clear(self) -> None:
        """Begin anew, after the emulator has."""
        self.spans.clear()
        self._began.clear()

    @property
    def executions(self) -> list[ExecutionRecord]:
        """All executions, up to date, in the order of their starts."""
        regions = self._emulator.sagemaker.regions.values()
        found = [record for region in regions for record in region.executions()]
        for record in found:
            record.engine.advance(self._emulator.clock.now())
        return sorted(found, key=lambda record: record.engine.created_at)

    @property
    def arns(self) -> list[str]:
        """Their ARNs."""
        return [record.arn for record in self.executions]

    @property
    def statuses(self) -> list[str]:
        """Their statuses."""
        return [record.engine.status for record in self.executions]

    @property
    def running(self) -> list[str]:
        """The ARNs of those that run, those that are stopping among them."""
        return [record.arn for record in self.executions if not has_ended(record.engine.status)]

    @property
    def most_at_once(self) -> int:
        """How many ran at once at the worst moment."""
        assert self.executions is not None  # brings the spans up to date
        changes = [(end, -1) for _, end, _ in self.spans]
        changes += [(begin, 1) for begin, _, _ in self.spans]
        changes += [(begin, 1) for begin in self._began.values()]
        running = most = 0
        for _, change in sorted(changes):
            running += change
            most = max(most, running)
        return most


def calls(emulator: EmulatorServer, *operations: str) -> list[str]:
    """Return the operations that were called, in order; only some if named."""
    made = [call["operation"] for call in emulator.control.calls()]
    return [operation for operation in made if not operations or operation in operations]


def tokens(emulator: EmulatorServer, operation: str) -> list[str]:
    """Return the tokens of all calls of an operation, also of those that never were processed."""
    return [call["request"].get("ClientRequestToken", "") for call in emulator.control.calls(operation)]


def attempts(record: ExecutionRecord) -> dict[str, int]:
    """Return how often each step of an execution was run: ListPipelineExecutionSteps' AttemptCount."""
    return {name: run.attempt for name, run in record.engine.runs.items()}
