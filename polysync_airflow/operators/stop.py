"""The operator that stops an execution."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

from airflow.providers.common.compat.sdk import Context, XComArg

from polysync_airflow.exceptions import PipelineExecutionError
from polysync_airflow.execution.models import pipeline_name_of, region_from_arn
from polysync_airflow.execution.outcome import described, outcome_message, unended_error
from polysync_airflow.execution.parameters import Flag
from polysync_airflow.links import EXECUTION_LINKS
from polysync_airflow.operators import base
from polysync_airflow.operators.reporting import push_ended, push_links, push_summary
from polysync_airflow.states import STATUS_STOPPING, has_ended, is_stoppable, state_of


class StopOptions(base.WaitOptions):
    """The options of a stop."""

    fail_if_not_running: Flag


class PolysyncStopPipelineOperator(base.ExecutionOperator):
    """
    Stop an execution of a SageMaker pipeline and, by default, wait until it has ended.

    An execution that has already ended is not an error by default. A stopped execution
    first gets the AWS status Stopping. A running callback step delays the stop, a
    Lambda step runs to its end, and the execution may still end as Success or Failed.
    API:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html

    :param execution_arn: the ARN of the execution (templated).
    :param fail_if_not_running: fail if the execution has ended before this task
        requests the stop.
    :param wait_for_completion: whether to wait for the end of the execution.
    :param deferrable: wait in the triggerer instead of on a worker.
        Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds, or a timedelta, between two polls.
    :param timeout: seconds, or a timedelta, to wait for the end; ``execution_timeout``
        applies if it is shorter.
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or
        ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :return: the Polysync state of the execution (XCom ``return_value``): the final
        state if the task waits.
    :raises ParametersError: ``execution_arn`` is not the ARN of an execution, or is in
        another region than ``region_name``.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call.
    :raises PipelineExecutionError: the execution had already ended, and
        ``fail_if_not_running`` is set.
    :raises PipelineExecutionTimeoutError: the execution did not end in time; it may
        still be running.
    """

    template_fields: Sequence[str] = (
        "execution_arn",
        "polysync_conn_id",
        "region_name",
    )
    operator_extra_links = EXECUTION_LINKS
    ui_color = "#fdeaea"
    options = base.ValidatedOptions(StopOptions)

    def __init__(
        self,
        *,
        execution_arn: str | XComArg,
        fail_if_not_running: bool = False,
        wait_for_completion: bool = True,
        deferrable: bool = base.DEFAULT_DEFERRABLE,
        poll_interval: float | timedelta = base.DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = base.DEFAULT_TIMEOUT,
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow replaces an XComArg by the rendered text before it calls execute.
        self.execution_arn = cast("str", execution_arn)
        self.fail_if_not_running = fail_if_not_running
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self._check_options()

    @base.apply_retry_policy
    def execute(self, context: Context) -> str:
        """
        Request the stop and, if ``wait_for_completion`` is set, wait for the end of the
        execution.
        """
        self._check_execution(self.execution_arn)
        push_links(
            context,
            self.hook,
            self.execution_arn,
            pipeline_name_of(self.execution_arn),
            self.log,
        )
        status = self._request_stop(context)
        if has_ended(status) or not self.options.wait_for_completion:
            return state_of(status).value
        event = self._wait_for_end(
            self._make_waiter(self.execution_arn, None, cost_limit=None)
        )
        return self.execute_complete(context, event.model_dump(mode="json"))

    @base.apply_retry_policy
    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Return the state in which the execution ended.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        from polysync_airflow.execution.waiter import ExecutionEvent, check_event

        end = check_event(ExecutionEvent, event)
        push_ended(context, end)
        if end.outcome == "ended":
            self.log.info("%s", outcome_message(end))
            return state_of(end.status).value
        message = outcome_message(
            end, notes=("Its stop was requested, but it may still be running.",)
        )
        raise unended_error(end, message)

    def _request_stop(self, context: Context) -> str:
        """
        Request a stop if the execution can be stopped; return its latest known AWS
        status.
        """
        from polysync_airflow.hooks.executions import request_stop

        hook = self.hook_for_region(region_from_arn(self.execution_arn))
        description = self._call_with_retry(
            lambda: hook.describe_pipeline_execution(self.execution_arn)
        )
        status = description.status
        push_summary(context, described(description))
        if is_stoppable(status):
            # None if AWS accepted the stop; otherwise the status because of which no
            # stop is needed.
            other_status = self._call_with_retry(
                lambda: request_stop(hook, self.execution_arn)
            )
            if other_status:
                status = other_status
            else:
                status = STATUS_STOPPING
                self.log.info("Stop requested: execution %s", self.execution_arn)
            description = description.model_copy(update={"status": status})
            push_summary(context, described(description))
        if not has_ended(status):
            return status
        message = (
            f"The execution had already ended (AWS status {status}):"
            f" {self.execution_arn}"
        )
        if self.options.fail_if_not_running:
            raise PipelineExecutionError(
                message,
                execution_arn=self.execution_arn,
                status=status,
                permanent=True,
            )
        self.log.info("%s", message)
        return status
