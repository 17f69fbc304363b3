"""The operator that answers a callback step of an execution, and its decorator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, cast

from polysync_airflow import links
from polysync_airflow.execution.texts import invalid_argument
from polysync_airflow.operators import base

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context, XComArg

    from polysync_airflow.operators.callback_run import CallbackRun


class PolysyncCallbackStepOperator(base.ExecutionOperator):
    """
    Answer a callback step of an execution with what a function returns.

    The task waits until the step runs, receives its message from the queue of the step,
    and calls the function on the worker with the arguments of the step. It answers with
    the returned output parameters, or with the reason of the exception.
    ``AirflowSkipException`` fails the step, too, and skips the task. If the execution
    is to be stopped, it answers at once, because AWS stops the execution only then.

    A step is answered once. If a try dies before the answer, the next one calls the
    function again; if it dies after the answer, the next one takes the answer that AWS
    has. API:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_SendPipelineExecutionStepSuccess.html

    :param execution_arn: the ARN of the execution (templated).
    :param step_name: the name of the callback step, in a ForEach step AWS's, such as
        ``Ask-0`` (templated).
    :param python_callable: the function. It gets the arguments of the step by name, and
        returns None, or a dict of at most 50 names to texts, numbers or booleans whose
        text has at most 1,024 characters.
    :param op_kwargs: further keyword arguments of the function, which override those of
        the step (templated).
    :param deferrable: wait for the step in the triggerer instead of on a worker.
        Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds, or a timedelta, between two polls.
    :param timeout: seconds, or a timedelta, to wait for the step to begin;
        ``execution_timeout`` applies if it is shorter, also to the function.
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or
        ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :return: the output parameters of the step, as texts (XCom ``return_value``).
    :raises ParametersError: an argument is not valid, or the pipeline has no such
        callback step.
    :raises CallbackStepError: the function failed, or its return value is not valid,
        and the step was answered with a failure; the step had failed before; the
        execution ended without the step; or the message of the step was not in its
        queue, and nothing was answered.
    :raises AirflowSkipException: the function raised it, and the step was answered with
        a failure.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call.
    :raises PipelineExecutionCancelledError: the execution is being stopped, or was
        stopped.
    :raises PipelineExecutionTimeoutError: the step did not begin in time.
    """

    template_fields: Sequence[str] = (
        "execution_arn",
        "step_name",
        "op_kwargs",
        "polysync_conn_id",
        "region_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"op_kwargs": "py"}
    options = base.ValidatedOptions(base.PollOptions)
    # As those of Airflow's PythonOperator: they may hold what cannot be copied.
    shallow_copy_attrs: Sequence[str] = ("python_callable", "op_kwargs")
    operator_extra_links = links.EXECUTION_LINKS
    ui_color = "#fff6df"

    def __init__(  # noqa: PLR0913 (for DAG authors)
        self,
        *,
        execution_arn: str | XComArg,
        step_name: str,
        python_callable: Callable[..., Mapping[str, Any] | None],
        op_kwargs: Mapping[str, Any] | None = None,
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
        self.step_name = step_name
        self.python_callable = python_callable
        self.op_kwargs = op_kwargs
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self._check_options()
        if not callable(python_callable):
            raise invalid_argument(
                "python_callable", python_callable, "give a function"
            )

    def _run_in(self, context: Context) -> CallbackRun:
        from polysync_airflow.operators.callback_run import CallbackRun

        return CallbackRun(self, context)

    @base.apply_retry_policy
    def execute(self, context: Context) -> dict[str, str]:
        """Wait for the step, call the function, and answer."""
        return self._run_in(context).execute()

    @base.apply_retry_policy
    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> dict[str, str]:
        """
        Go on when the step has begun, or cannot begin any more.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        return self._run_in(context).complete(event)


def callback_step(
    *, execution_arn: str | XComArg, step_name: str, **arguments: Any
) -> Callable[[Callable[..., Mapping[str, Any] | None]], Callable[..., XComArg]]:
    """
    Decorate a function that answers a callback step. A call of it adds a task to the
    current DAG.

    The keyword arguments of the call become ``op_kwargs``: further arguments of the
    function. It returns the result of the task, as the call of a function with
    Airflow's ``@task`` does.

    :param execution_arn: the ARN of the execution (templated).
    :param step_name: the name of the callback step (templated).
    :param arguments: further arguments of ``PolysyncCallbackStepOperator``. The default
        ``task_id`` is the name of the function.
    """

    def decorate(
        function: Callable[..., Mapping[str, Any] | None],
    ) -> Callable[..., XComArg]:
        @wraps(function)
        def add_task(**op_kwargs: Any) -> XComArg:
            operator = PolysyncCallbackStepOperator(
                execution_arn=execution_arn,
                step_name=step_name,
                python_callable=function,
                op_kwargs=op_kwargs or None,
                **{"task_id": function.__name__, **arguments},
            )
            return operator.output

        return add_task

    return decorate
