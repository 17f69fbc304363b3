"""The messages of a callback step in its queue, which all executions of the pipeline, and others, share."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.callback_messages import (
    Handling,
    ReceivedMessage,
    Redrive,
    handling_of,
)
from polysync_airflow.execution.steps.callbacks import (
    CallbackMessage,
    RunningCallback,
    parse_message,
    still_waits,
)

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

# For how long SQS hides a message from others once it is received. If this process dies, the next try can
# receive it after that time.
HIDDEN_SECONDS: Final = 60
# How long a message is looked for: longer than a message is hidden that a try has received which has died.
RECEIVE_TIMEOUT_SECONDS: Final = 180.0
# How often AWS is asked meanwhile whether the step still waits. SageMaker allows fewer calls than SQS.
CHECK_SECONDS: Final = 10.0
# The pauses between two looks, in seconds, of which up to a half is left out at random; the last one repeats.
PAUSE_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
# Without any wait, SQS asks only some of its servers.
POLL_SECONDS: Final = 1
# Of one look, which ends when the message is there. Each receives ten messages, which others miss meanwhile.
MAX_RECEIVES: Final = 10


class StepMessages:
    """
    The messages of one callback step.

    :param hook: a hook with the task's connection, for the region of the execution.
    :param queue_hook: one for the region of the queue.
    :param log: the log of the task.
    """

    def __init__(
        self,
        hook: PolysyncSageMakerHook,
        queue_hook: PolysyncSageMakerHook,
        execution_arn: str,
        callback: RunningCallback,
        log: Any,
    ) -> None:
        self._hook = hook
        self._queue_hook = queue_hook
        self._arn = execution_arn
        self._token = callback.token
        self._url = callback.queue.url
        self._log = log
        self._receipts: list[str] = []
        # Why messages of others are no longer sent again.
        self._problem: PolysyncError | None = None

    def receive(self, is_over: Callable[[], bool], sleep: Callable[[float], None]) -> CallbackMessage | None:
        """
        Receive the message of the step. Others can receive theirs afterwards, and at once.

        :param is_over: asked from time to time: whether the step no longer waits.
        :param sleep: waits for a number of seconds.
        :return: the message; that of the stop, if there is one; None if there is none.
        :raises SageMakerApiError: a call failed.
        """
        begin = checked = clock.time()
        pauses = itertools.chain(PAUSE_SECONDS, itertools.repeat(PAUSE_SECONDS[-1]))
        for number, pause in enumerate(pauses):
            own = self._look()
            if own:
                return next((message for message in own if message.is_stop), own[0])
            if clock.time() - checked >= CHECK_SECONDS:
                checked = clock.time()
                if is_over():
                    break
            if clock.time() + pause > begin + RECEIVE_TIMEOUT_SECONDS:
                break
            if number == 0:
                self._log.info(
                    "The message of the step has not been received yet. %s", self.describe_dead_letters()
                )
            # Tasks that have begun at the same time shall not look at the same time.
            sleep(pause * (1 - random.random() / 2))  # noqa: S311 # it spreads load
        return None

    def _look(self) -> list[CallbackMessage]:
        own: list[CallbackMessage] = []
        others: dict[Handling, list[ReceivedMessage]] = defaultdict(list)
        try:
            for number in range(MAX_RECEIVES):
                wait = 0 if number else POLL_SECONDS
                batch = self._queue_hook.receive_messages(self._url, hidden=HIDDEN_SECONDS, wait=wait)
                for received in batch:
                    content = parse_message(received.body)
                    handling = self._handling_of(received, content)
                    if handling is Handling.KEEP and content:
                        own.append(content)
                        self._receipts.append(received.receipt)
                    else:
                        others[handling].append(received)
                if own or not batch:
                    break
        finally:
            self._release(others)
        return own

    def _handling_of(self, received: ReceivedMessage, content: CallbackMessage | None) -> Handling:
        is_own = content is not None and (content.token, content.execution_arn) == (self._token, self._arn)
        decide = partial(
            handling_of,
            received,
            content,
            is_own=is_own,
            max_receives=None if is_own or content is None or self._problem else self._max_receives,
            now=clock.time(),
        )
        handling = decide()
        if handling is not Handling.LOOK_UP or content is None:
            return handling
        try:
            steps = self._hook.list_pipeline_execution_steps(content.execution_arn)
        except PolysyncError:
            # It may be an execution of somebody else.
            return decide(waits=True)
        return decide(waits=still_waits(steps, content.token))

    def _release(self, others: dict[Handling, list[ReceivedMessage]]) -> None:
        deleted, given_back = others[Handling.DELETE], others[Handling.GIVE_BACK]
        for message in others[Handling.SEND_AGAIN]:
            (deleted if self._send_again(message) else given_back).append(message)
        try:
            self._queue_hook.hide_messages(self._url, [message.receipt for message in given_back], 0)
            self._queue_hook.delete_messages(self._url, [message.receipt for message in deleted])
        except PolysyncError as error:
            # A copy of a message that cannot be deleted would be one more message.
            self._problem = error
            self._log.warning("Messages of others are hidden from them for %s s: %s", HIDDEN_SECONDS, error)

    def _send_again(self, message: ReceivedMessage) -> bool:
        if self._problem:
            return False
        try:
            self._queue_hook.send_message_again(self._url, message)
        except PolysyncError as error:
            self._problem = error if error.permanent else None
            self._log.warning("A message of another execution cannot be sent again: %s", error)
            return False
        return True

    @cached_property
    def _redrive(self) -> Redrive | PolysyncError | None:
        try:
            return self._queue_hook.describe_redrive(self._url)
        except PolysyncError as error:
            return error

    @property
    def _max_receives(self) -> int | None:
        # Of a queue that cannot be described, each receive may be the last one.
        if isinstance(self._redrive, PolysyncError):
            return 1
        return self._redrive.max_receives if self._redrive else None

    @property
    def has_dead_letters(self) -> bool:
        """Whether the queue may have a dead-letter queue."""
        return self._redrive is not None

    def describe_dead_letters(self) -> str:
        """Return what is known of the dead-letter queue of the queue."""
        found = self._redrive
        if found is None:
            return "The queue has no dead-letter queue."
        if isinstance(found, PolysyncError):
            text = f"Whether the queue has a dead-letter queue is not known: {found}"
        else:
            times = f"{found.max_receives} times" if found.max_receives > 1 else "once"
            text = f"A message that was received {times} goes to the dead-letter queue {found.queue_arn}."
        # Else, those of other executions do not count.
        return f"{text}\nAll receives count, because: {self._problem}" if self._problem else text

    def keep(self) -> None:
        """
        Hide the received messages of the step for some more time.

        :raises SageMakerApiError: the call failed.
        """
        self._queue_hook.hide_messages(self._url, self._receipts, HIDDEN_SECONDS)

    def delete(self, *, look_for_more: bool = False) -> None:
        """
        Delete the messages of the step, after its answer. A message that stays behind does no harm.

        :param look_for_more: whether there may be messages that this process has not received.
        """
        try:
            if look_for_more:
                self._look()
            self._queue_hook.delete_messages(self._url, self._receipts)
            self._receipts.clear()
        except PolysyncError as error:
            self._log.warning("The message of the callback step stays in its queue: %s", error)
