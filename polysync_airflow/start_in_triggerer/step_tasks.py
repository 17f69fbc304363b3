"""The trigger that runs the task of a step."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import Context, TaskDeferred
from airflow.triggers.base import TriggerEvent
from pydantic import BaseModel

from polysync_airflow.airflow_compat.task_instances import without_dag
from polysync_airflow.execution.step_tasks import StepTaskEndArguments
from polysync_airflow.operators import step_task_run, step_tasks
from polysync_airflow.triggers import PolysyncStepTaskTrigger, task_end


class PolysyncStepTaskEndTrigger(StepTaskEndArguments, PolysyncStepTaskTrigger):
    """Wait for the end of one step of an execution, then end the task of the step."""

    __module__ = "polysync_airflow.start_in_triggerer"

    def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Wait for the end of the step, end the task, and yield the event."""
        if self.task_instance is not None:
            self.task_instance = without_dag(self.task_instance)
        return super().run()

    async def _fire(self, event: BaseModel) -> TriggerEvent:
        ti: Any = self.task_instance
        ti.task = SimpleNamespace(retries=self.retries, do_xcom_push=True)
        end = task_end.TaskEnd(ti=ti, connection_id=self.polysync_conn_id, log=self.log)
        fired = await end.run(partial(self._end_task, event))
        if isinstance(fired, TaskDeferred):
            raise TypeError("the end of a step's task does not defer")
        return fired

    def _end_task(self, event: Any, context: Context) -> Any:
        """Run the code of the task, in a thread."""
        task = step_tasks.PolysyncPipelineStepOperator(
            task_id=context["ti"].task_id, **self.kwargs()
        )
        hook = None
        if self._poller and not self.property_files:
            hook = self._poller.client.hook
        return step_task_run.StepTaskRun(task, context).end(event, hook)
