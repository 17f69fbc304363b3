"""
Errors of a start: a refused request is not sent again; a request without a response is
sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from polysync_airflow.exceptions import SageMakerApiError
from sagemaker_emulator import EmulatorServer
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    START,
    ExecutionLog,
    RequestInterceptor,
    calls,
    crash,
    tokens,
)


@dataclass
class Fault:
    """A way in which StartPipelineExecution fails."""

    kind: str
    code: str = ""
    status: int = 400

    def inject(self, emulator: EmulatorServer, **members: Any) -> None:
        """Let the next calls fail in this way."""
        if self.kind == "error":
            members |= {"code": self.code, "message": "no", "status": self.status}
        emulator.control.add_fault(self.kind, START, **members)

    def __str__(self) -> str:
        return self.code or self.kind


DENIED = Fault("error", "AccessDeniedException")
REFUSALS = [
    DENIED,
    Fault("error", "ValidationException"),
    Fault("error", "ResourceNotFound"),
    Fault("error", "ResourceLimitExceeded"),
    Fault("error", "ExpiredTokenException"),
    Fault("error", "SomethingNewException"),
]
AMBIGUOUS_FAULTS = [
    Fault("dropped"),
    Fault("lost_response"),
    Fault("http", status=503),
    Fault("error", "InternalFailure", 500),
    Fault("throttle"),
]
# With a timeout of 10 s, the try gives up after the fourth call.
SHORT_TIMEOUT: dict[str, Any] = {"timeout": 10}
CALLS = 4


@pytest.mark.parametrize("fault", REFUSALS[::2], ids=str)
def test_record_is_deleted_after_a_refusal(
    fault: Fault,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If AWS refuses the start, the record is deleted, and the next try sends its own
    arguments.
    """
    fault.inject(emulator, count=1)
    task = make_task()

    first = task.next_try(pipeline_parameters={"Shards": 4})
    assert isinstance(first.error, SageMakerApiError)
    assert task.store.values == {}
    second = task.next_try(pipeline_parameters={"Shards": 3})

    assert second.error is None
    assert second.xcoms["run"]["parameters"] == {"Shards": "3"}
    assert execution_log.statuses == ["Succeeded"]


def test_refusal_of_a_resent_request_is_not_explained(
    make_task: MakeTask, interceptor: RequestInterceptor, emulator: EmulatorServer
) -> None:
    """
    The parameters are those of an earlier try. They are not compared with the
    definition of today.
    """
    task = make_task(validate_parameters=False)
    interceptor.before(START, crash)
    task.next_try(pipeline_parameters={"Shard": 4})

    run = task.next_try(validate_parameters=True)

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.error_code == "ValidationException"
    assert calls(emulator) == ["ListPipelineExecutions", START]


@pytest.mark.parametrize("fault", AMBIGUOUS_FAULTS, ids=str)
def test_request_is_resent_after_an_ambiguous_error(
    fault: Fault,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If a try ends without a response, the next try resends the same request, and one
    execution runs.
    """
    fault.inject(emulator, count=CALLS)
    task = make_task()

    first = task.next_try(pipeline_parameters={"Shards": 4}, **SHORT_TIMEOUT)
    assert isinstance(first.error, SageMakerApiError)
    assert not first.error.permanent
    assert task.record.get("execution_arn") is None
    second = task.next_try(pipeline_parameters={"Shards": 3})

    assert second.error is None
    assert second.xcoms["run"]["parameters"] == {"Shards": "4"}
    assert execution_log.statuses == ["Succeeded"]
    # If AWS has started it, its list has it.
    assert len(tokens(emulator, START)) == CALLS + (fault.kind != "lost_response")
    assert len(set(tokens(emulator, START)) - {""}) == 1


def test_task_that_fails_without_the_arn_stops_the_execution(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    If the task fails after a lost response, the request is resent for the ARN, to stop
    the execution.
    """
    Fault("lost_response").inject(emulator, count=1)
    DENIED.inject(emulator, count=1)
    task = make_task()

    task.next_try()
    emulator.control.advance(60)

    assert task.state == "failed"
    assert execution_log.statuses == ["Stopped"]
