"""
The messages of a queue that are about this run: events, and those of callback steps.

All checks read the queue through one inbox, because each message is received once only.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.models import VerifyError

# AWS says "near real time".
DELAY_SECONDS: Final = 60.0
MAX_OTHERS: Final = 500
# The size of an event; a message of a callback step is smaller.
_MAX_BYTES: Final = 256 * 1024
# For how long a message about others is not received again, unless it is given back
# earlier.
_HIDDEN_SECONDS: Final = 180
# Without any wait, SQS asks only some of its servers.
_WAIT_SECONDS: Final = 1
_PAUSE_SECONDS: Final = 0.5
_BATCH: Final = 10


@dataclass(frozen=True)
class Message:
    """
    A message about an execution of this run.

    :param at: when it was received, in seconds of ``Account.now``.
    :param content: the ``detail`` of an event, or the message of a callback step.
    """

    at: float
    content: dict[str, Any]


class Inbox:
    """
    The messages of the queue: an experiment of ``Account.once``. Thread-safe. It gives
    back the messages about others.

    :param account: the account, with the URL of the queue in its options.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._url = account.options["--queue-url"]
        self._lock = threading.Lock()
        self._messages: list[Message] = []
        self._foreign_handles: list[str] = []

    def about(self, arn: str, member: str) -> list[Message]:
        """Return the received messages about an execution that have a member."""
        return [
            message
            for message in self._messages
            if message.content["pipelineExecutionArn"] == arn
            and member in message.content
        ]

    def receive_until(
        self, condition: Callable[[], bool], seconds: float = DELAY_SECONDS
    ) -> bool:
        """
        Receive messages until a condition is true, or for some time.

        :return: whether it is true.
        """
        until = self._account.now() + seconds
        while not condition():
            if self._account.now() >= until:
                return False
            self.receive(_WAIT_SECONDS)
            self._account.sleep(_PAUSE_SECONDS)
        return True

    def receive(self, wait_seconds: int = 0) -> None:
        """
        Receive some messages.

        :param wait_seconds: how long SQS waits for the first one.
        :raises VerifyError: there are too many about others.
        """
        with self._lock:
            if len(self._foreign_handles) > MAX_OTHERS:
                raise VerifyError(
                    f"The queue has more than {MAX_OTHERS} messages about others:"
                    " empty it."
                )
            response = self._account.call(
                "ReceiveMessage",
                service="sqs",
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH,
                VisibilityTimeout=_HIDDEN_SECONDS,
                WaitTimeSeconds=wait_seconds,
            )
            prefix = f":pipeline/{self._account.name_of('')}".lower()
            handles = []
            for message in response.get("Messages", []):
                content = _read(message["Body"])
                if prefix in str(content.get("pipelineExecutionArn")).lower():
                    self._messages.append(Message(self._account.now(), content))
                    handles.append(message["ReceiptHandle"])
                else:
                    self._foreign_handles.append(message["ReceiptHandle"])
            if handles:
                self._account.call(
                    "DeleteMessageBatch",
                    service="sqs",
                    QueueUrl=self._url,
                    Entries=_entries(handles),
                )

    def give_back(self) -> None:
        """
        Let others receive the messages about others, also at the end of a run that was
        interrupted.
        """
        with self._lock:
            handles = self._foreign_handles
            self._foreign_handles = []
        # Another client, whose requests are not cancelled.
        sqs = self._account.session.client("sqs")
        for start in range(0, len(handles), _BATCH):
            entries = _entries(handles[start : start + _BATCH], VisibilityTimeout=0)
            sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)


def _entries(receipts: list[str], **members: Any) -> list[dict[str, Any]]:
    return [
        {"Id": str(number), "ReceiptHandle": receipt, **members}
        for number, receipt in enumerate(receipts)
    ]


def _read(body: str) -> dict[str, Any]:
    """
    Return the detail of an event, or the message of a callback step; empty if it is
    neither.
    """
    if len(body) > _MAX_BYTES:
        return {}
    try:
        content = json.loads(body)
    except (RecursionError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    detail = content.get("detail")
    if isinstance(detail, dict):
        return detail
    return content
