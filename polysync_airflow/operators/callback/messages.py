"""The messages of a callback step in its queue, which other steps, and other consumers, may share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.callbacks import CallbackMessage, RunningCallback, parse_message

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

# For how long SQS hides a message from others once it is received. If this process dies, the next try can
# receive it after that time.
HIDDEN_SECONDS: Final = 60
# How long a message is looked for: longer than a message is hidden that a try has received which has died.
RECEIVE_TIMEOUT_SECONDS: Final = 180.0
# The pauses between two receives, in seconds; the last one repeats. Each receive counts for the messages of
# others, too, which a dead-letter queue takes after a number of receives.
PAUSE_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
# Without any wait, SQS asks only some of its servers.
POLL_SECONDS: Final = 1


class StepMessages:
    """
    The messages of one callback step.

    :param hook: a hook with the task's connection, for the region of the queue.
    :param warn: called with a message if a message cannot be given back or deleted.
    """

    def __init__(
        self,
        hook: PolysyncSageMakerHook,
        execution_arn: str,
        callback: RunningCallback,
        warn: Callable[[str], object],
    ) -> None:
        self._hook = hook
        self._arn = execution_arn
        self._token = callback.token.get_secret_value()
        self._url = callback.queue.url
        self._warn = warn
        self._receipts: list[str] = []

    def receive(self, is_over: Callable[[], bool], sleep: Callable[[float], None]) -> CallbackMessage | None:
        """
        Receive the message of the step. Messages of others are given back at once.

        :param is_over: asked after each receive without it: whether the step no longer waits.
        :param sleep: waits for a number of seconds.
        :return: the message; that of the stop, if there is one; None if there is none.
        :raises SageMakerApiError: a call failed.
        """
        until = clock.time() + RECEIVE_TIMEOUT_SECONDS
        pauses = itertools.chain(PAUSE_SECONDS, itertools.repeat(PAUSE_SECONDS[-1]))
        while True:
            own = self._receive_once()
            if own:
                return next((message for message in own if message.is_stop), own[0])
            pause = next(pauses)
            if is_over() or clock.time() + pause > until:
                return None
            sleep(pause)

    def _receive_once(self) -> list[CallbackMessage]:
        own, others = [], []
        for received in self._hook.receive_messages(self._url, hidden=HIDDEN_SECONDS, wait=POLL_SECONDS):
            message = parse_message(received.body)
            if message and self._is_own(message):
                own.append(message)
                self._receipts.append(received.receipt)
            else:
                others.append(received.receipt)
        self._give_back(others)
        return own

    def _is_own(self, message: CallbackMessage) -> bool:
        token = message.token.get_secret_value() if message.token else None
        return token == self._token and message.execution_arn == self._arn

    def _give_back(self, receipts: Sequence[str]) -> None:
        try:
            self._hook.hide_messages(self._url, receipts, 0)
        except PolysyncError as error:
            self._warn(f"Messages of others are hidden from them for {HIDDEN_SECONDS} s: {error}")

    def keep(self) -> None:
        """
        Hide the received messages of the step for some more time.

        :raises SageMakerApiError: the call failed.
        """
        self._hook.hide_messages(self._url, self._receipts, HIDDEN_SECONDS)

    def delete(self, *, look_for_more: bool = False) -> None:
        """
        Delete the messages of the step, after its answer. A message that stays behind does no harm.

        :param look_for_more: whether there may be messages that this process has not received.
        """
        try:
            if look_for_more:
                self._receive_once()
            self._hook.delete_messages(self._url, self._receipts)
            self._receipts.clear()
        except PolysyncError as error:
            self._warn(f"The message of the callback step stays in its queue: {error}")
