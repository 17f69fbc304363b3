"""The run of a Stop task."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Context

from polysync_airflow.exceptions import PipelineExecutionError
from polysync_airflow.execution.models import pipeline_name_of, region_from_arn
from polysync_airflow.execution.outcome import described, outcome_message, unended_error
from polysync_airflow.execution.waiter import ExecutionEvent, check_event
from polysync_airflow.hooks.executions import request_stop
from polysync_airflow.operators.reporting import push_ended, push_links, push_summary
from polysync_airflow.operators.task_run import ExecutionRun
from polysync_airflow.states import STATUS_STOPPING, has_ended, is_stoppable, state_of

if TYPE_CHECKING:
    from polysync_airflow.operators.stop import (
        PolysyncStopPipelineOperator,
        StopOptions,
    )


class StopRun(ExecutionRun):
    """One session of a Stop task."""

    options: StopOptions

    def __init__(self, task: PolysyncStopPipelineOperator, context: Context) -> None:
        super().__init__(task, context)
        self.arn = task.execution_arn

    def execute(self) -> str:
        """Request the stop and, if the task waits, wait for the end."""
        self.check_execution(self.arn)
        pipeline_name = pipeline_name_of(self.arn)
        push_links(self.context, self.hook, self.arn, pipeline_name, self.log)
        status = self._request_stop()
        if has_ended(status) or not self.options.wait_for_completion:
            return state_of(status).value
        waiter = self.make_waiter(self.arn, None, cost_limit=None)
        return self._end(self.wait_for_end(waiter, self.trigger_arguments(waiter)))

    def complete(self, event: object) -> str:
        """Return the state in which the execution ended."""
        return self._end(check_event(ExecutionEvent, event))

    def _end(self, end: ExecutionEvent) -> str:
        push_ended(self.context, end)
        if end.outcome == "ended":
            self.log.info("%s", outcome_message(end))
            return state_of(end.status).value
        message = outcome_message(
            end, notes=("Its stop was requested, but it may still be running.",)
        )
        raise unended_error(end, message)

    def _request_stop(self) -> str:
        """
        Request a stop if the execution can be stopped; return its latest known AWS
        status.
        """
        hook = self.hook_for_region(region_from_arn(self.arn))
        description = self.call_with_retry(
            partial(hook.describe_pipeline_execution, self.arn)
        )
        status = description.status
        push_summary(self.context, described(description))
        if is_stoppable(status):
            # None if AWS accepted the stop; otherwise the status because of which no
            # stop is needed.
            other_status = self.call_with_retry(partial(request_stop, hook, self.arn))
            if other_status:
                status = other_status
            else:
                status = STATUS_STOPPING
                self.log.info("Stop requested: execution %s", self.arn)
            description = description.model_copy(update={"status": status})
            push_summary(self.context, described(description))
        if not has_ended(status):
            return status
        message = f"The execution had already ended (AWS status {status}): {self.arn}"
        if self.options.fail_if_not_running:
            raise PipelineExecutionError(
                message, execution_arn=self.arn, status=status, permanent=True
            )
        self.log.info("%s", message)
        return status
