"""The trigger that waits for one step of an execution, without a worker."""

from __future__ import annotations

from typing import Any

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.steps.awaited import ended_step
from polysync_airflow.execution.texts import shorten
from polysync_airflow.execution.waiter import Waiter
from polysync_airflow.triggers.pipeline_execution import PolysyncPipelineExecutionTrigger
from polysync_airflow.triggers.subscription import Step, StepChanges


class PolysyncPipelineStepTrigger(PolysyncPipelineExecutionTrigger):
    """
    Wait for one step of a SageMaker pipeline execution to end, or for the end of the execution.

    :param step_name: the step.
    :param arguments: those of ``PolysyncPipelineExecutionTrigger``. The steps are listed every
        ``progress_interval`` seconds.
    """

    # The class path that Airflow stores is the public one, wherever this module is.
    __module__ = "polysync_airflow.triggers"

    def __init__(self, *, step_name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.step_name = step_name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        path, arguments = super().serialize()
        return path, {**arguments, "step_name": self.step_name}

    def _waiter(self) -> Waiter:
        if not isinstance(self.step_name, str):
            raise ParametersError(
                "The trigger that is stored for this task has arguments that are not valid (step_name = "
                f"{shorten(self.step_name)}). Clear the task. The execution may still be running."
            )
        return super()._waiter()

    def _handle(self, step: Step) -> dict[str, Any] | None:
        payload = super()._handle(step)
        if payload is None and isinstance(step, StepChanges):
            ended = ended_step(step.steps, self.step_name, self.execution_arn)
            payload = ended.model_dump(mode="json") if ended else None
        return payload
