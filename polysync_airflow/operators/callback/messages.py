"""
The messages of a callback step in its queue, which all executions of the pipeline, and others, share, and the
one answer to the step.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import cached_property, partial
from threading import Event, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import SecretStr

from polysync_airflow import exceptions
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.callbacks import (
    CallbackMessage,
    Handling,
    ReceivedMessage,
    Redrive,
    RunningCallback,
    failure_reason,
    handling_of,
    parse_message,
    still_waits,
)

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

# How long an answer is repeated while AWS throttles or cannot be reached.
ANSWER_TIMEOUT_SECONDS: Final = 600.0
# Seconds of the host between two looks of the monitor. A message is hidden for three times as long.
MONITOR_SECONDS: Final = 20.0
# How long the end of the function waits for a call of the monitor.
JOIN_SECONDS: Final = 30.0
STOP_REASON: Final = "The execution is being stopped."


class StepHasEndedError(Exception):
    """Raised when AWS refuses an answer because the step has ended: somebody else has answered it."""


class Answer:
    """
    The answer to a step. Only the first one is given. Thread-safe.

    :param hook: a hook with the task's connection, for the region of the execution.
    :param token: the callback token of the step.
    :param step_has_ended: says whether AWS shows the step as ended.
    :param warn: called with a message when a request is repeated.
    """

    def __init__(
        self,
        hook: PolysyncSageMakerHook,
        token: SecretStr,
        step_has_ended: Callable[[], bool],
        warn: Callable[[str], object],
    ) -> None:
        self._hook = hook
        self._token = token
        self._step_has_ended = step_has_ended
        self._warn = warn
        self._lock = Lock()
        self._is_given = False

    def succeed(self, outputs: Mapping[str, str]) -> bool:
        """
        Answer with success; return whether this is the answer.

        :raises StepHasEndedError: somebody else has answered.
        :raises SageMakerApiError: AWS has not taken the answer.
        """
        return self._give(partial(self._hook.send_pipeline_execution_step_success, self._token, outputs))

    def fail(self, reason: str) -> bool:
        """
        Answer with a failure; return whether this is the answer.

        :raises StepHasEndedError: somebody else has answered.
        :raises SageMakerApiError: AWS has not taken the answer.
        """
        reason = failure_reason(reason)
        return self._give(partial(self._hook.send_pipeline_execution_step_failure, self._token, reason))

    def _give(self, send: Callable[[], None]) -> bool:
        with self._lock:
            if self._is_given:
                return False
            call_with_retry(
                partial(self._send, send), until=clock.time() + ANSWER_TIMEOUT_SECONDS, warn=self._warn
            )
            self._is_given = True
            return True

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
        except exceptions.SageMakerApiError as error:
            # AWS does not document with which of these it refuses the answer to a step that has ended.
            if (
                exceptions.has_code(
                    error, exceptions.CONFLICT, exceptions.RESOURCE_NOT_FOUND, exceptions.VALIDATION
                )
                and self._step_has_ended()
            ):
                raise StepHasEndedError(str(error)) from None
            raise


class StopMonitor:
    """
    A context in which a thread looks for a stop while the function of a step runs.

    It keeps the message of the step from other consumers. If the execution is to be stopped, it answers at
    once, because AWS stops it only then. The function itself is not interrupted.

    :param keep: hides the message for a while.
    :param is_stopping: says whether the execution is to be stopped.
    :param warn: called with a message once for each new error. No error ends its thread.
    """

    def __init__(
        self,
        keep: Callable[[], None],
        is_stopping: Callable[[], bool],
        answer: Answer,
        warn: Callable[[str], object],
    ) -> None:
        self._keep = keep
        self._is_stopping = is_stopping
        self._answer = answer
        self._warn = warn
        self._warned: set[str] = set()
        self._ended = Event()
        self.has_answered = False

    def __enter__(self) -> Self:
        run = partial(copy_context().run, self._run)
        self._thread = Thread(target=run, name="polysync-callback", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        # Not a wait of the provider: the time that a function takes is that of the host.
        while not self.has_answered and not self._ended.wait(MONITOR_SECONDS):
            self._try(self._keep)
            self._try(self._answer_stop)

    def _answer_stop(self) -> None:
        if self._is_stopping():
            self.has_answered = self._answer.fail(STOP_REASON)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            text = (
                str(error)
                if isinstance(error, exceptions.PolysyncError)
                else f"{type(error).__name__}: {error}"
            )
            if text not in self._warned:
                self._warned.add(text)
                self._warn(f"While the function of the callback step runs: {text}")


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
        self._problem: exceptions.PolysyncError | None = None

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
        except exceptions.PolysyncError:
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
        except exceptions.PolysyncError as error:
            # A copy of a message that cannot be deleted would be one more message.
            self._problem = error
            self._log.warning("Messages of others are hidden from them for %s s: %s", HIDDEN_SECONDS, error)

    def _send_again(self, message: ReceivedMessage) -> bool:
        if self._problem:
            return False
        try:
            self._queue_hook.send_message_again(self._url, message)
        except exceptions.PolysyncError as error:
            self._problem = error if error.permanent else None
            self._log.warning("A message of another execution cannot be sent again: %s", error)
            return False
        return True

    @cached_property
    def _redrive(self) -> Redrive | exceptions.PolysyncError | None:
        try:
            return self._queue_hook.describe_redrive(self._url)
        except exceptions.PolysyncError as error:
            return error

    @property
    def _max_receives(self) -> int | None:
        # Of a queue that cannot be described, each receive may be the last one.
        if isinstance(self._redrive, exceptions.PolysyncError):
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
        if isinstance(found, exceptions.PolysyncError):
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
        except exceptions.PolysyncError as error:
            self._log.warning("The message of the callback step stays in its queue: %s", error)
