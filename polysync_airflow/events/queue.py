"""
The calls of SQS: receive, delete, hold and release messages. Each blocks, so none is
for an event loop.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

from botocore.config import Config
from pydantic import AliasPath, Field

from polysync_airflow.auth.base_hook import LiveConnection, Result
from polysync_airflow.exceptions import RESPONSE_TOO_LARGE, PolysyncError, has_code
from polysync_airflow.execution import events, models, texts
from polysync_airflow.hooks.callbacks import QueueMethods
from polysync_airflow.hooks.executions import parse

# How often the Airflow connection is read, unless a call fails.
READ_SECONDS: Final = 300.0
# The reader repeats calls itself, with longer pauses. A response takes up to
# WAIT_SECONDS.
QUEUE_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=events.WAIT_SECONDS + 10,
    retries={"total_max_attempts": 1},
)


class _Message(models.FrozenModel):
    message_id: Annotated[str, Field(max_length=100)] = Field(
        validation_alias="MessageId"
    )
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-message-identifiers.html
    receipt_handle: Annotated[str, Field(max_length=1024)] = Field(
        validation_alias="ReceiptHandle", repr=False
    )
    body: Any = Field(None, validation_alias="Body", repr=False)
    receives: Annotated[int, Field(ge=0)] = Field(
        0, validation_alias=AliasPath("Attributes", "ApproximateReceiveCount")
    )


class _Messages(models.FrozenModel):
    messages: Annotated[tuple[_Message, ...], Field(max_length=events.BATCH)] = Field(
        (), validation_alias="Messages"
    )


@dataclass(frozen=True)
class Received:
    """
    A message that was received.

    :param handle: the receipt handle of this receive, which deletes the message.
    :param change: what it reports; None if it cannot be read.
    :param problem: why it cannot be read.
    :param receives: how often it was received, with this time; 0 if SQS does not say
        so.
    """

    message_id: str
    handle: str
    change: events.AnyChange | None
    problem: str = ""
    receives: int = 0


class QueueHook(QueueMethods):
    """The hook of a reader."""

    report_config = QUEUE_CONFIG


class EventQueue:
    """
    A queue, with the Airflow connection that leads to it, whose changes it follows.
    Thread-safe.

    :param region_name: AWS region; None for the connection's own.
    """

    def __init__(self, connection_id: str, region_name: str | None, url: str) -> None:
        self.url = url
        make_hook = partial(QueueHook, connection_id, region_name)
        self._connection = LiveConnection(
            connection_id, make_hook, read_seconds=READ_SECONDS
        )
        self._closed = threading.Event()
        self._batch = events.BATCH

    def close(self) -> None:
        """
        Let messages that are still being received go back to the queue at once. Does
        not block.
        """
        self._closed.set()

    def receive(
        self,
        *,
        wait_seconds: int = events.WAIT_SECONDS,
        visibility_seconds: int = events.VISIBILITY_SECONDS,
    ) -> list[Received]:
        """
        Receive messages, which others then do not see for a while.

        :param wait_seconds: how long to wait for the first one.
        :param visibility_seconds: how long others do not see them.
        :raises PolysyncError: the call failed.
        """
        request = {
            "QueueUrl": self.url,
            "MaxNumberOfMessages": self._batch,
            "WaitTimeSeconds": wait_seconds,
            "VisibilityTimeout": visibility_seconds,
            "MessageSystemAttributeNames": ["ApproximateReceiveCount"],
        }
        try:
            response = self._call(
                lambda hook: hook.call_sqs("ReceiveMessage", **request)
            )
        except PolysyncError as error:
            if has_code(error, RESPONSE_TOO_LARGE):
                # Ten messages may be larger than a response may be; one may not.
                self._batch = 1
            raise
        self._batch = min(2 * self._batch, events.BATCH)
        messages = parse(_Messages, "ReceiveMessage", response).messages
        if self._closed.is_set():
            self.release([message.receipt_handle for message in messages])
            return []
        return [_read(message) for message in messages]

    def delete(self, handles: Sequence[str]) -> None:
        """
        Delete messages.

        :raises PolysyncError: some of them could not be deleted. They will be received
            again.
        """
        failures = self._call_for("DeleteMessageBatch", handles)
        if failures:
            code = texts.clean_line(str(failures[0].get("Code")))
            raise PolysyncError(
                f"DeleteMessageBatch failed for {len(failures)} of {len(handles)}"
                f" messages: {code}",
                permanent=False,
            )

    def hold(
        self, handles: Sequence[str], seconds: int = events.VISIBILITY_SECONDS
    ) -> None:
        """
        Let others not see messages for a while longer.

        :raises PolysyncError: a call failed.
        """
        # A message may have been deleted meanwhile.
        self._call_for(
            "ChangeMessageVisibilityBatch", handles, VisibilityTimeout=seconds
        )

    def release(self, handles: Sequence[str]) -> None:
        """Let others see messages at once. The errors are those of ``hold``."""
        self.hold(handles, 0)

    def _call_for(
        self, operation: str, handles: Sequence[str], **members: Any
    ) -> list[dict[str, Any]]:
        return self._call(
            lambda hook: hook.call_for_messages(operation, self.url, handles, **members)
        )

    def _call(self, call: Callable[[QueueHook], Result]) -> Result:
        if self._connection.seconds_until_read <= 0:
            self._connection.read()
        return self._connection.call(call)


def _read(message: _Message) -> Received:
    # Here, in the thread: JSON of 256 KiB takes milliseconds.
    change = None
    problem = ""
    try:
        change = events.read_message(message.body)
    except events.UnreadableMessageError as error:
        problem = str(error)
    return Received(
        message.message_id, message.receipt_handle, change, problem, message.receives
    )
