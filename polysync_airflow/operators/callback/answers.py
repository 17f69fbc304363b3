"""The one answer to a callback step, and the monitor that gives it if the execution is to be stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from threading import Event, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from pydantic import SecretStr

from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import (
    CONFLICT,
    RESOURCE_NOT_FOUND,
    VALIDATION,
    PolysyncError,
    SageMakerApiError,
    has_code,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.callbacks import failure_reason

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
        except SageMakerApiError as error:
            # AWS does not document with which of these it refuses the answer to a step that has ended.
            if has_code(error, CONFLICT, RESOURCE_NOT_FOUND, VALIDATION) and self._step_has_ended():
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
            text = str(error) if isinstance(error, PolysyncError) else f"{type(error).__name__}: {error}"
            if text not in self._warned:
                self._warned.add(text)
                self._warn(f"While the function of the callback step runs: {text}")
