"""Serves a callback step that waits for its answer: receives its message, calls the function, and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from polysync_airflow.airflow_compat.sdk import AirflowSkipException, AirflowTaskTimeout
from polysync_airflow.airflow_compat.supervisor import mask_secret, redact
from polysync_airflow.exceptions import (
    CallbackStepError,
    ParametersError,
    PipelineExecutionCancelledFailError,
)
from polysync_airflow.execution.steps.callbacks import (
    Outputs,
    RunningCallback,
    Situation,
    failure_reason,
    output_parameters,
)
from polysync_airflow.execution.texts import clean_line, clean_text
from polysync_airflow.operators.callback.answers import STOP_REASON, Answer, StepHasEndedError, StopMonitor
from polysync_airflow.operators.callback.messages import RECEIVE_TIMEOUT_SECONDS, StepMessages
from polysync_airflow.states import STATUS_STOPPING

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

_WAITS: tuple[Situation, ...] = (Situation.RUNNING, Situation.STOPPING)


class ServedStep:
    """
    A callback step that waits for its answer.

    :param hook: a hook with the task's connection, for the region of the execution.
    :param queue_hook: one for the region of the queue.
    :param name: the name of the step.
    :param look: returns the situation of the step now.
    :param log: the log of the task.
    """

    def __init__(
        self,
        hook: PolysyncSageMakerHook,
        queue_hook: PolysyncSageMakerHook,
        execution_arn: str,
        name: str,
        callback: RunningCallback,
        look: Callable[[], Situation],
        log: Any,
    ) -> None:
        mask_secret(callback.token.get_secret_value())
        self._arn = execution_arn
        self._name = name
        self._queue = callback.queue
        self._look = look
        self._log = log
        self._hook = hook
        self._answer = Answer(hook, callback.token, self._has_ended, log.warning)
        self._messages = StepMessages(hook, queue_hook, execution_arn, callback, log)

    def serve(
        self, function: Callable[..., Any], arguments: Mapping[str, Any], sleep: Callable[[float], None]
    ) -> Outputs:
        """
        Answer the step with what a function returns for the arguments of its message.

        :param arguments: further keyword arguments of the function; they override those of the message.
        :param sleep: waits for a number of seconds.
        :return: the output parameters of the answer.
        :raises StepHasEndedError: somebody else has answered the step meanwhile.
        :raises CallbackStepError: the function failed, and so has the step; or its message cannot be found.
        :raises AirflowSkipException: the function raised it, and the step has failed.
        :raises PipelineExecutionCancelledError: the execution is being stopped.
        """
        self._log.info("Step %s waits for its answer. Queue: %s", self._name, self._queue.url)
        message = self._messages.receive(lambda: self._look() is not Situation.RUNNING, sleep)
        if message is None:
            raise self._error_without_message()
        if message.is_stop:
            raise self.answer_stop()
        overridden = sorted(arguments.keys() & message.arguments.keys())
        if overridden:
            self._log.info("op_kwargs override arguments of the step: %s", clean_line(", ".join(overridden)))
        return self._call(partial(function, **{**message.arguments, **arguments}))

    def answer_stop(self) -> Exception:
        """
        Answer the step, whose execution is to be stopped; return the error that ends the task.

        :raises StepHasEndedError: somebody else has answered the step meanwhile.
        """
        self._answer.fail(STOP_REASON)
        return self._cancelled()

    def delete_messages(self) -> None:
        """Delete messages that an earlier try may have left in the queue."""
        self._messages.delete(look_for_more=True)

    def _call(self, function: Callable[[], Any]) -> Outputs:
        failure: BaseException | None = None
        outputs: Outputs = {}
        with StopMonitor(self._messages.keep, self._is_stopping, self._answer, self._log.warning) as monitor:
            try:
                outputs = output_parameters(function())
            except (Exception, SystemExit, AirflowTaskTimeout) as error:
                failure = error
        if monitor.has_answered:
            raise self._cancelled() from failure
        reason = self._reason(failure) if failure else None
        if not (self._answer.succeed(outputs) if reason is None else self._answer.fail(reason)):
            # The monitor was in the middle of its answer.
            raise self._cancelled() from failure
        self._messages.delete()
        if reason is not None:
            raise self._error_of(failure, reason) from failure
        self._log.info(
            "Step %s was answered with success. Output parameters: %s",
            self._name,
            clean_text(", ".join(outputs)) or "none",
        )
        return outputs

    def _error_of(self, failure: BaseException | None, reason: str) -> Exception:
        text = (
            f"The function of callback step {self._name} failed, and so has the step: {reason}\n"
            "The answer is final. To run the step again, resume the execution, then clear this task.\n"
            f"Execution: {self._arn}"
        )
        is_skipped = isinstance(failure, AirflowSkipException)
        return AirflowSkipException(text) if is_skipped else CallbackStepError(text)

    def _reason(self, failure: BaseException) -> str:
        # AWS shows it to everybody who may list the steps.
        if isinstance(failure, AirflowTaskTimeout):
            return "The function did not end before the execution_timeout of its task."
        text = redact(str(failure))
        is_own = isinstance(failure, ParametersError)
        return failure_reason(text if is_own else f"{type(failure).__name__}: {text}")

    def _cancelled(self) -> Exception:
        self._messages.delete(look_for_more=True)
        return PipelineExecutionCancelledFailError(
            f"The execution is being stopped. Callback step {self._name} was answered with a failure, "
            f"because the stop waits for the answer.\nExecution: {self._arn}",
            execution_arn=self._arn,
            status=STATUS_STOPPING,
            permanent=True,
        )

    def _error_without_message(self) -> Exception:
        if self._look() is not Situation.RUNNING:
            return StepHasEndedError("The step no longer waits.")
        cure = (
            "look for another consumer of the queue, such as a Lambda function, which receives the message "
            "first, and give the step a queue of its own"
        )
        if self._messages.has_dead_letters:
            cure = f"move the message back from the dead-letter queue, and clear this task. Otherwise, {cure}"
        return CallbackStepError(
            f"Callback step {self._name} waits for its answer, but its message was not in the queue for "
            f"{RECEIVE_TIMEOUT_SECONDS:g} s. Only the message has the arguments of the step, so the function "
            f"was not called, and the step was not answered.\n{self._messages.describe_dead_letters()} "
            f"-- What to do: {cure}. Queue: {self._queue.url}\nExecution: {self._arn}",
            permanent=False,
        )

    def _is_stopping(self) -> bool:
        return self._hook.describe_pipeline_execution(self._arn).status == STATUS_STOPPING

    def _has_ended(self) -> bool:
        return self._look() not in _WAITS
