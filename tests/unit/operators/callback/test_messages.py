"""
The queue of a callback step: messages of others, and messages that others have taken.
"""

from __future__ import annotations

import json
from threading import Event
from typing import Any

import pytest

from polysync_airflow import exceptions
from polysync_airflow.operators import callback_answer as answers
from tests.fakes.log_capture import capture_logs
from tests.unit.operators.callback.conftest import (
    DEAD_LETTERS,
    QUEUE,
    SUCCESS,
    Pipeline,
)
from tests.unit.operators.callback.test_answers import approve
from tests.world import DESCRIBE


def test_messages_of_others_are_given_back(pipeline: Pipeline) -> None:
    """They are neither deleted nor hidden: their consumers can receive them at once."""
    token = pipeline.begin_step()
    own = {
        "token": token,
        "pipelineExecutionArn": pipeline.arn,
        "arguments": {"ticket": "T-1"},
    }
    of_others: list[Any] = [
        [own],
        {**own, "token": "otherToken"},
        {**own, "pipelineExecutionArn": pipeline.arn[:-1] + "0"},
        {**own, "pipelineExecutionArn": 1},
        {**own, "arguments": "none"},
        {"token": token},
    ]
    others = ["not JSON", "[" * 100_000, *map(json.dumps, of_others)]
    pipeline.receive()
    for other in others:
        pipeline.send(other)
    pipeline.time.after(5, lambda: pipeline.send(own))

    run = pipeline.answer(approve)

    assert run.result == {"ok": "yes to T-1"}
    pipeline.time.sleep(1)
    assert [message["Body"] for message in pipeline.receive()] == others


def test_message_that_another_consumer_has_taken(pipeline: Pipeline) -> None:
    """
    Only the message has the arguments: the task fails and may be retried, and the step
    is not answered.
    """
    pipeline.begin_step()
    (message,) = pipeline.receive()
    pipeline.sqs.delete_message(QueueUrl=QUEUE, ReceiptHandle=message["ReceiptHandle"])

    run = pipeline.answer(approve)

    assert type(run.error) is exceptions.CallbackStepError
    assert not run.error.permanent
    cure = (
        "The queue has no dead-letter queue. -- What to do: look for another consumer"
    )
    assert cure in str(run.error)
    assert pipeline.answers() == []
    assert pipeline.step()["StepStatus"] == "Executing"
    assert sum(pipeline.time.slept) < 300


@pytest.mark.parametrize("succeeds", [True, False])
def test_step_that_is_answered_while_the_function_runs(
    succeeds: bool, pipeline: Pipeline
) -> None:
    """AWS refuses the second answer, and the first one decides about the task, too."""
    token = pipeline.begin_step()

    def function(ticket: str) -> None:
        if succeeds:
            pipeline.sagemaker.send_pipeline_execution_step_success(CallbackToken=token)
        else:
            pipeline.sagemaker.send_pipeline_execution_step_failure(
                CallbackToken=token, FailureReason="theirs"
            )

    run = pipeline.answer(function)

    assert len(pipeline.answers()) == 1
    assert (run.result, type(run.error)) == (
        ({}, type(None)) if succeeds else (None, exceptions.CallbackStepError)
    )
    assert succeeds or "has already failed: theirs" in str(run.error)


def test_message_stays_hidden_while_the_function_runs(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A function may take longer than a message is hidden at once: nobody else receives it
    meanwhile.
    """
    monkeypatch.setattr(answers, "MONITOR_SECONDS", 0.01)
    kept = Event()
    seen: list[Any] = []

    def function(ticket: str) -> None:
        for _ in range(3):
            pipeline.time.sleep(59)
            for _ in range(2):  # the first may have begun before the clear
                kept.clear()
                assert kept.wait(30)
            seen.extend(pipeline.receive())

    hide: Any = pipeline.emulator.calls.add

    def add(entry: Any) -> None:
        hide(entry)
        if entry.operation == "ChangeMessageVisibilityBatch":
            kept.set()

    monkeypatch.setattr(pipeline.emulator.calls, "add", add)

    run = pipeline.answer(function)

    assert run.error is None, run.error
    assert seen == []
    assert pipeline.messages() == []


def test_errors_of_the_queue_while_the_function_runs(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They neither end the function nor change the answer."""
    monkeypatch.setattr(answers, "MONITOR_SECONDS", 0.01)
    control = pipeline.emulator.control

    def function(ticket: str) -> dict[str, str]:
        for operation in (
            "ChangeMessageVisibilityBatch",
            DESCRIBE,
            "DeleteMessageBatch",
        ):
            control.add_fault(
                "error", operation, code="InternalError", message="down", status=500
            )
        before = len(control.calls(DESCRIBE))
        while len(control.calls(DESCRIBE)) < before + 2:
            Event().wait(0.01)
        return {"ok": "yes"}

    run = pipeline.answer(function)

    assert (run.error, run.result) == (None, {"ok": "yes"})
    assert pipeline.answers() == [(SUCCESS, {"ok": "yes"})]
    # It could not be deleted.
    assert len(pipeline.messages()) == 1


DENIED = {"code": "AccessDeniedException", "message": "no"}
FIRST_SENT = "polysync.first-sent"


def send_of_another_execution(pipeline: Pipeline, arn: str = "") -> str:
    """Send a message of another execution, with an attribute, and return its body."""
    body = json.dumps(
        {
            "token": "otherToken",
            "pipelineExecutionArn": arn or pipeline.arn[:-1] + "0",
            "é": 1,
        }
    )
    attributes = {"trace": {"DataType": "String", "StringValue": "t-1"}}
    pipeline.sqs.send_message(
        QueueUrl=QUEUE, MessageBody=body, MessageAttributes=attributes
    )
    return body


def receive_all(pipeline: Pipeline) -> list[Any]:
    """Receive the messages that are left, with their attributes."""
    pipeline.time.sleep(1)
    names = {"MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"]}
    received = pipeline.sqs.receive_message(
        QueueUrl=QUEUE, MaxNumberOfMessages=10, **names
    )
    return list(received.get("Messages", ()))


@pytest.mark.parametrize(
    ("max_receives", "is_copied"), [(1, True), (2, True), (3, False)]
)
def test_receives_of_others_do_not_count(
    max_receives: int, is_copied: bool, pipeline: Pipeline
) -> None:
    """
    When half of its receives are used, a message is replaced by a copy, with the same
    body and attributes.
    """
    pipeline.create_queue(max_receives)
    sent_at = pipeline.time.time()
    body = send_of_another_execution(pipeline)

    assert pipeline.answer(approve).result == {"ok": "yes to T-1"}

    if not is_copied:
        assert [
            message["Attributes"]["ApproximateReceiveCount"]
            for message in receive_all(pipeline)
        ] == ["2"]
        return
    (message,) = receive_all(pipeline)
    assert message["Body"] == body
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    attributes = message["MessageAttributes"]
    assert attributes.keys() == {"trace", FIRST_SENT}
    assert attributes["trace"]["DataType"] == "String"
    assert attributes["trace"]["StringValue"] == "t-1"
    first_sent = float(attributes[FIRST_SENT]["StringValue"])
    assert first_sent == pytest.approx(sent_at * 1000, abs=1000)
    assert pipeline.messages("dead") == []


@pytest.mark.parametrize("has_ended", [False, True])
def test_message_of_a_step_that_has_ended(has_ended: bool, pipeline: Pipeline) -> None:
    """
    An old message is deleted if its step was answered, and kept if it still waits.
    """
    pipeline.create_queue(1)
    token = pipeline.begin_step()
    # The emulator sends what is due when a request comes.
    pipeline.sqs.list_queues()
    if has_ended:
        pipeline.sagemaker.send_pipeline_execution_step_success(CallbackToken=token)
    pipeline.time.sleep(400)
    (old,) = pipeline.messages()
    pipeline.start(Notify={"outputs": {"ticket": "T-2"}})

    assert pipeline.answer(approve).result == {"ok": "yes to T-2"}

    assert pipeline.messages() == ([] if has_ended else [old])


@pytest.mark.parametrize(
    ("denied", "copies"), [("SendMessage", 0), ("GetQueueAttributes", 1)]
)
def test_log_names_the_permission_that_a_queue_does_not_grant(
    denied: str, copies: int, pipeline: Pipeline
) -> None:
    """
    Messages of others are given back at once; the log names the permission. The own
    step is answered.
    """
    pipeline.create_queue(1)
    body = send_of_another_execution(pipeline)
    pipeline.emulator.control.add_fault("error", denied, **DENIED)

    with capture_logs() as logs:
        run = pipeline.answer(approve)

    assert (run.error, run.result) == (None, {"ok": "yes to T-1"})
    assert pipeline.messages() + pipeline.messages("dead") == [body]
    assert denied == "GetQueueAttributes" or f"sqs:{denied} on arn:aws:sqs" in repr(
        logs
    )
    sent = pipeline.emulator.control.calls("SendMessage")
    assert sum(not call["error_code"] for call in sent) == 1 + copies


def test_message_in_the_dead_letter_queue(pipeline: Pipeline) -> None:
    """
    The error names the queue, and what keeps messages from it. When the message is
    back, the retry succeeds.
    """
    pipeline.create_queue(1)
    pipeline.begin_step()
    pipeline.receive()
    pipeline.time.sleep(60)
    send_of_another_execution(pipeline)
    pipeline.emulator.control.add_fault("error", "SendMessage", **DENIED)

    run = pipeline.answer(approve)

    assert type(run.error) is exceptions.CallbackStepError
    assert not run.error.permanent
    for text in (
        f"received once goes to the dead-letter queue {DEAD_LETTERS}",
        "sqs:SendMessage on arn:aws:sqs:us-east-1:123456789012:approvals",
        "What to do: move the message back from the dead-letter queue",
    ):
        assert text in str(run.error)
    pipeline.emulator.control.remove_faults()
    own = next(body for body in pipeline.messages("dead") if "otherToken" not in body)
    pipeline.send(own)
    assert pipeline.answer(approve, try_number=2).result == {"ok": "yes to T-1"}


def test_copies_stop_if_nothing_can_be_deleted(pipeline: Pipeline) -> None:
    """Otherwise, each look would double the messages of others."""
    pipeline.create_queue(2)
    pipeline.begin_step()
    pipeline.receive()
    pipeline.emulator.control.add_fault("error", "DeleteMessageBatch", **DENIED)
    send_of_another_execution(pipeline)

    pipeline.answer(approve)

    bodies = pipeline.messages() + pipeline.messages("dead")
    assert sum("otherToken" in body for body in bodies) == 2


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "AccessDeniedException",
            "sqs:ReceiveMessage on arn:aws:sqs:us-east-1:123456789012:approvals",
        ),
        (
            "AWS.SimpleQueueService.NonExistentQueue",
            "There is no queue https://sqs.us-east-1",
        ),
    ],
)
def test_queue_that_cannot_be_read(code: str, text: str, pipeline: Pipeline) -> None:
    """The error names the permission and the queue. The step is not answered."""
    pipeline.emulator.control.add_fault(
        "error", "ReceiveMessage", code=code, message="no"
    )

    run = pipeline.answer(approve)

    assert type(run.error) is exceptions.SageMakerApiError
    assert run.error.permanent
    assert text in str(run.error)
    assert pipeline.answers() == []
