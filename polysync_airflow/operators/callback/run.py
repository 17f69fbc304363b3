"""
Looks at a callback step; when it waits for its answer, receives its message, calls the function, and answers.

Imported on a worker only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat.sdk import AirflowSkipException, AirflowTaskTimeout
from polysync_airflow.airflow_compat.supervisor import mask_secret, redact
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription, ExecutionEvent, region_from_arn
from polysync_airflow.execution.outcome import outcome_message, refusal_error
from polysync_airflow.execution.steps.callbacks import (
    CALLBACK,
    Outputs,
    RunningCallback,
    Situation,
    failure_reason,
    find_step,
    is_news,
    output_parameters,
    recorded_outputs,
    running_callback,
    situation_of,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.progress import Progress, check_step_declared
from polysync_airflow.execution.texts import clean_line, clean_text
from polysync_airflow.operators.callback import messages
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
        self._answer = messages.Answer(hook, callback.token, self._has_ended, log.warning)
        self._messages = messages.StepMessages(hook, queue_hook, execution_arn, callback, log)

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
        self._answer.fail(messages.STOP_REASON)
        return self._cancelled()

    def delete_messages(self) -> None:
        """Delete messages that an earlier try may have left in the queue."""
        self._messages.delete(look_for_more=True)

    def _call(self, function: Callable[[], Any]) -> Outputs:
        failure: BaseException | None = None
        outputs: Outputs = {}
        with messages.StopMonitor(
            self._messages.keep, self._is_stopping, self._answer, self._log.warning
        ) as monitor:
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
        return AirflowSkipException(text) if is_skipped else exceptions.CallbackStepError(text)

    def _reason(self, failure: BaseException) -> str:
        # AWS shows it to everybody who may list the steps.
        if isinstance(failure, AirflowTaskTimeout):
            return "The function did not end before the execution_timeout of its task."
        text = redact(str(failure))
        is_own = isinstance(failure, exceptions.ParametersError)
        return failure_reason(text if is_own else f"{type(failure).__name__}: {text}")

    def _cancelled(self) -> Exception:
        self._messages.delete(look_for_more=True)
        return exceptions.PipelineExecutionCancelledFailError(
            f"The execution is being stopped. Callback step {self._name} was answered with a failure, "
            f"because the stop waits for the answer.\nExecution: {self._arn}",
            execution_arn=self._arn,
            status=STATUS_STOPPING,
            permanent=True,
        )

    def _error_without_message(self) -> Exception:
        if self._look() is not Situation.RUNNING:
            return messages.StepHasEndedError("The step no longer waits.")
        cure = (
            "look for another consumer of the queue, such as a Lambda function, which receives the message "
            "first, and give the step a queue of its own"
        )
        if self._messages.has_dead_letters:
            cure = f"move the message back from the dead-letter queue, and clear this task. Otherwise, {cure}"
        return exceptions.CallbackStepError(
            f"Callback step {self._name} waits for its answer, but its message was not in the queue for "
            f"{messages.RECEIVE_TIMEOUT_SECONDS:g} s. Only the message has the arguments of the step, so the "
            "function was not called, and the step was not answered.\n"
            f"{self._messages.describe_dead_letters()} -- What to do: {cure}. Queue: {self._queue.url}\n"
            f"Execution: {self._arn}",
            permanent=False,
        )

    def _is_stopping(self) -> bool:
        return self._hook.describe_pipeline_execution(self._arn).status == STATUS_STOPPING

    def _has_ended(self) -> bool:
        return self._look() not in _WAITS


Result = TypeVar("Result")


class StepNewsError(Exception):
    """Raised to end a wait on a worker: the step has begun, or cannot begin any more."""


class View(NamedTuple):
    """What a look at a step finds; ``step`` is None if AWS has not begun it."""

    situation: Situation
    step: StepDescription | None
    status: str


class StepRun:
    """
    A callback step of an execution, as a task that answers it sees it.

    :param hook_for_region: returns the hook for the task's connection in a region.
    :param retry: makes a call, and repeats it after a transient error.
    :param log: the log of the task.
    """

    def __init__(
        self,
        hook_for_region: Callable[[str | None], PolysyncSageMakerHook],
        execution_arn: str,
        name: str,
        retry: Callable[[Callable[[], Any]], Any],
        log: Any,
    ) -> None:
        self._hook_for_region = hook_for_region
        self._hook = hook_for_region(region_from_arn(execution_arn))
        self._arn = execution_arn
        self._name = name
        self._retry = retry
        self._log = log

    def check_declared(self) -> None:
        """
        Check that the pipeline has the step, if the identity may read the definition.

        :raises ParametersError: it has no callback step with this name.
        """
        try:
            declared = self._hook.describe_pipeline_definition_for_execution(self._arn)
        except exceptions.PolysyncError as error:
            self._log.info("Whether the pipeline has the step is not known: %s", error)
        else:
            check_step_declared(self._name, declared, CALLBACK)

    def answer(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        sleep: Callable[[float], None],
        *,
        is_first_try: bool,
    ) -> Outputs | None:
        """
        Answer the step if it has begun.

        :param function: the function whose return value is the answer.
        :param arguments: further keyword arguments of the function.
        :param sleep: waits for a number of seconds.
        :param is_first_try: whether no earlier try can have answered.
        :return: the output parameters; None if the step has not begun.
        :raises CallbackStepError: the step has failed, or cannot be answered.
        :raises PipelineExecutionCancelledError: the execution is being stopped, or was stopped.
        """
        while True:
            situation, step, status = self._look()
            if situation is Situation.SUCCEEDED and step:
                return self._take_answer(step, is_first_try=is_first_try)
            if situation not in (Situation.NOT_BEGUN, Situation.RUNNING, Situation.STOPPING):
                self._clean_up(step, is_first_try=is_first_try)
                raise self._error_of(situation, step, status)
            callback = running_callback(step) if step else None
            if callback is None:
                return None
            served = self._served(callback)
            try:
                if situation is Situation.STOPPING:
                    raise served.answer_stop()
                return served.serve(function, arguments, sleep)
            except messages.StepHasEndedError:
                # An answer of an earlier try that AWS had not shown yet, or that of somebody else.
                self._log.info("Step %s no longer waits for an answer.", self._name)

    def watcher(self, interval: float) -> Callable[[ExecutionDescription | exceptions.PolysyncError], None]:
        """
        Return what a wait on a worker calls after each poll. It raises ``StepNewsError`` to end the wait.

        :param interval: the least number of seconds between two lists of the steps.
        """
        return partial(self._raise_if_news, Progress(interval))

    def raise_unless_ended(self, end: ExecutionEvent) -> None:
        """
        Raise the error of a wait that has ended before the step began and before the execution ended.

        :raises PipelineExecutionTimeoutError: the step did not begin in time.
        :raises PolysyncError: AWS refused to describe the execution.
        """
        if end.outcome == "ended":
            return
        note = f"Callback step {self._name} was not answered. It may still begin."
        if end.outcome == "refused":
            raise refusal_error(end, outcome_message(end, notes=(note,)))
        raise exceptions.PipelineExecutionTimeoutError(
            f"Callback step {self._name} did not begin before the timeout (last AWS status of the execution: "
            f"{end.status or 'none received'}).\nReason: {end.message}\n{note}\nExecution: {self._arn}",
            execution_arn=self._arn,
            status=end.status,
        )

    def _look(self) -> View:
        # In this order: a step that is listed later is never older than the status.
        status = self._retry(lambda: self._hook.describe_pipeline_execution(self._arn)).status
        steps = self._retry(lambda: self._hook.list_pipeline_execution_steps(self._arn))
        step = find_step(steps, self._name)
        return View(situation_of(step, status), step, status)

    def _raise_if_news(
        self, progress: Progress, response: ExecutionDescription | exceptions.PolysyncError
    ) -> None:
        steps: Sequence[StepDescription] | exceptions.PolysyncError | None = None
        status = response.status if isinstance(response, ExecutionDescription) else None
        if not is_news(self._name, status, steps) and progress.after_poll(response, clock.time()):
            try:
                steps = self._hook.list_pipeline_execution_steps(self._arn)
            except exceptions.PolysyncError as error:
                steps = error
            for line in progress.after_list(steps, clock.time()):
                self._log.log(line.level, "%s", line.text)
        if is_news(self._name, status, steps):
            raise StepNewsError

    def _served(self, callback: RunningCallback) -> ServedStep:
        queue_hook = self._hook_for_region(callback.queue.region or region_from_arn(self._arn))
        return ServedStep(
            self._hook, queue_hook, self._arn, self._name, callback, lambda: self._look().situation, self._log
        )

    def _take_answer(self, step: StepDescription, *, is_first_try: bool) -> Outputs:
        self._clean_up(step, is_first_try=is_first_try)
        self._log.info(
            "Step %s has already succeeded: its output parameters are taken, and the function is not called.",
            self._name,
        )
        return recorded_outputs(step)

    def _clean_up(self, step: StepDescription | None, *, is_first_try: bool) -> None:
        # A try that died after its answer has left the message in the queue.
        callback = running_callback(step) if step and not is_first_try else None
        if callback:
            self._served(callback).delete_messages()

    def _error_of(
        self, situation: Situation, step: StepDescription | None, status: str
    ) -> exceptions.PolysyncError:
        where = f"\nExecution: {self._arn}"
        if situation is Situation.FAILED and step:
            reason = clean_text(step.failure_reason or "AWS returned no reason")
            return exceptions.CallbackStepError(
                f"Callback step {self._name} has already failed: {reason}\nThe function was not called. To "
                f"run the step again, resume the execution, then clear this task.{where}"
            )
        if situation is Situation.CANCELLED:
            return exceptions.PipelineExecutionCancelledFailError(
                f"The execution was stopped before callback step {self._name} was answered (AWS status "
                f"{status}).{where}",
                execution_arn=self._arn,
                status=status,
                permanent=True,
            )
        return exceptions.CallbackStepError(
            f"The execution has ended without callback step {self._name} (AWS status {status}): a condition "
            f"had another outcome, or a step before it failed.{where}"
        )
