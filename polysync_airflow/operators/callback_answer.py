"""The answer to a callback step, and what looks for a stop before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock, Thread
from typing import Final, Self

from pydantic import SecretStr

from polysync_airflow import exceptions
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.callbacks import failure_reason
from polysync_airflow.hooks import PolysyncSageMakerHook

# How long an answer is repeated while AWS throttles or cannot be reached.
ANSWER_TIMEOUT_SECONDS: Final = 600.0
# Seconds between two requests of the monitor, on the clock of the host. A message is
# hidden for three times as long.
MONITOR_SECONDS: Final = 20.0
# How long the end of the function waits for a call of the monitor.
JOIN_SECONDS: Final = 30.0
STOP_REASON: Final = "The execution is being stopped."


class StepHasEndedError(Exception):
    """
    Raised when AWS refuses an answer because the step has ended: somebody else has
    answered it.
    """


@dataclass
class Answer:
    """
    The answer to a step. Only the first one is given. Thread-safe.

    :param hook: a hook with the task's connection, for the region of the execution.
    :param token: the callback token of the step.
    :param step_has_ended: says whether AWS shows the step as ended.
    :param warn: called with a message when a request is repeated.
    """

    hook: PolysyncSageMakerHook
    token: SecretStr
    step_has_ended: Callable[[], bool]
    warn: Callable[[str], object]
    _lock: Lock = field(default_factory=Lock, init=False)
    _is_given: bool = field(default=False, init=False)

    def succeed(self, outputs: Mapping[str, str]) -> bool:
        """
        Answer with success; return whether this is the answer.

        :raises StepHasEndedError: somebody else has answered.
        :raises SageMakerApiError: AWS has not taken the answer.
        """
        return self._give(
            partial(self.hook.send_pipeline_execution_step_success, self.token, outputs)
        )

    def fail(self, reason: str) -> bool:
        """
        Answer with a failure; return whether this is the answer.

        :raises StepHasEndedError: somebody else has answered.
        :raises SageMakerApiError: AWS has not taken the answer.
        """
        reason = failure_reason(reason)
        return self._give(
            partial(self.hook.send_pipeline_execution_step_failure, self.token, reason)
        )

    def _give(self, send: Callable[[], None]) -> bool:
        with self._lock:
            if self._is_given:
                return False
            until = clock.time() + ANSWER_TIMEOUT_SECONDS
            call_with_retry(partial(self._send, send), until=until, warn=self.warn)
            self._is_given = True
            return True

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
        except exceptions.SageMakerApiError as error:
            # AWS does not document with which of these it refuses the answer to a step
            # that has ended.
            codes = (
                exceptions.CONFLICT,
                exceptions.RESOURCE_NOT_FOUND,
                exceptions.VALIDATION,
            )
            if not exceptions.has_code(error, *codes):
                raise
            if not self.step_has_ended():
                raise
            raise StepHasEndedError(str(error)) from None


@dataclass
class StopMonitor:
    """
    A context in which a thread looks for a stop while the function of a step runs.

    The thread keeps the message of the step from other consumers. If the execution is
    to be stopped, it answers at once, because AWS stops it only then. The function
    itself is not interrupted.

    :param keep: hides the message for a while.
    :param is_stopping: says whether the execution is to be stopped.
    :param warn: called with a message once for each new error. No error ends the
        thread.
    """

    keep: Callable[[], None]
    is_stopping: Callable[[], bool]
    answer: Answer
    warn: Callable[[str], object]
    has_answered: bool = field(default=False, init=False)
    _warned: set[str] = field(default_factory=set, init=False)
    _ended: Event = field(default_factory=Event, init=False)

    def __enter__(self) -> Self:
        monitor = partial(copy_context().run, self._monitor)
        self._thread = Thread(target=monitor, name="polysync-callback", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(JOIN_SECONDS)

    def _monitor(self) -> None:
        # Not a wait of the provider: a function takes its time on the host's clock.
        while not self.has_answered and not self._ended.wait(MONITOR_SECONDS):
            self._try(self.keep)
            self._try(self._answer_stop)

    def _answer_stop(self) -> None:
        if self.is_stopping():
            self.has_answered = self.answer.fail(STOP_REASON)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if isinstance(error, exceptions.PolysyncError):
                text = str(error)
            if text not in self._warned:
                self._warned.add(text)
                self.warn(f"While the function of the callback step runs: {text}")
