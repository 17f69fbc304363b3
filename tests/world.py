"""
What surrounds the tasks of a test: an account of AWS, its clock, each request to it, and
the executions that ran in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.httpsession import URLLib3Session

from polysync_airflow.states import has_ended
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.engine.execution import Execution
from sagemaker_emulator.sagemaker.store import ExecutionRecord
from tests.tasks import EmulatedTime

NEVER_ENDS = {"steps": {"Merge": {"duration": None}}}
RUNS_ON = {"steps": {"Merge": {"duration": 1200}}}

START = "StartPipelineExecution"
RETRY = "RetryPipelineExecution"
STOP = "StopPipelineExecution"
DESCRIBE = "DescribePipelineExecution"
LIST = "ListPipelineExecutions"
LIST_STEPS = "ListPipelineExecutionSteps"
CHANGES = (START, RETRY, STOP)

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


def deny(emulator: EmulatorServer, *operations: str, **members: Any) -> None:
    """
    Let AWS refuse operations for lack of a permission.

    :param members: of the faults, for example how many calls are refused.
    """
    denied = {"code": "AccessDeniedException", "message": "not you", **members}
    for operation in operations:
        emulator.control.add_fault("error", operation, **denied)


class World:
    """
    The surroundings of a test.

    :ivar emulator: AWS.
    :ivar time: its clock, and that of all processes.
    :ivar requests: what happens before and after a request to it.
    :ivar patch: replaces attributes and environment variables until its end.
    :ivar log: the executions that ran in it.
    """

    def __init__(
        self,
        emulator: EmulatorServer,
        time: EmulatedTime,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.emulator = emulator
        self.control: Any = emulator.control
        self.patch = monkeypatch
        self.time = time
        self.requests = RequestInterceptor(monkeypatch)
        self.log = ExecutionLog(emulator, monkeypatch)

    def deny(self, *operations: str, **members: Any) -> None:
        """Let AWS refuse operations for lack of a permission."""
        deny(self.emulator, *operations, **members)

    def calls(self, *operations: str) -> list[str]:
        """
        Return the operations that were called, in order; only the given operations if
        there are any.
        """
        called = [call["operation"] for call in self.control.calls()]
        return [each for each in called if not operations or each in operations]

    def tokens(self, operation: str) -> list[str]:
        """
        Return the client tokens of all calls of an operation, including calls that were
        not processed.
        """
        return [
            call["request"].get("ClientRequestToken", "")
            for call in self.control.calls(operation)
        ]
