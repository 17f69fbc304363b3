"""
The run of a callback task.

``CallbackRun`` finds out how the step is, and waits for it. ``CallbackResponder``
answers it with what the function of the task returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from airflow.providers.common.compat.sdk import Context

from polysync_airflow import exceptions, states
from polysync_airflow.airflow_compat.reschedules import is_rescheduled
from polysync_airflow.airflow_compat.sdk import AirflowSkipException, AirflowTaskTimeout
from polysync_airflow.airflow_compat.supervisor import mask_secret, redact
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import models, outcome
from polysync_airflow.execution.steps import callbacks
from polysync_airflow.execution.steps.callbacks import CallbackStatus
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.progress import (
    Progress,
    check_step_declared,
    check_step_name,
)
from polysync_airflow.execution.texts import clean_line, clean_text, invalid_argument
from polysync_airflow.execution.waiter import (
    ExecutionEvent,
    ExecutionWaiter,
    Polled,
    check_event,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import (
    callback_answer,
    callback_messages,
    reporting,
    task_run,
)
from polysync_airflow.triggers import PolysyncCallbackStepTrigger

if TYPE_CHECKING:
    from polysync_airflow.operators.callback import PolysyncCallbackStepOperator


class StepNewsError(Exception):
    """
    Raised to end a wait on a worker: the step has begun, or cannot begin any more.
    """


class StepSituation(NamedTuple):
    """
    A callback step and its execution, as AWS describes them.

    :param step: the step, if AWS has begun it.
    :param execution_status: AWS's status of its execution.
    """

    situation: CallbackStatus
    step: StepDescription | None
    execution_status: str


class CallbackRun(task_run.ExecutionRun):
    """One session of a callback task."""

    task: PolysyncCallbackStepOperator

    def __init__(self, task: PolysyncCallbackStepOperator, context: Context) -> None:
        super().__init__(task, context)
        self.arn = task.execution_arn
        self.step_name = task.step_name

    @cached_property
    def execution_hook(self) -> PolysyncSageMakerHook:
        """The hook for the region of the execution."""
        return self.hook_for_region(models.region_from_arn(self.arn))

    def execute(self) -> callbacks.Outputs:
        """Wait for the step, call the function, and answer."""
        self.check_execution(self.arn)
        check_step_name(self.step_name)
        op_kwargs = self.task.op_kwargs
        if op_kwargs is not None and not isinstance(op_kwargs, Mapping):
            raise invalid_argument("op_kwargs", op_kwargs, "give a dict")
        self.ti.xcom_push("execution_arn", self.arn)
        self.ti.xcom_push("step_name", self.step_name)
        pipeline_name = models.pipeline_name_of(self.arn)
        reporting.push_links(self.context, self.hook, self.arn, pipeline_name, self.log)
        self._check_declared()
        return self._answer(self.make_waiter(self.arn, None, cost_limit=None))

    def complete(self, event: Mapping[str, object] | None) -> callbacks.Outputs:
        """Go on when the step has begun, or cannot begin any more."""
        waiter = self.make_waiter(self.arn, None, cost_limit=None)
        change = callbacks.StepChangedEvent.or_none(event)
        if change:
            # The limit is that of the whole wait, also if the task is deferred again.
            waiter = replace(waiter, since=change.since, deadline=change.deadline)
        else:
            self._raise_unless_ended(check_event(ExecutionEvent, event))
        return self._answer(waiter)

    def _check_declared(self) -> None:
        """
        Check that the pipeline has the step, if the identity may read the definition.

        :raises ParametersError: it has no callback step with this name.
        """
        hook = self.execution_hook
        try:
            declared = hook.describe_pipeline_definition_for_execution(self.arn)
        except PolysyncError as error:
            self.log.info("Whether the pipeline has the step is not known: %s", error)
        else:
            check_step_declared(self.step_name, declared, callbacks.CALLBACK)

    def _answer(self, waiter: ExecutionWaiter) -> callbacks.Outputs:
        """
        Wait until the step has begun, and answer it; or return the output parameters
        that somebody else has sent.

        :raises CallbackStepError: the step has failed, or cannot be answered.
        :raises PipelineExecutionCancelledError: the execution is being stopped, or was
            stopped.
        """
        while True:
            situation, step, status = self.ask_aws()
            if situation is CallbackStatus.SUCCEEDED and step:
                self._clean_up(step)
                self.log.info(
                    "Step %s has already succeeded: its output parameters are taken,"
                    " and the function is not called.",
                    self.step_name,
                )
                return callbacks.recorded_outputs(step)
            if situation not in (
                CallbackStatus.NOT_BEGUN,
                CallbackStatus.RUNNING,
                CallbackStatus.STOPPING,
            ):
                self._clean_up(step)
                raise self._error_of(situation, step, status)
            callback = None
            if step:
                callback = callbacks.running_callback(step)
            if callback is None:
                self._wait_for_step(waiter)
                continue
            responder = CallbackResponder(self, callback)
            try:
                if situation is CallbackStatus.STOPPING:
                    raise responder.answer_stop()
                return responder.serve()
            except callback_answer.StepHasEndedError:
                # Somebody else has answered, or an earlier try whose answer AWS did not
                # show yet.
                self.log.info("Step %s no longer waits for an answer.", self.step_name)

    def _wait_for_step(self, waiter: ExecutionWaiter) -> None:
        """
        Wait until the step has begun, or cannot begin any more; or defer the task.
        """
        # Each poll may list the steps: half of its interval, because polls are not
        # exactly on time.
        progress_interval = max(models.MIN_PROGRESS_INTERVAL, waiter.poll_interval / 2)
        if self.options.deferrable:
            arguments = self.trigger_arguments(waiter)
            trigger = PolysyncCallbackStepTrigger(
                step_name=self.step_name,
                **arguments.listing(progress_interval).kwargs(),
            )
            self.task.defer(trigger=trigger, method_name="execute_complete")
        try:
            after_poll = partial(self._raise_if_news, Progress(progress_interval))
            end = self.wait_on_worker(waiter, after_poll)
        except StepNewsError:
            return
        self._raise_unless_ended(end)

    def _raise_unless_ended(self, end: ExecutionEvent) -> None:
        """
        Raise the error of a wait that has ended before the step began and before the
        execution ended.

        :raises PipelineExecutionTimeoutError: the step did not begin in time.
        :raises PolysyncError: AWS refused to describe the execution.
        """
        if end.outcome == "ended":
            return
        note = f"Callback step {self.step_name} was not answered. It may still begin."
        if end.outcome == "refused":
            raise outcome.refusal_error(
                end, outcome.outcome_message(end, notes=(note,))
            )
        raise exceptions.PipelineExecutionTimeoutError(
            f"Callback step {self.step_name} did not begin before the timeout (last AWS"
            f" status of the execution: {end.status or 'none received'}).\nReason:"
            f" {end.message}\n{note}\nExecution: {self.arn}",
            execution_arn=self.arn,
            status=end.status,
        )

    def ask_aws(self) -> StepSituation:
        """Return how the step is now."""
        # In this order: a step that is listed later is never older than the status.
        hook = self.execution_hook
        execution = self.call_with_retry(
            partial(hook.describe_pipeline_execution, self.arn)
        )
        steps = self.call_with_retry(
            partial(hook.list_pipeline_execution_steps, self.arn)
        )
        step = callbacks.find_step(steps, self.step_name)
        situation = callbacks.callback_status(step, execution.status)
        return StepSituation(situation, step, execution.status)

    def _raise_if_news(
        self, progress: Progress, waiter: ExecutionWaiter, polled: Polled
    ) -> None:
        """
        End a wait on a worker after a poll, if there is something for the task to do.

        :param progress: says when the steps are listed.
        :param polled: the response of the poll, or its error.
        :raises StepNewsError: the step has begun, or cannot begin any more.
        """
        status = None
        if not isinstance(polled, PolysyncError):
            status = polled.status
        if callbacks.is_news(self.step_name, status, None):
            raise StepNewsError
        listed = task_run.list_steps_if_due(
            self.execution_hook, waiter, progress, polled
        )
        if listed is None:
            return
        task_run.write_lines(self.log, listed.log_lines)
        if callbacks.is_news(self.step_name, status, listed.steps):
            raise StepNewsError

    @property
    def _is_first_session(self) -> bool:
        """Whether no earlier try, or session of this one, can have answered."""
        return self.ti.try_number == 1 and not is_rescheduled(self.context)

    def _clean_up(self, step: StepDescription | None) -> None:
        """
        Delete the message of the step that a try which died after its answer has left
        in the queue.
        """
        if step is None or self._is_first_session:
            return
        callback = callbacks.running_callback(step)
        if callback:
            CallbackResponder(self, callback).delete_messages()

    def _error_of(
        self, situation: CallbackStatus, step: StepDescription | None, status: str
    ) -> PolysyncError:
        where = f"\nExecution: {self.arn}"
        if situation is CallbackStatus.FAILED and step:
            reason = clean_text(step.failure_reason or "AWS returned no reason")
            return exceptions.CallbackStepError(
                f"Callback step {self.step_name} has already failed: {reason}\nThe"
                " function was not called. To run the step again, resume the execution,"
                f" then clear this task.{where}"
            )
        if situation is CallbackStatus.CANCELLED:
            return exceptions.PipelineExecutionCancelledFailError(
                f"The execution was stopped before callback step {self.step_name} was"
                f" answered (AWS status {status}).{where}",
                execution_arn=self.arn,
                status=status,
                permanent=True,
            )
        return exceptions.CallbackStepError(
            f"The execution has ended without callback step {self.step_name} (AWS"
            f" status {status}): a condition had another outcome, or a step before it"
            f" failed.{where}"
        )


class CallbackResponder:
    """
    Answers a callback step that waits for its answer.

    :param run: the run of the task.
    """

    def __init__(self, run: CallbackRun, callback: callbacks.RunningCallback) -> None:
        mask_secret(callback.token.get_secret_value())
        self._run = run
        self.arn = run.arn
        self.name = run.step_name
        self.log = run.log
        hook = run.execution_hook
        self._answer = callback_answer.Answer(
            hook, callback.token, self._has_step_ended, self.log.warning
        )
        self._queue = callback.queue
        queue_region = self._queue.region or models.region_from_arn(self.arn)
        queue_hook = run.hook_for_region(queue_region)
        self._messages = callback_messages.StepMessages(
            hook, queue_hook, self.arn, callback, self.log
        )

    def _has_step_ended(self) -> bool:
        return self._run.ask_aws().situation not in (
            CallbackStatus.RUNNING,
            CallbackStatus.STOPPING,
        )

    def _is_step_over(self) -> bool:
        """Return whether the step no longer waits for an answer of the function."""
        return self._run.ask_aws().situation is not CallbackStatus.RUNNING

    def serve(self) -> callbacks.Outputs:
        """
        Answer the step with what the function returns for the arguments of its message.

        :return: the output parameters of the answer.
        :raises StepHasEndedError: somebody else has answered the step meanwhile.
        :raises CallbackStepError: the function failed, and so has the step; or its
            message cannot be found.
        :raises AirflowSkipException: the function raised it, and the step has failed.
        :raises PipelineExecutionCancelledError: the execution is being stopped.
        """
        self.log.info(
            "Step %s waits for its answer. Queue: %s", self.name, self._queue.url
        )
        message = self._messages.receive(self._is_step_over)
        if message is None:
            raise self._error_without_message()
        if message.is_stop:
            raise self.answer_stop()
        arguments = self._run.task.op_kwargs or {}
        overridden = sorted(arguments.keys() & message.arguments.keys())
        if overridden:
            self.log.info(
                "op_kwargs override arguments of the step: %s",
                clean_line(", ".join(overridden)),
            )
        function = self._run.task.python_callable
        return self._call(partial(function, **{**message.arguments, **arguments}))

    def answer_stop(self) -> Exception:
        """
        Answer the step, whose execution is to be stopped; return the error that ends
        the task.

        :raises StepHasEndedError: somebody else has answered the step meanwhile.
        """
        self._answer.fail(callback_answer.STOP_REASON)
        return self._cancelled()

    def delete_messages(self) -> None:
        """Delete messages that an earlier try may have left in the queue."""
        self._messages.delete_all()

    def _call(self, function: Callable[[], object]) -> callbacks.Outputs:
        failure: BaseException | None = None
        outputs: callbacks.Outputs = {}
        with callback_answer.StopMonitor(
            self._messages.keep, self._is_stopping, self._answer, self.log.warning
        ) as monitor:
            try:
                outputs = callbacks.output_parameters(function())
            except (Exception, SystemExit, AirflowTaskTimeout) as error:
                failure = error
        if monitor.has_answered:
            raise self._cancelled() from failure
        if failure:
            reason = self._reason(failure)
            is_answered = self._answer.fail(reason)
        else:
            is_answered = self._answer.succeed(outputs)
        if not is_answered:
            # The monitor was in the middle of its answer.
            raise self._cancelled() from failure
        self._messages.delete_received()
        if failure:
            raise self._error_of(failure, reason) from failure
        self.log.info(
            "Step %s was answered with success. Output parameters: %s",
            self.name,
            clean_text(", ".join(outputs)) or "none",
        )
        return outputs

    def _error_of(self, failure: BaseException, reason: str) -> Exception:
        text = (
            f"The function of callback step {self.name} failed, and so has the step:"
            f" {reason}\nThe answer is final. To run the step again, resume the"
            f" execution, then clear this task.\nExecution: {self.arn}"
        )
        if isinstance(failure, AirflowSkipException):
            return AirflowSkipException(text)
        return exceptions.CallbackStepError(text)

    def _reason(self, failure: BaseException) -> str:
        # AWS shows the reason to everybody who may list the steps.
        if isinstance(failure, AirflowTaskTimeout):
            return "The function did not end before the execution_timeout of its task."
        text = redact(str(failure))
        if not isinstance(failure, exceptions.ParametersError):
            text = f"{type(failure).__name__}: {text}"
        return callbacks.failure_reason(text)

    def _cancelled(self) -> Exception:
        self._messages.delete_all()
        return exceptions.PipelineExecutionCancelledFailError(
            f"The execution is being stopped. Callback step {self.name} was answered"
            " with a failure, because the stop waits for the answer.\nExecution:"
            f" {self.arn}",
            execution_arn=self.arn,
            status=states.STATUS_STOPPING,
            permanent=True,
        )

    def _error_without_message(self) -> Exception:
        if self._is_step_over():
            return callback_answer.StepHasEndedError("The step no longer waits.")
        cure = (
            "look for another consumer of the queue, such as a Lambda function, which"
            " receives the message first, and give the step a queue of its own"
        )
        if self._messages.redrive:
            cure = (
                "move the message back from the dead-letter queue, and clear this"
                f" task. Otherwise, {cure}"
            )
        seconds = callback_messages.RECEIVE_TIMEOUT_SECONDS
        return exceptions.CallbackStepError(
            f"Callback step {self.name} waits for its answer, but its message was not"
            f" in the queue for {seconds:g} s. Only the message has the arguments of"
            " the step, so the function was not called, and the step was not"
            f" answered.\n{self._messages.describe_dead_letters()} -- What to do:"
            f" {cure}. Queue: {self._queue.url}\nExecution: {self.arn}",
            permanent=False,
        )

    def _is_stopping(self) -> bool:
        hook = self._run.execution_hook
        return (
            hook.describe_pipeline_execution(self.arn).status == states.STATUS_STOPPING
        )
