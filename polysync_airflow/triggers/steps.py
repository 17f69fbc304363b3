"""The triggers that wait without a worker for one step of an execution: for its beginning, or for its end."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pydantic import BaseModel

from polysync_airflow.execution.steps.awaited import StepTriggerArguments, ended_step
from polysync_airflow.execution.steps.callbacks import Situation, StepEvent, find_step, situation_of
from polysync_airflow.execution.waiter import Wait
from polysync_airflow.states import STATUS_EXECUTING
from polysync_airflow.triggers.pipeline_execution import PolysyncPipelineExecutionTrigger
from polysync_airflow.triggers.subscription import Step, StepChanges


class StepTrigger(PolysyncPipelineExecutionTrigger):
    """What the triggers have in common. They also fire when the execution ends, or the wait does."""

    arguments_model = StepTriggerArguments

    def __init__(self, *, step_name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.step_name = step_name

    def _handle(self, step: Step) -> dict[str, Any] | None:
        payload = super()._handle(step)
        event = None if payload else self._event_of(step)
        return event.model_dump(mode="json") if event else payload

    @abstractmethod
    def _event_of(self, step: Step) -> BaseModel | None:
        """Return the event if the step has reached what is waited for."""


class PolysyncPipelineStepTrigger(StepTrigger):
    """
    Wait for one step of a SageMaker pipeline execution to end, or for the end of the execution.

    :param step_name: the step.
    :param arguments: those of ``PolysyncPipelineExecutionTrigger``. The steps are listed every
        ``progress_interval`` seconds.
    """

    # The class path that Airflow stores is the public one, wherever this module is.
    __module__ = "polysync_airflow.triggers"

    def _event_of(self, step: Step) -> BaseModel | None:
        if isinstance(step, StepChanges):
            return ended_step(step.steps, self.step_name, self.execution_arn)
        return None


class PolysyncCallbackStepTrigger(StepTrigger):
    """
    Wait for a callback step to begin, then fire one event. The event does not say what has happened: the task
    looks itself, and the token of the step is in no event and no trigger.

    :param step_name: the name of the step.
    :param arguments: the other arguments are those of ``PolysyncPipelineExecutionTrigger``.
    """

    pushes_steps = False
    __module__ = "polysync_airflow.triggers"

    def _event_of(self, step: Step) -> BaseModel | None:
        return StepEvent(since=self.since, deadline=self.deadline) if self._is_news(step) else None

    def _is_news(self, step: Step) -> bool:
        if isinstance(step, StepChanges):
            # Without steps, they cannot be listed. The task says why.
            found = find_step(step.steps, self.step_name)
            return not step.steps or situation_of(found, STATUS_EXECUTING) is not Situation.NOT_BEGUN
        # While an execution is stopping, its steps are not listed.
        status = step.waiter.last_status if isinstance(step, Wait) else None
        return status is not None and situation_of(None, status) is not Situation.NOT_BEGUN
