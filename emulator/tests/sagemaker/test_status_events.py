"""
Tests of the events of executions, steps and model packages, as a queue behind a rule of
EventBridge gets them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.conftest import ClientOf

EXECUTION = "SageMaker Model Building Pipeline Execution Status Change"
STEP = "SageMaker Model Building Pipeline Execution Step Status Change"
MODEL_PACKAGE = "SageMaker Model Package State Change"
Receive = Callable[..., list[dict[str, Any]]]


def make_rule(client_of: ClientOf, name: str) -> str:
    """
    Make a queue, and a rule that fills it with all events of SageMaker; return the URL
    of the queue.
    """
    sqs, events = client_of("sqs"), client_of("events")
    queue = str(sqs.create_queue(QueueName=name)["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])[
        "Attributes"
    ]["QueueArn"]
    events.put_rule(Name=name, EventPattern=json.dumps({"source": ["aws.sagemaker"]}))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    return queue


@pytest.fixture
def receive(client_of: ClientOf) -> Receive:
    """Return a function that receives and deletes the events of SageMaker."""
    sqs, queue = client_of("sqs"), make_rule(client_of, "changes")

    def read(wait: int = 0) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while messages := sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=wait
        ).get("Messages"):
            wait = 0
            found += [json.loads(message["Body"]) for message in messages]
            for message in messages:
                sqs.delete_message(
                    QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"]
                )
        return found

    return read


def statuses(events: list[dict[str, Any]]) -> list[tuple[str, str | None, str]]:
    """
    Return the step, or the execution, with the status before and the new one of each
    event.
    """
    return [
        (
            e["detail"]["stepName"],
            e["detail"].get("previousStepStatus"),
            e["detail"]["currentStepStatus"],
        )
        if e["detail-type"] == STEP
        else (
            "-",
            e["detail"].get("previousPipelineExecutionStatus"),
            e["detail"]["currentPipelineExecutionStatus"],
        )
        for e in events
    ]


def test_an_execution_and_its_steps(
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
    receive: Receive,
    server: EmulatorServer,
) -> None:
    """
    Each change is an event with AWS's shape, in its order; a resume has the same ARN
    and a new end.
    """
    create(definition(step("S", kind="Processing")))
    server.control.put_scenario(
        {"steps": {"S": {"fail": {"reason": "No data", "times": 1}}}}
    )
    arn = start()
    begun = receive()
    server.control.advance(3600)
    failed = receive()
    sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(3600)
    resumed = receive()

    assert statuses(begun) == [("-", None, "Executing")]
    assert statuses(failed) == [
        ("S", None, "Starting"),
        ("S", "Starting", "Executing"),
        ("S", "Executing", "Failed"),
        ("-", "Executing", "Failed"),
    ]
    assert statuses(resumed)[0] == ("-", "Failed", "Executing")
    assert statuses(resumed)[-2:] == [
        ("S", "Executing", "Succeeded"),
        ("-", "Executing", "Succeeded"),
    ]
    pipeline_arn = arn.partition("/execution/")[0]
    execution, last_step = failed[-1], failed[-2]
    assert execution | {"id": "", "time": "", "detail": {}} == {
        "version": "0",
        "id": "",
        "detail-type": EXECUTION,
        "source": "aws.sagemaker",
        "account": "123456789012",
        "time": "",
        "region": "us-east-1",
        "resources": [pipeline_arn, arn],
        "detail": {},
    }
    assert execution["detail"].keys() == {
        "pipelineExecutionDisplayName",
        "currentPipelineExecutionStatus",
        "previousPipelineExecutionStatus",
        "executionStartTime",
        "executionEndTime",
        "pipelineArn",
        "pipelineExecutionArn",
    }
    assert (
        execution["time"]
        == execution["detail"]["executionEndTime"]
        == last_step["detail"]["stepEndTime"]
    )
    assert last_step["detail"]["failureReason"] == "No data"
    assert last_step["detail"]["stepType"] == "Processing"
    assert last_step["detail"]["metadata"]["processingJob"]["arn"].startswith(
        "arn:aws:sagemaker:us-east-1:"
    )
    ends = [
        e["detail"].get("executionEndTime")
        for e in (*failed, *resumed)
        if e["detail-type"] == EXECUTION
    ]
    assert len(set(ends)) == 3  # the two ends, and none for the start of the resume


def test_a_stop(
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
    receive: Receive,
    server: EmulatorServer,
) -> None:
    """
    A stop passes through Stopping; a rule that is made later gets no event of the past.
    """
    create(definition(step("S", kind="Processing")))
    arn = start()
    server.control.advance(60)
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(600)

    assert statuses(receive())[-4:] == [
        ("S", "Executing", "Stopping"),
        ("-", "Executing", "Stopping"),
        ("S", "Stopping", "Stopped"),
        ("-", "Stopping", "Stopped"),
    ]


def test_duplicates(
    create: Callable[..., str],
    start: Callable[..., str],
    receive: Receive,
    server: EmulatorServer,
) -> None:
    """
    A scenario sends each event several times, with ids of their own, as AWS may do.
    """
    create(definition(step("S", kind="Processing")))
    server.control.put_scenario({"event_copies": 3})
    start()

    found = receive()

    assert statuses(found) == [("-", None, "Executing")] * 3
    assert len({event["id"] for event in found}) == 3


def test_model_packages(client_of: ClientOf, sagemaker: Any, receive: Receive) -> None:
    """
    The registration and each change of a model package is an event, whoever makes it.
    """
    sagemaker.create_model_package_group(ModelPackageGroupName="churn")
    arn = sagemaker.create_model_package(ModelPackageGroupName="churn")[
        "ModelPackageArn"
    ]
    for status in ("Approved", "Rejected"):
        sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status)
    sagemaker.describe_model_package(ModelPackageName=arn)

    found = receive()

    assert [event["detail-type"] for event in found] == [MODEL_PACKAGE] * 3
    assert [event["detail"]["ModelApprovalStatus"] for event in found] == [
        "PendingManualApproval",
        "Approved",
        "Rejected",
    ]
    assert found[0]["detail"]["ModelPackageGroupName"] == "churn"
    assert None not in found[0]["detail"].values()
    assert (
        found[0]["detail"]["ModelPackageVersion"],
        found[0]["detail"]["ModelPackageArn"],
    ) == (1, arn)
    assert found[1]["detail"]["UpdatedModelPackageFields"] == ["ModelApprovalStatus"]
    assert found[1]["resources"] == [arn]


def test_a_registered_model(
    create: Callable[..., str],
    start: Callable[..., str],
    receive: Receive,
    server: EmulatorServer,
) -> None:
    """
    A RegisterModel step makes the event at its end, with the execution that made the
    model.
    """
    create(
        definition(
            step("R", "RegisterModel", Arguments={"ModelPackageGroupName": "churn"})
        )
    )
    arn = start()
    server.control.advance(3600)

    (package,) = [event for event in receive() if event["detail-type"] == MODEL_PACKAGE]

    assert package["detail"]["MetadataProperties"] == {"GeneratedBy": arn}
    assert package["time"] == package["detail"]["CreationTime"]


def test_a_long_poll_gets_what_becomes_due(
    create: Callable[..., str],
    start: Callable[..., str],
    receive: Receive,
    server: EmulatorServer,
) -> None:
    """
    A client that waits for messages gets the event of a change as soon as its time has
    come.
    """
    create(definition(step("S", kind="Processing")))
    start()
    receive()
    timer = threading.Timer(0.3, lambda: server.control.advance(3600))
    timer.start()

    begun = time.monotonic()
    found = receive(wait=10)

    assert statuses(found)[-1] == ("-", "Executing", "Succeeded")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("trouble", ["disabled", "deleted"])
def test_a_rule_that_cannot_deliver(
    trouble: str,
    client_of: ClientOf,
    create: Callable[..., str],
    start: Callable[..., str],
    request: pytest.FixtureRequest,
) -> None:
    """
    A rule that is disabled, or whose queue is gone, loses its events and disturbs no
    other rule.
    """
    sqs, other = client_of("sqs"), make_rule(client_of, "first")
    receive = request.getfixturevalue("receive")
    if trouble == "disabled":
        client_of("events").disable_rule(Name="first")
    else:
        sqs.delete_queue(QueueUrl=other)

    create(definition(step("S", kind="Processing")))
    start()

    assert statuses(receive()) == [("-", None, "Executing")]
    if trouble == "disabled":
        assert "Messages" not in sqs.receive_message(QueueUrl=other)
