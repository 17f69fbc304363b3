"""
The messages of a callback step in its queue, which all executions of the pipeline
share, and maybe others.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps import callbacks
from polysync_airflow.execution.steps.callbacks import (
    CallbackMessage,
    Handling,
    ReceivedMessage,
)
from polysync_airflow.hooks import PolysyncSageMakerHook, executions

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

# For how long SQS hides a message from others once it is received. If this process
# dies, the next try can receive it after that time.
HIDDEN_SECONDS: Final = 60
# How long the queue is searched for the message: longer than a message stays hidden
# after its try has died.
RECEIVE_TIMEOUT_SECONDS: Final = 180.0
# How often AWS is asked meanwhile whether the step still waits. SageMaker allows fewer
# calls than SQS.
CHECK_SECONDS: Final = 10.0
# The pauses between two searches, in seconds, of which up to a half is left out at
# random; the last one repeats.
PAUSE_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
# The seconds of a receive. Without any wait, SQS asks only some of its servers.
POLL_SECONDS: Final = 1
# How many batches a search receives at most. Each has ten messages, which others miss
# meanwhile.
MAX_RECEIVES: Final = 10


@dataclass
class StepMessages:
    """
    The messages of one callback step.

    :param hook: a hook with the task's connection, for the region of the execution.
    :param queue_hook: one for the region of the queue.
    """

    hook: PolysyncSageMakerHook
    queue_hook: PolysyncSageMakerHook
    arn: str
    callback: callbacks.RunningCallback
    log: Logger
    _receipts: list[str] = field(default_factory=list, init=False)
    # Why messages of others are no longer sent again.
    _problem: PolysyncError | None = field(default=None, init=False)

    @property
    def _url(self) -> str:
        return self.callback.queue.url

    def receive(self, is_over: Callable[[], bool]) -> CallbackMessage | None:
        """
        Receive the message of the step. Others can receive theirs afterwards, and at
        once.

        :param is_over: asked from time to time: whether the step no longer waits.
        :return: the message; that of the stop, if there is one; None if there is none.
        :raises SageMakerApiError: a call failed.
        """
        begin = clock.time()
        checked_at = begin
        pauses = itertools.chain(PAUSE_SECONDS, itertools.repeat(PAUSE_SECONDS[-1]))
        for number, pause in enumerate(pauses):
            messages = self._search_queue()
            for message in messages:
                if message.is_stop:
                    return message
            if messages:
                return messages[0]
            if clock.time() - checked_at >= CHECK_SECONDS:
                checked_at = clock.time()
                if is_over():
                    break
            if clock.time() + pause > begin + RECEIVE_TIMEOUT_SECONDS:
                break
            if number == 0:
                self.log.info(
                    "The message of the step has not been received yet. %s",
                    self.describe_dead_letters(),
                )
            # Tasks that have begun at the same time shall not search at the same time.
            clock.sleep(pause * (1 - random.random() / 2))  # noqa: S311 # it spreads load
        return None

    def _search_queue(self) -> list[CallbackMessage]:
        """
        Receive messages until one of the step is among them, or the queue is empty.
        Others can receive theirs afterwards.
        """
        messages: list[CallbackMessage] = []
        other_messages: dict[Handling, list[ReceivedMessage]] = defaultdict(list)
        wait = POLL_SECONDS
        try:
            for _ in range(MAX_RECEIVES):
                batch = self.queue_hook.receive_messages(
                    self._url, hidden=HIDDEN_SECONDS, wait=wait
                )
                for received in batch:
                    content = callbacks.parse_message(received.body)
                    handling = self._handling_of(received, content)
                    if handling is Handling.KEEP and content:
                        messages.append(content)
                        self._receipts.append(received.receipt)
                    else:
                        other_messages[handling].append(received)
                if messages or not batch:
                    break
                wait = 0
        finally:
            self._release(other_messages)
        return messages

    def _handling_of(
        self, received: ReceivedMessage, content: CallbackMessage | None
    ) -> Handling:
        is_own = (
            content is not None
            and content.token == self.callback.token
            and content.execution_arn == self.arn
        )
        max_receives = None
        if not is_own and content is not None and self._problem is None:
            max_receives = self._max_receives
        decide = partial(
            callbacks.handling_of,
            received,
            content,
            is_own=is_own,
            max_receives=max_receives,
            now=clock.time(),
        )
        handling = decide()
        if handling is not Handling.LOOK_UP or content is None:
            return handling
        try:
            steps = self.hook.list_pipeline_execution_steps(content.execution_arn)
        except PolysyncError:
            # The message may belong to an execution of somebody else.
            return decide(waits=True)
        return decide(waits=callbacks.still_waits(steps, content.token))

    def _release(self, messages: dict[Handling, list[ReceivedMessage]]) -> None:
        to_delete = [message.receipt for message in messages[Handling.DELETE]]
        to_give_back = [message.receipt for message in messages[Handling.GIVE_BACK]]
        for message in messages[Handling.SEND_AGAIN]:
            if self._send_again(message):
                to_delete.append(message.receipt)
            else:
                to_give_back.append(message.receipt)
        try:
            self.queue_hook.hide_messages(self._url, to_give_back, 0)
            self.queue_hook.delete_messages(self._url, to_delete)
        except PolysyncError as error:
            # A copy of a message that cannot be deleted would be one more message.
            self._problem = error
            self.log.warning(
                "Messages of others are hidden from them for %s s: %s",
                HIDDEN_SECONDS,
                error,
            )

    def _send_again(self, message: ReceivedMessage) -> bool:
        """Send a message again; return whether the received one can be deleted."""
        if self._problem:
            return False
        try:
            self.queue_hook.send_message_again(self._url, message)
        except PolysyncError as error:
            if error.permanent:
                self._problem = error
            self.log.warning(
                "A message of another execution cannot be sent again: %s", error
            )
            return False
        return True

    @cached_property
    def redrive(self) -> callbacks.Redrive | PolysyncError | None:
        """
        The dead-letter queue of the queue, or why it is not known; None if it has none.
        """
        return executions.result_or_error(self.queue_hook.describe_redrive, self._url)

    @property
    def _max_receives(self) -> int | None:
        redrive = self.redrive
        if redrive is None:
            return None
        if isinstance(redrive, PolysyncError):
            # Each receive may be the last one.
            return 1
        return redrive.max_receives

    def describe_dead_letters(self) -> str:
        """Return what is known of the dead-letter queue of the queue."""
        redrive = self.redrive
        if redrive is None:
            return "The queue has no dead-letter queue."
        if isinstance(redrive, PolysyncError):
            text = f"Whether the queue has a dead-letter queue is not known: {redrive}"
        else:
            times = "once"
            if redrive.max_receives > 1:
                times = f"{redrive.max_receives} times"
            text = (
                f"A message that was received {times} goes to the dead-letter queue"
                f" {redrive.queue_arn}."
            )
        if self._problem is None:
            # Messages of others are sent again, so that a receive does not count.
            return text
        return f"{text}\nAll receives count, because: {self._problem}"

    def keep(self) -> None:
        """
        Hide the received messages of the step for some more time.

        :raises SageMakerApiError: the call failed.
        """
        self.queue_hook.hide_messages(self._url, self._receipts, HIDDEN_SECONDS)

    def delete_received(self) -> None:
        """
        Delete the received messages of the step, after its answer. A message that stays
        behind does no harm.
        """
        try:
            self.queue_hook.delete_messages(self._url, self._receipts)
        except PolysyncError as error:
            self._warn_of_leftovers(error)
        else:
            self._receipts.clear()

    def delete_all(self) -> None:
        """Delete also messages of the step that this process has not received yet."""
        try:
            self._search_queue()
        except PolysyncError as error:
            self._warn_of_leftovers(error)
        else:
            self.delete_received()

    def _warn_of_leftovers(self, error: PolysyncError) -> None:
        self.log.warning(
            "The message of the callback step stays in its queue: %s", error
        )
