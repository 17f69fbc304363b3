"""
The messages that Callback steps send to their queues.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html shows
the body of a message. AWS sends one when the step begins, and another one, with a
status, when a stop of the execution is requested while the step runs. AWS does not
document what happens if the queue does not exist; the emulator creates it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sagemaker_emulator.engine.expressions import text
from sagemaker_emulator.engine.step_runs import StepRun
from sagemaker_emulator.sagemaker.calls import AwsServices
from sagemaker_emulator.sagemaker.jobs.names import arguments_of, value_of
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region

_STOPPING = "Stopping"
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_QUEUE_HOST = re.compile(r"(?:[a-z-]+\.)?sqs\.([a-z0-9-]+)\.")


class _Message(NamedTuple):
    """
    A message that is due.

    :param at: when it is due, as Unix time.
    :param status: None in the message when the step begins.
    """

    at: float
    record: ExecutionRecord
    run: StepRun
    status: str | None

    @property
    def key(self) -> tuple[int, int, str | None]:
        return (self.run.order, self.run.attempt, self.status)


def send_callback_messages(region: Region, services: AwsServices) -> None:
    """
    Send the messages of all Callback steps, in the order of their times, once each.

    All executions of the region must have been advanced to the present.

    :param region: the region.
    :param services: the queues.
    """
    messages = list(_unsent(region))
    messages.sort(
        key=lambda message: (message.at, message.record.arn, message.run.order)
    )
    for message in messages:
        message.record.messages.add(message.key)
        run = message.run
        queue_url = value_of(message.record, run, run.step.body.get("SqsQueueUrl"))
        url = urlsplit(text(queue_url or ""))
        queue = url.path.rpartition("/")[2]
        if not _QUEUE_NAME.fullmatch(queue):
            continue
        queue_region = region.name
        host = _QUEUE_HOST.match(url.netloc)
        if host:
            queue_region = host[1]
        services.send_message(queue_region, queue, json.dumps(_body(message)))


def _unsent(region: Region) -> Iterator[_Message]:
    for record in region.open_executions():
        for run in record.engine.history:
            # A step that takes its result from the cache has no attempt, and sends
            # nothing.
            if run.step.type != "Callback" or not run.attempts:
                continue
            messages = [_Message(run.attempts[-1].started_at, record, run, None)]
            if run.stop_requested_at is not None:
                messages.append(_Message(run.stop_requested_at, record, run, _STOPPING))
            yield from (
                message for message in messages if message.key not in record.messages
            )


def _body(message: _Message) -> dict[str, Any]:
    body: dict[str, Any] = {
        "token": message.run.callback_token,
        "pipelineExecutionArn": message.record.arn,
        "arguments": arguments_of(message.record, message.run),
    }
    if message.status is not None:
        body["status"] = message.status
    return body
