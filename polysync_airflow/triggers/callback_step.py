"""The trigger that waits without a worker until a callback step has begun, or cannot begin any more."""

from __future__ import annotations

from typing import Any

from polysync_airflow.execution.steps.callbacks import (
    Situation,
    StepEvent,
    check_step_name,
    find_step,
    situation_of,
)
from polysync_airflow.execution.waiter import Wait, Waiter
from polysync_airflow.states import STATUS_EXECUTING
from polysync_airflow.triggers.pipeline_execution import PolysyncPipelineExecutionTrigger
from polysync_airflow.triggers.subscription import Step, StepChanges


class PolysyncCallbackStepTrigger(PolysyncPipelineExecutionTrigger):
    """
    Wait for a callback step to begin, then fire one event. The event does not say what has happened: the task
    looks itself, and the token of the step is in no event and no trigger.

    :param step_name: the name of the step.
    :param arguments: the other arguments are those of ``PolysyncPipelineExecutionTrigger``.
    """

    pushes_steps = False
    __module__ = "polysync_airflow.triggers"

    def __init__(self, *, step_name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.step_name = step_name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        path, arguments = super().serialize()
        return path, {**arguments, "step_name": self.step_name}

    def _waiter(self) -> Waiter:
        check_step_name(self.step_name)
        return super()._waiter()

    def _handle(self, step: Step) -> dict[str, Any] | None:
        payload = super()._handle(step)
        if payload or not self._is_news(step):
            return payload
        return StepEvent(since=self.since, deadline=self.deadline).model_dump(mode="json")

    def _is_news(self, step: Step) -> bool:
        if isinstance(step, StepChanges):
            # Without steps, they cannot be listed. The task says why.
            found = find_step(step.steps, self.step_name)
            return not step.steps or situation_of(found, STATUS_EXECUTING) is not Situation.NOT_BEGUN
        # While an execution is stopping, its steps are not listed.
        status = step.waiter.last_status if isinstance(step, Wait) else None
        return status is not None and situation_of(None, status) is not Situation.NOT_BEGUN
