"""
The messages of a queue that are about this run: events, and those of callback steps.

All checks read the queue through one inbox, because each message is received once only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.events.changes import AnyChange, UnreadableMessageError, read_message
from polysync_airflow.execution.models import pipeline_name_from_arn
from polysync_airflow.execution.steps.callbacks import CallbackMessage, ReceivedMessage, parse_message
from polysync_airflow.verification.account import Account

# AWS says "near real time".
DELAY_SECONDS: Final = 60.0
MAX_OTHERS: Final = 500
# So that a message about others is not received twice while the checks look. It is given back earlier.
_HIDDEN_SECONDS: Final = 180
# Without any wait, SQS asks only some of its servers.
_WAIT_SECONDS: Final = 1
_PAUSE_SECONDS: Final = 0.5
_PROBLEMS: Final = 3


@dataclass(frozen=True)
class Message:
    """
    A message about an execution of this run.

    :param at: when it was received, in seconds of ``clock.monotonic``.
    :param content: an event, or the message of a callback step.
    """

    at: float
    content: AnyChange | CallbackMessage


class Inbox:
    """
    The messages of the queue. Those about others are given back. Thread-safe.

    :param account: has the queue in its options.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._url = account.options.queue_url or ""
        self._lock = threading.Lock()
        self._own: list[Message] = []
        self._others: list[str] = []
        self._problems: list[str] = []

    def about(self, arn: str) -> list[Message]:
        """Return what was received about an execution."""
        return [each for each in self._own if getattr(each.content, "execution_arn", None) == arn]

    @property
    def problems(self) -> str:
        """Why some of the other messages could not be read."""
        return "; ".join(self._problems)

    def look_for(self, is_there: Callable[[], bool], seconds: float = DELAY_SECONDS) -> bool:
        """
        Receive messages until a condition is true, or for some time.

        :return: whether it is true.
        """
        until, is_found = clock.monotonic() + seconds, is_there()
        while not is_found and clock.monotonic() < until:
            self.receive(_WAIT_SECONDS)
            is_found = is_there()
            self._account.sleep(0 if is_found else _PAUSE_SECONDS)
        return is_found

    def receive(self, wait_seconds: int = 0) -> None:
        """
        Receive some messages.

        :param wait_seconds: how long SQS waits for the first one.
        :raises PolysyncError: there are too many about others.
        """
        hook = self._account.hook
        with self._lock:
            if len(self._others) > MAX_OTHERS:
                raise PolysyncError(
                    f"The queue has more than {MAX_OTHERS} messages about others: give an emptier one."
                )
            received = self._account.repeat(
                lambda: hook.receive_messages(self._url, hidden=_HIDDEN_SECONDS, wait=wait_seconds)
            )
            read = [self._sort(message) for message in received]
            own = [message.receipt for message, is_own in zip(received, read, strict=True) if is_own]
            self._account.repeat(lambda: hook.delete_messages(self._url, own))

    def _sort(self, message: ReceivedMessage) -> bool:
        """Keep a message; return whether it is about this run."""
        content = self._read(message.body)
        name = content and pipeline_name_of(content)
        if content and name and name.lower().startswith(self._account.name_of("").lower()):
            self._own.append(Message(clock.monotonic(), content))
            return True
        self._others.append(message.receipt)
        return False

    def _read(self, body: str) -> AnyChange | CallbackMessage | None:
        try:
            return read_message(body)
        except UnreadableMessageError as problem:
            callback = parse_message(body)
            if callback is None and len(self._problems) < _PROBLEMS:
                self._problems.append(str(problem))
            return callback

    def give_back(self) -> None:
        """Let others receive the messages about others."""
        with self._lock:
            others, self._others = self._others, []
        self._account.hook.hide_messages(self._url, others, 0)


def pipeline_name_of(content: AnyChange | CallbackMessage) -> str | None:
    """Return the name of the pipeline that a message is about; None if it is about something else."""
    arn = getattr(content, "execution_arn", None)
    return pipeline_name_from_arn(arn) if arn else None


def inbox(account: Account) -> Inbox:
    """Return the inbox of a run: an experiment for ``Account.once``."""
    return Inbox(account)
