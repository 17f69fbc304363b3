"""Looks at a callback step, and answers it when it has begun. Imported on a worker only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from polysync_airflow.exceptions import (
    CallbackStepError,
    PipelineExecutionCancelledFailError,
    PipelineExecutionTimeoutError,
    PolysyncError,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription, ExecutionEvent, region_from_arn
from polysync_airflow.execution.outcome import outcome_message, refusal_error
from polysync_airflow.execution.steps.awaited import check_step_declared
from polysync_airflow.execution.steps.callbacks import (
    CALLBACK,
    Outputs,
    RunningCallback,
    Situation,
    find_step,
    is_news,
    recorded_outputs,
    running_callback,
    situation_of,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.texts import clean_text
from polysync_airflow.operators.callback.answers import StepHasEndedError
from polysync_airflow.operators.callback.serving import ServedStep

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

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
        except PolysyncError as error:
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
            except StepHasEndedError:
                # An answer of an earlier try that AWS had not shown yet, or that of somebody else.
                self._log.info("Step %s no longer waits for an answer.", self._name)

    def watcher(self, interval: float) -> Callable[[ExecutionDescription | PolysyncError], None]:
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
        raise PipelineExecutionTimeoutError(
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

    def _raise_if_news(self, progress: Progress, response: ExecutionDescription | PolysyncError) -> None:
        steps: Sequence[StepDescription] | PolysyncError | None = None
        status = response.status if isinstance(response, ExecutionDescription) else None
        if not is_news(self._name, status, steps) and progress.after_poll(response, clock.time()):
            try:
                steps = self._hook.list_pipeline_execution_steps(self._arn)
            except PolysyncError as error:
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

    def _error_of(self, situation: Situation, step: StepDescription | None, status: str) -> PolysyncError:
        where = f"\nExecution: {self._arn}"
        if situation is Situation.FAILED and step:
            reason = clean_text(step.failure_reason or "AWS returned no reason")
            return CallbackStepError(
                f"Callback step {self._name} has already failed: {reason}\nThe function was not called. To "
                f"run the step again, resume the execution, then clear this task.{where}"
            )
        if situation is Situation.CANCELLED:
            return PipelineExecutionCancelledFailError(
                f"The execution was stopped before callback step {self._name} was answered (AWS status "
                f"{status}).{where}",
                execution_arn=self._arn,
                status=status,
                permanent=True,
            )
        return CallbackStepError(
            f"The execution has ended without callback step {self._name} (AWS status {status}): a condition "
            f"had another outcome, or a step before it failed.{where}"
        )
