"""Owns the task that stops an execution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from polysync_airflow.exceptions import PipelineExecutionError, PipelineExecutionTimeoutError
from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.execution.outcome import outcome_message, parse_event, refusal_error
from polysync_airflow.execution.parameters import check_execution_arn
from polysync_airflow.operators.base import (
    DEFAULT_CONNECTION,
    DEFAULT_DEFERRABLE,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    ExecutionOperator,
)
from polysync_airflow.states import STATUS_STOPPING, has_ended, is_stoppable, state_of

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg


class PolysyncStopPipelineOperator(ExecutionOperator):
    """
    Stop an execution of a SageMaker pipeline and, by default, wait until it has ended.

    Content with an execution that had ended already. A stop passes through Stopping; a running callback step
    holds it up, a lambda step runs to its end, and the execution may still end as Success or Failed.
    API: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html

    :param execution_arn: the execution (templated).
    :param fail_if_not_running: fail if it had ended before this task asked.
    :param wait_for_completion: whether to wait for the end.
    :param deferrable: wait in the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between two looks.
    :param timeout: seconds to wait for the end; ``execution_timeout`` counts if shorter.
    :param polysync_conn_id: Airflow connection, type ``polysync_sagemaker`` or ``aws`` (templated).
    :param region_name: AWS region; goes before the connection's (templated).
    :return: the execution's Polysync state (XCom ``return_value``): the final one if waited for.
    :raises ParametersError: ``execution_arn`` is not an execution's ARN.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused.
    :raises PipelineExecutionError: it had ended already, and ``fail_if_not_running`` is set.
    :raises PipelineExecutionTimeoutError: it had not ended in time; it may still be running.
    """

    template_fields: Sequence[str] = ("execution_arn", "polysync_conn_id", "region_name")
    ui_color = "#fdeaea"

    def __init__(
        self,
        *,
        execution_arn: str | XComArg,
        fail_if_not_running: bool = False,
        wait_for_completion: bool = True,
        deferrable: bool = DEFAULT_DEFERRABLE,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        timeout: float = DEFAULT_TIMEOUT,
        polysync_conn_id: str = DEFAULT_CONNECTION,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            polysync_conn_id=polysync_conn_id,
            region_name=region_name,
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            poll_interval=poll_interval,
            timeout=timeout,
            **kwargs,
        )
        # Airflow puts the rendered text in place of an XComArg before execute.
        self.execution_arn = cast("str", execution_arn)
        self.fail_if_not_running = fail_if_not_running

    def execute(self, context: Context) -> str:
        """Ask for the stop, and wait for the end if asked to."""
        check_execution_arn(self.execution_arn)
        status = self._ask()
        if has_ended(status) or not self.wait_for_completion:
            return state_of(status).value
        event = self._wait_for_end(self._watch(self.execution_arn, None))
        return self.execute_complete(context, event.model_dump(mode="json"))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Return the state that the execution ended in.

        :param context: the task's context.
        :param event: the trigger's event.
        :raises TriggerEventError: if it is not one.
        """
        end = parse_event(event)
        if end.outcome == "ended":
            self.log.info("%s", outcome_message(end))
            return state_of(end.status).value
        story = outcome_message(end, remarks=("It was asked to stop, and may still be running.",))
        if end.outcome == "refused":
            raise refusal_error(end, story)
        raise PipelineExecutionTimeoutError(story, execution_arn=end.execution_arn, status=end.status)

    def _ask(self) -> str:
        """Ask for the stop unless that is moot; return the status seen last."""
        from polysync_airflow.aws.stop import request_stop

        hook = self.hook_in(region_from_arn(self.execution_arn))
        status = self._call_with_retry(lambda: hook.describe_pipeline_execution(self.execution_arn)).status
        if is_stoppable(status):
            moot = self._call_with_retry(lambda: request_stop(hook, self.execution_arn))
            status = moot or STATUS_STOPPING
            if not moot:
                self.log.info("Execution %s was asked to stop", self.execution_arn)
        if has_ended(status):
            said = f"Execution {self.execution_arn} had ended already (AWS status {status})."
            if self.fail_if_not_running:
                raise PipelineExecutionError(
                    said, execution_arn=self.execution_arn, status=status, permanent=True
                )
            self.log.info("%s", said)
        return status
