"""The messages of Callback steps, through boto3's client of SQS."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.conftest import ClientOf

HOST = "https://sqs.us-east-1.amazonaws.com/123456789012"
Steps = Callable[[str], dict[str, dict[str, Any]]]


def callback(
    name: str, *after: str, queue: str = "q", **arguments: Any
) -> dict[str, Any]:
    """Return a Callback step."""
    url = queue if "/" in queue else f"{HOST}/{queue}"
    return {**step(name, "Callback", *after, SqsQueueUrl=url), "Arguments": arguments}


@pytest.fixture
def bodies(client_of: ClientOf) -> Callable[..., list[Any]]:
    """Receive the messages of a queue that have not been received, as JSON."""

    def receive(queue: str = "q", region: str = "us-east-1") -> list[Any]:
        sqs = client_of("sqs", region)
        # A name is enough for the emulator.
        response = sqs.receive_message(
            QueueUrl=f"{HOST}/{queue}", MaxNumberOfMessages=10, VisibilityTimeout=600
        )
        return [json.loads(message["Body"]) for message in response.get("Messages", ())]

    return receive


def test_body_is_that_of_aws(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    bodies: Callable[..., list[Any]],
    server: EmulatorServer,
) -> None:
    """
    The message has the token, the execution, and the evaluated arguments with their
    types; it is sent once.
    """
    arguments: Any = {
        "number": {"Get": "Parameters.Number"},
        "text": {
            "Std:Join": {"On": "/", "Values": ["s3:/", {"Get": "Parameters.Bucket"}]}
        },
        "model": {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"},
        "ticket": {"Get": "Steps.Notify.OutputParameters['ticket']"},
    }
    parameters = (
        {"Name": "Number", "Type": "Integer", "DefaultValue": 5},
        {"Name": "Bucket", "Type": "String", "DefaultValue": "bucket"},
    )
    create(
        definition(
            step("Notify", "Lambda", OutputParameters=[{"OutputName": "ticket"}]),
            step("Train", "Training"),
            callback("Ask", "Train", "Notify", **arguments),
            parameters=parameters,
        )
    )
    server.control.put_scenario({"steps": {"Notify": {"outputs": {"ticket": "T-1"}}}})
    arn = start()

    server.control.advance(700)

    (body,) = bodies()
    model = body["arguments"].pop("model")
    assert model.startswith("s3://")
    assert body == {
        "token": steps_of(arn)["Ask"]["Metadata"]["Callback"]["CallbackToken"],
        "pipelineExecutionArn": arn,
        "arguments": {"number": 5, "text": "s3://bucket", "ticket": "T-1"},
    }
    assert bodies() == []


def test_stop_sends_another_message(
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    sagemaker: Any,
    bodies: Callable[..., list[Any]],
    server: EmulatorServer,
) -> None:
    """It has the same content, and a status. A step that has ended sends none."""
    create(definition(callback("Ask", x="1"), callback("Other", queue="other")))
    arn = start()
    server.control.advance(5)
    (other,) = bodies("other")
    sagemaker.send_pipeline_execution_step_success(CallbackToken=other["token"])
    (begun,) = bodies()

    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)

    assert bodies() == [{**begun, "status": "Stopping"}]
    assert bodies("other") == []
    server.control.advance(3600)
    assert status_of(arn) == "Stopping"
    sagemaker.send_pipeline_execution_step_failure(
        CallbackToken=begun["token"], FailureReason="stopped"
    )
    server.control.advance(30)
    assert status_of(arn) == "Stopped"


def test_retry_sends_a_message_with_a_new_token(
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
    bodies: Callable[..., list[Any]],
    server: EmulatorServer,
) -> None:
    """A step that runs again asks again."""
    create(definition(callback("Ask")))
    arn = start()
    server.control.advance(5)
    (first,) = bodies()
    sagemaker.send_pipeline_execution_step_failure(CallbackToken=first["token"])
    server.control.advance(5)

    sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(5)

    (second,) = bodies()
    assert second["token"] != first["token"]


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/q", "eu-west-1"),
        ("http://127.0.0.1:4599/123456789012/q", "us-east-1"),
        ("https://sqs.zz-none-9.amazonaws.com/123456789012/q", None),
        ("not a queue!", None),
    ],
)
def test_queue_of_another_region(
    url: str,
    region: str | None,
    create: Callable[..., str],
    start: Callable[..., str],
    bodies: Callable[..., list[Any]],
    server: EmulatorServer,
    client_of: ClientOf,
) -> None:
    """
    The URL says where the queue is. A URL that names none sends nothing, and harms
    nothing.
    """
    create(definition({**step("Ask", "Callback"), "SqsQueueUrl": url}))
    start()
    server.control.advance(5)
    for each in ("us-east-1", "eu-west-1"):
        client_of("sqs", each).create_queue(QueueName="q")
        assert len(bodies("q", each)) == (each == region)


def test_existing_queue_is_used(
    create: Callable[..., str],
    start: Callable[..., str],
    bodies: Callable[..., list[Any]],
    server: EmulatorServer,
    client_of: ClientOf,
) -> None:
    """A queue keeps its attributes, also if it was made before the step begins."""
    client_of("sqs").create_queue(QueueName="q", Attributes={"VisibilityTimeout": "7"})
    create(definition(callback("Ask")))
    start()
    server.control.advance(5)

    assert len(bodies()) == 1
    attributes = client_of("sqs").get_queue_attributes(
        QueueUrl=f"{HOST}/q", AttributeNames=["VisibilityTimeout"]
    )
    assert attributes["Attributes"] == {"VisibilityTimeout": "7"}
