"""The operator that stops an execution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from polysync_airflow.execution.parameters import Flag
from polysync_airflow.links import EXECUTION_LINKS
from polysync_airflow.operators import base

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context, XComArg

    from polysync_airflow.operators.stop_run import StopRun


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

    def _run_in(self, context: Context) -> StopRun:
        from polysync_airflow.operators.stop_run import StopRun

        return StopRun(self, context)

    @base.apply_retry_policy
    def execute(self, context: Context) -> str:
        """
        Request the stop and, if ``wait_for_completion`` is set, wait for the end of the
        execution.
        """
        return self._run_in(context).execute()

    @base.apply_retry_policy
    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Return the state in which the execution ended.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        return self._run_in(context).complete(event)
