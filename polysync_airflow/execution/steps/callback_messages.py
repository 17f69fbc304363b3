"""
The messages in the queue of callback steps, and what a task does with each that it receives.

All executions of a pipeline share the queue that its definition names, so a task receives the messages of
others, too. SQS counts each receive, and moves a message that was received too often to a dead-letter queue.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html

Everything here is pure.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any, Final

from pydantic import AliasPath, Field

from polysync_airflow.execution.models import FrozenModel
from polysync_airflow.execution.steps.callbacks import CallbackMessage

# AWS lets a callback step fail that was not answered for so long.
MAX_WAIT_SECONDS: Final = 7 * 24 * 3600.0
# A task receives its message within minutes. Whether the step of an older one still waits is looked up.
LOOK_UP_SECONDS: Final = 300.0
# The attribute of a message that was sent again: when it was first sent, in milliseconds since the epoch.
FIRST_SENT: Final = "polysync.first-sent"


class ReceivedMessage(FrozenModel):
    """
    A message of a queue.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Message.html

    :param receipt: the handle with which it can be deleted, or be hidden for longer.
    :param attributes: those of its sender.
    :param receives: how often it was received, with this time.
    :param sent: when it was sent, in milliseconds since the epoch.
    """

    body: str = Field(validation_alias="Body", repr=False)
    receipt: str = Field(validation_alias="ReceiptHandle", min_length=1, max_length=4096)
    attributes: dict[str, Any] = Field(default_factory=dict, validation_alias="MessageAttributes")
    receives: int = Field(1, validation_alias=AliasPath("Attributes", "ApproximateReceiveCount"))
    sent: int = Field(0, validation_alias=AliasPath("Attributes", "SentTimestamp"))

    @property
    def first_sent(self) -> int:
        """When it was sent for the first time, in milliseconds since the epoch."""
        attribute = self.attributes.get(FIRST_SENT)
        text = attribute.get("StringValue") if isinstance(attribute, dict) else None
        # Whoever may send messages may send this, too.
        if not isinstance(text, str) or not re.fullmatch("[0-9]{1,15}", text):
            return self.sent
        return min(self.sent, int(text))

    @property
    def attributes_of_copy(self) -> dict[str, Any]:
        """The attributes with which it is sent again."""
        first_sent = {"DataType": "Number", "StringValue": str(self.first_sent)}
        return {**self.attributes, FIRST_SENT: first_sent}


class Redrive(FrozenModel):
    """
    When SQS moves messages of a queue to a dead-letter queue.

    :param queue_arn: the dead-letter queue.
    :param max_receives: a message that was received so often, and not deleted, is moved at its next receive.
    """

    queue_arn: str = Field(validation_alias="deadLetterTargetArn", pattern=r"^arn:[A-Za-z0-9:_.-]{1,200}$")
    max_receives: int = Field(validation_alias="maxReceiveCount", ge=1)


class Handling(Enum):
    """What a task does with a message that it has received."""

    KEEP = auto()
    """It is that of its own step."""
    GIVE_BACK = auto()
    """Others can receive it at once."""
    LOOK_UP = auto()
    """Whether its step still waits is looked up first."""
    SEND_AGAIN = auto()
    """It is replaced by a copy, of which no receive has been counted."""
    DELETE = auto()
    """Its step has ended."""


def handling_of(
    received: ReceivedMessage,
    content: CallbackMessage | None,
    *,
    is_own: bool,
    max_receives: int | None,
    now: float,
    waits: bool | None = None,
) -> Handling:
    """
    Return what a task does with a message that it has received.

    :param content: None if it is not the message of a callback step.
    :param is_own: whether it is that of the task's own step.
    :param max_receives: those of the queue; None if it has no dead-letter queue.
    :param now: the time, in seconds since the epoch.
    :param waits: whether its step may still wait for its answer; None if that was not looked up.
    """
    if is_own:
        return Handling.KEEP
    # A consumer of other messages may not expect a copy. Half of the receives are left for the own task,
    # whose worker may die, and for those of which SQS loses the response.
    if content is None or max_receives is None or received.receives * 2 < max_receives:
        return Handling.GIVE_BACK
    age = now - received.first_sent / 1000
    if waits is False:
        return Handling.DELETE
    if age > MAX_WAIT_SECONDS:
        return Handling.GIVE_BACK
    return Handling.LOOK_UP if waits is None and age > LOOK_UP_SECONDS else Handling.SEND_AGAIN
