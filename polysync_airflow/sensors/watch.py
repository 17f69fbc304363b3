"""The wait for one execution, or for one step of it, in one session of a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription, ExecutionEvent
from polysync_airflow.execution.steps.awaited import StepEndedEvent, ended_step
from polysync_airflow.execution.waiter import Finish, Waiter

if TYPE_CHECKING:
    from polysync_airflow.execution.steps.descriptions import StepDescription
    from polysync_airflow.hooks import PolysyncSageMakerHook
    from polysync_airflow.operators.outcome.steps import StepReporter


class Watch:
    """
    Polls an execution. What it decides is decided in ``execution/waiter.py``, as for the other waits.

    :param hook: the hook for the execution's region.
    :param step_name: the step for which the task waits; None for the end of the execution.
    :param lists_always: list the steps after each poll, without lines in the log: the next poll is made by
        another process, which does not know what was logged.
    :param push: pushes what AWS says of the execution when it says so first.
    """

    def __init__(
        self,
        hook: PolysyncSageMakerHook,
        waiter: Waiter,
        reporter: StepReporter,
        log: Any,
        *,
        step_name: str | None,
        lists_always: bool,
        push: Callable[[ExecutionDescription], object],
    ) -> None:
        self.waiter = waiter
        self._hook = hook
        self._reporter = reporter
        self._log = log
        self._step_name = step_name
        self._lists_always = lists_always
        # A step that can never be listed must not be awaited.
        self._must_list = step_name is not None
        self._push: Callable[[ExecutionDescription], object] | None = push

    def poll(self) -> ExecutionEvent | StepEndedEvent | None:
        """
        Poll the execution; return how the wait has ended, None if it goes on.

        :raises PolysyncError: the steps, of which one is awaited, cannot be listed.
        """
        response = self._hook.poll_pipeline_execution(self.waiter.execution_arn)
        if self._push and isinstance(response, ExecutionDescription):
            self._push(response)
            self._push = None
        step = self.waiter.decide(response, clock.time())
        for line in step.log_lines:
            self._log.log(line.level, "%s", line.text)
        if isinstance(step, Finish):
            return step.event
        self.waiter = step.waiter
        return self._poll_steps(response)

    def _poll_steps(self, response: ExecutionDescription | PolysyncError) -> StepEndedEvent | None:
        steps: Sequence[StepDescription] | PolysyncError | None
        if isinstance(response, PolysyncError):
            steps = self._reporter.after_poll(response)
        elif self._lists_always or self._must_list:
            steps = self._reporter.push_now()
        else:
            steps = self._reporter.after_poll(response)
        if isinstance(steps, PolysyncError):
            if self._must_list and not steps.transient:
                raise steps
            return None
        self._must_list &= steps is None
        if self._step_name is None:
            return None
        return ended_step(steps, self._step_name, self.waiter.execution_arn)
