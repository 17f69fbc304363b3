"""A start that fails: what AWS has surely refused is forgotten, what it may have granted is asked for again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from airflow.sdk import ExceptionRetryPolicy
from botocore.awsrequest import AWSResponse
from botocore.httpsession import URLLib3Session

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import SageMakerApiError
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.histories import START, STOP, Ledger, Wire, calls, die, tokens


@dataclass
class Fault:
    """How a start goes wrong."""

    kind: str
    code: str = ""
    status: int = 400

    def set(self, emulator: EmulatorServer, **members: Any) -> None:
        """Let it go wrong."""
        if self.kind == "error":
            members |= {"code": self.code, "message": "no", "status": self.status}
        emulator.control.add_fault(self.kind, START, **members)

    def __str__(self) -> str:
        return self.code or self.kind


DENIED = Fault("error", "AccessDeniedException")
DEFINITE = [
    DENIED,
    Fault("error", "ValidationException"),
    Fault("error", "ResourceNotFound"),
    Fault("error", "ResourceLimitExceeded"),
    Fault("error", "ExpiredTokenException"),
    Fault("error", "SomethingNewException"),
]
AMBIGUOUS = [
    Fault("dropped"),
    Fault("lost_response"),
    Fault("http", status=503),
    Fault("error", "InternalFailure", 500),
    Fault("throttle"),
]
# Longer than the try's patience of 10 s, which ends with the fourth call.
PATIENCE: dict[str, Any] = {"timeout": 10}
CALLS = 4
# What an author writes who wants retries whatever the error.
RETRY_EVERYTHING: dict[str, Any] = {"retry_policy": ExceptionRetryPolicy(rules=[])}


@pytest.mark.parametrize("fault", DEFINITE, ids=str)
def test_what_aws_refuses_is_forgotten(
    fault: Fault, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """There is no execution, so the next try, or a clear, sends what the task's arguments say then."""
    fault.set(emulator, count=1)
    task = make_task()

    first = task.next_try(pipeline_parameters={"Shards": 4})
    assert isinstance(first.error, SageMakerApiError)
    assert task.store.values == {}
    second = task.next_try(pipeline_parameters={"Shards": 3})

    assert second.error is None
    assert second.xcoms["run"]["parameters"] == {"Shards": "3"}
    assert ledger.statuses == ["Succeeded"]
    assert task.record["request"]["pipeline_parameters"] == {"Shards": "3"}


@pytest.mark.parametrize("fault", AMBIGUOUS, ids=str)
def test_what_may_have_been_granted_is_asked_for_again(
    fault: Fault, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """No answer for longer than a try may take: the next one repeats the very request, and there is one execution."""
    fault.set(emulator, count=CALLS)
    task = make_task()

    first = task.next_try(pipeline_parameters={"Shards": 4}, **PATIENCE)
    assert isinstance(first.error, SageMakerApiError)
    assert not first.error.permanent
    assert task.record["execution_arn"] is None
    second = task.next_try(pipeline_parameters={"Shards": 3})

    assert second.error is None
    assert second.xcoms["run"]["parameters"] == {"Shards": "4"}
    assert ledger.statuses == ["Succeeded"]
    assert len(tokens(emulator, START)) == CALLS + 1
    assert len(set(tokens(emulator, START)) - {""}) == 1


@pytest.mark.parametrize("fault", AMBIGUOUS, ids=str)
def test_passing_faults_pass_within_the_try(
    fault: Fault, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Minutes without an answer cost the task nothing, and start nothing twice."""
    fault.set(emulator, count=6)
    task = make_task(retries=0)

    assert task.next_try().error is None
    assert ledger.statuses == ["Succeeded"]


@pytest.mark.parametrize("doubt", AMBIGUOUS, ids=str)
def test_a_refusal_after_a_doubt_proves_nothing(
    doubt: Fault, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """The first call may have been granted, whatever the second one was told: the record stays."""
    doubt.set(emulator, count=1)
    DENIED.set(emulator, count=1)
    task = make_task(**RETRY_EVERYTHING)

    task.next_try()
    assert task.record is not None
    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Succeeded"]
    assert len(set(tokens(emulator, START)) - {""}) == 1


@pytest.mark.parametrize("fault", [DENIED, *DEFINITE[3:]], ids=str)
def test_a_refusal_of_the_asker_keeps_what_was_asked(
    fault: Fault, make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """A repeat that is refused for who asks, or for a quota, says nothing of the first ask."""
    task = make_task(**RETRY_EVERYTHING)
    wire.after(START, die)
    task.next_try()
    record = task.record
    fault.set(emulator, count=1)

    assert isinstance(task.next_try().error, SageMakerApiError)
    assert task.record == record

    assert task.next_try().error is None
    assert ledger.statuses == ["Succeeded"]


def test_a_task_that_fails_in_doubt_leaves_nothing_running(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Granted, the answer lost, then denied, which no retry cures: asked once more, learnt, and stopped."""
    Fault("lost_response").set(emulator, count=1)
    DENIED.set(emulator, count=1)
    task = make_task()

    task.next_try()
    emulator.control.advance(60)

    assert task.state == "failed"
    assert ledger.statuses == ["Stopped"]


@pytest.mark.parametrize("fault", DEFINITE[1:3], ids=str)
def test_a_repeat_that_is_refused_for_its_content_is_forgotten(
    fault: Fault, make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """AWS answers a token it knows with its execution: what it finds wrong now it has never accepted."""
    task = make_task()
    wire.before(START, die)
    task.next_try(pipeline_parameters={"Shards": 4})
    fault.set(emulator, count=1)

    run = task.next_try(pipeline_parameters={"Shards": 4})

    assert isinstance(run.error, SageMakerApiError)
    assert task.state == "failed", "another try cannot cure it"
    assert task.record is None
    task.clear()
    assert task.next_try(pipeline_parameters={"Shards": 3}).error is None
    assert [status for *_, status in ledger.spans] == ["Succeeded"]


def test_a_request_that_was_never_legal_is_forgotten(
    make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """The same without a fault: a pipeline that has no such parameter, and a process that died before asking."""
    task = make_task()
    wire.before(START, die)
    task.next_try(pipeline_parameters={"Typo": "x"})

    run = task.next_try(pipeline_parameters={"Typo": "x"})
    assert "Typo" in str(run.error)
    assert task.record is None
    task.clear()

    assert task.next_try(pipeline_parameters={"Shards": 3}).error is None
    assert calls(emulator, STOP) == []


def test_an_answer_that_is_no_answer_is_a_doubt(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy answers 200 with a page of its own while AWS starts the execution: asked again, AWS names it."""
    send = URLLib3Session.send
    garbled: list[Any] = []

    def proxy(session: Any, request: Any) -> Any:
        answer: Any = send(session, request)
        if START in str(request.headers.get("X-Amz-Target")) and not garbled:
            garbled.append(answer)
            page: Any = AWSResponse(request.url, 200, answer.headers, None)
            page._content = b"<html>Please sign in</html>"
            return page
        return answer

    monkeypatch.setattr(URLLib3Session, "send", proxy)
    task = make_task()

    run = task.next_try()

    assert run.error is None
    assert garbled
    assert ledger.statuses == ["Succeeded"]
    assert len(calls(emulator, START)) == 2
