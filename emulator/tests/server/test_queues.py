"""
Tests of EventBridge and SQS behind the emulator's port, through boto3: moto's own, with
real rules and queues.
"""

from __future__ import annotations

import json

from sagemaker_emulator import EmulatorServer
from tests.conftest import ClientOf


def test_a_rule_sends_events_to_a_queue(
    client_of: ClientOf, server: EmulatorServer
) -> None:
    """
    A queue, a rule and a target that boto3 creates: an event that matches arrives, and
    the call log has no body.
    """
    sqs, events = client_of("sqs"), client_of("events")
    queue = sqs.create_queue(QueueName="changes")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])[
        "Attributes"
    ]["QueueArn"]
    events.put_rule(Name="changes", EventPattern=json.dumps({"source": ["tests"]}))
    events.put_targets(Rule="changes", Targets=[{"Id": "queue", "Arn": arn}])
    entries = [
        {
            "Source": source,
            "DetailType": "change",
            "Detail": json.dumps({"from": source, "secret": "s3cret"}),
        }
        for source in ("others", "tests")
    ]

    events.put_events(Entries=entries)
    sqs.send_message(QueueUrl=queue, MessageBody="by hand")
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]

    assert queue.startswith(f"{server.endpoint_url}/")
    (received, by_hand) = [message["Body"] for message in messages]
    assert (json.loads(received)["detail"]["from"], by_hand) == ("tests", "by hand")
    calls = server.control.calls()
    assert {call["service"] for call in calls} == {"events", "sqs"}
    assert calls[-1]["request"] == {"QueueUrl": queue, "MaxNumberOfMessages": 10}
    assert "s3cret" not in json.dumps(calls)


def test_queues_can_fail(client_of: ClientOf, server: EmulatorServer) -> None:
    """Faults apply to the queues by the names of their service and operations."""
    sqs = client_of("sqs")
    queue = sqs.create_queue(QueueName="changes")["QueueUrl"]
    server.control.add_fault("throttle", "ReceiveMessage", service="sqs", count=1)

    errors = []
    for _ in range(2):
        try:
            sqs.receive_message(QueueUrl=queue)
        except sqs.exceptions.ClientError as error:
            errors.append(error.response["Error"]["Code"])

    assert errors == ["ThrottlingException"]
