"""Owns the task that starts an execution of a pipeline."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

from airflow.sdk.exceptions import AirflowSkipException

from polysync_airflow.exceptions import (
    ParametersError,
    PipelineExecutionCancelledError,
    PipelineExecutionCancelledFailError,
    PipelineExecutionFailedError,
    PipelineExecutionTimeoutError,
    PolysyncError,
)
from polysync_airflow.links import CONSOLE_URL_XCOM_KEY, PolysyncPipelineExecutionLink, console_url
from polysync_airflow.models import ExecutionEvent, ExecutionRecord, FailedStep, StartRequest
from polysync_airflow.operators.waiting import (
    DEFAULT_CONNECTION,
    DEFAULT_DEFERRABLE,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    ExecutionOperator,
    ask_to_stop,
)
from polysync_airflow.parameters import build_start_request, display_name_for
from polysync_airflow.report import parse_event, record_of, refusal_of, story_of
from polysync_airflow.states import STATUS_COMPLETED_WITH_FAILURES, PolysyncState, state_of

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

OnCompletedWithFailures = Literal["fail", "succeed"]
OnCancelled = Literal["fail", "skip", "retry"]


class PolysyncStartPipelineOperator(ExecutionOperator):
    """
    Start an execution of a SageMaker pipeline and, by default, wait for its end.

    Pushes the XComs ``execution_arn`` and ``console_url`` the moment the execution exists, and ``state`` (a
    Polysync state) and ``run`` (a dict: execution_arn, pipeline_name, state, status, message, started_at,
    ended_at, seconds, parameters, failed_steps) at its end, also when the task then fails.
    API: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html

    :param pipeline_name: the pipeline's name or ARN (templated).
    :param pipeline_parameters: values by parameter name: strings, numbers or booleans, sent as ``str(value)``
        (templated).
    :param execution_display_name: 1 to 82 letters, digits and hyphens (templated). Default: made from dag,
        task, run and try, unique.
    :param execution_description: at most 3,072 characters (templated).
    :param max_parallel_steps: how many steps may run at once, from 1 (templated).
    :param execution_role_arn: role that the execution runs under (templated); needs boto3 1.44, and AWS
        accepts it for pipelines that AWS manages. Default: the connection's.
    :param pipeline_version_id: which version to run, from 1 (templated). Default: the latest.
    :param polysync_conn_id: Airflow connection, type ``polysync_sagemaker`` or ``aws`` (templated).
    :param region_name: AWS region; goes before the connection's (templated).
    :param wait_for_completion: whether to wait for the end.
    :param deferrable: wait in the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between two looks.
    :param timeout: seconds the execution may take, from its start; ``execution_timeout`` counts if shorter.
    :param stop_on_kill: stop the execution when the task is killed or its time is up.
    :param on_completed_with_failures: ``fail`` or ``succeed`` when AWS reports CompletedWithFailures.
    :param on_cancelled: when somebody stopped the execution: ``fail`` without using retries, ``skip``, or
        ``retry`` (an ordinary failure).
    :return: the execution's ARN (XCom ``return_value``).
    :raises ParametersError: an argument is not legal; nothing was started.
    :raises CredentialsError: the connection is missing or unusable; nothing was started.
    :raises SageMakerApiError: AWS refused.
    :raises PipelineExecutionFailedError: the execution failed; with the failed steps' reasons.
    :raises PipelineExecutionCancelledError: somebody stopped it.
    :raises PipelineExecutionTimeoutError: it took too long.
    """

    template_fields: Sequence[str] = (
        "pipeline_name",
        "pipeline_parameters",
        "execution_display_name",
        "execution_description",
        "max_parallel_steps",
        "execution_role_arn",
        "pipeline_version_id",
        "polysync_conn_id",
        "region_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"pipeline_parameters": "json"}
    operator_extra_links = (PolysyncPipelineExecutionLink(),)
    ui_color = "#e5f1ff"

    def __init__(
        self,
        *,
        pipeline_name: str | XComArg,
        pipeline_parameters: Mapping[str, Any] | XComArg | None = None,
        execution_display_name: str | None = None,
        execution_description: str | None = None,
        max_parallel_steps: int | str | None = None,
        execution_role_arn: str | None = None,
        pipeline_version_id: int | str | None = None,
        polysync_conn_id: str = DEFAULT_CONNECTION,
        region_name: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = DEFAULT_DEFERRABLE,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        timeout: float = DEFAULT_TIMEOUT,
        stop_on_kill: bool = True,
        on_completed_with_failures: OnCompletedWithFailures = "fail",
        on_cancelled: OnCancelled = "fail",
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
        _require_one_of("on_completed_with_failures", on_completed_with_failures, OnCompletedWithFailures)
        _require_one_of("on_cancelled", on_cancelled, OnCancelled)
        # Airflow puts the rendered values in place of XComArgs before execute.
        self.pipeline_name = cast("str", pipeline_name)
        self.pipeline_parameters = pipeline_parameters
        self.execution_display_name = execution_display_name
        self.execution_description = execution_description
        self.max_parallel_steps = max_parallel_steps
        self.execution_role_arn = execution_role_arn
        self.pipeline_version_id = pipeline_version_id
        self.stop_on_kill = stop_on_kill
        self.on_completed_with_failures = on_completed_with_failures
        self.on_cancelled = on_cancelled
        self._running_arn: str | None = None

    def execute(self, context: Context) -> str:
        """Check, start, publish, and wait if asked to."""
        request = self._request(context)
        self.hook.check_supported(request)
        arn = self._running_arn = self.hook.start_pipeline_execution(request)
        self.log.info("Started pipeline %s, execution %s", request.pipeline_name, arn)
        with self._stopped_on_error(arn):
            self._publish_start(context, request, arn)
            if not self.wait_for_completion:
                return arn
            event = self._wait_for_end(arn, request.pipeline_name)
        return self.execute_complete(context, event.model_dump(mode="json"))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Publish how the execution ended and succeed, fail or skip accordingly.

        :param context: the task's context.
        :param event: the trigger's event.
        :raises TriggerEventError: if it is not one.
        """
        end = parse_event(event)
        self._running_arn = None
        stopped = None if end.outcome == "ended" else self._stop(end.execution_arn)
        failed_steps, unlisted = self._failed_steps(end)
        self._publish_end(context, end, failed_steps)
        story = story_of(end, failed_steps=failed_steps, remarks=(unlisted, stopped))
        if end.outcome == "refused":
            raise refusal_of(end, story)
        if end.outcome == "timed_out":
            raise PipelineExecutionTimeoutError(story, execution_arn=end.execution_arn, status=end.status)
        self._judge(end, story)
        return end.execution_arn

    def _judge(self, end: ExecutionEvent, story: str) -> None:
        state = state_of(end.status)
        if state is PolysyncState.SUCCESS:
            self.log.info("%s", story)
        elif state is PolysyncState.CANCELLED and self.on_cancelled == "skip":
            raise AirflowSkipException(story)
        elif state is PolysyncState.CANCELLED:
            retries = self.on_cancelled == "retry"
            error = PipelineExecutionCancelledError if retries else PipelineExecutionCancelledFailError
            raise error(story, execution_arn=end.execution_arn, status=end.status)
        elif end.status == STATUS_COMPLETED_WITH_FAILURES and self.on_completed_with_failures == "succeed":
            self.log.warning("%s", story)
        else:
            raise PipelineExecutionFailedError(story, execution_arn=end.execution_arn, status=end.status)

    def on_kill(self) -> None:
        """Stop the execution that this worker waits for, unless ``stop_on_kill=False``."""
        if self._running_arn:
            self.log.info("Task killed. %s", self._stop(self._running_arn))

    def _request(self, context: Context) -> StartRequest:
        ti = context["ti"]
        key = (ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.try_number)
        request = build_start_request(
            pipeline_name=self.pipeline_name,
            pipeline_parameters={} if self.pipeline_parameters is None else self.pipeline_parameters,
            execution_display_name=self.execution_display_name or display_name_for(*key),
            execution_description=self.execution_description or None,
            max_parallel_steps=self.max_parallel_steps,
            execution_role_arn=self.execution_role_arn,
            pipeline_version_id=self.pipeline_version_id,
            client_request_token=f"polysync-{uuid.uuid4()}",
        )
        if request.execution_role_arn is None and self.hook.credentials:
            role = self.hook.credentials.execution_role_arn
            request = request.model_copy(update={"execution_role_arn": role})
        return request

    @contextmanager
    def _stopped_on_error(self, execution_arn: str) -> Iterator[None]:
        # Between the start and the wait's end nothing may be lost from sight: an XCom that cannot be pushed
        # fails the task, and a failed task must not leave a paid execution behind.
        try:
            yield
        except Exception:
            self.log.error("Failing after the start of %s. %s", execution_arn, self._stop(execution_arn))
            raise

    def _stop(self, execution_arn: str) -> str:
        """Ask for a stop if that is wanted; tell in a sentence what came of it."""
        if not self.stop_on_kill:
            return "The execution goes on running, as stop_on_kill=False asks."
        try:
            moot = ask_to_stop(self.hook, execution_arn)
        except PolysyncError as error:
            return f"The execution may still be running, its stop was refused: {error}"
        if moot:
            return f"No stop was needed: it had ended meanwhile, or was stopping (AWS status {moot})."
        return "The execution was asked to stop."

    def _failed_steps(self, end: ExecutionEvent) -> tuple[list[FailedStep], str | None]:
        """List the steps that failed, or tell why they cannot be listed: that permission is optional."""
        if end.outcome != "ended" or state_of(end.status) is not PolysyncState.FAILED:
            return [], None
        try:
            steps = self.hook.list_pipeline_execution_steps(end.execution_arn)
        except PolysyncError as error:
            return [], f"The failed steps' own reasons could not be listed: {error}"
        return [FailedStep(name=s.name, reason=s.failure_reason) for s in steps if s.status == "Failed"], None

    def _publish_start(self, context: Context, request: StartRequest, execution_arn: str) -> None:
        ti = context["ti"]
        ti.xcom_push("execution_arn", execution_arn)
        url = console_url(execution_arn, request.pipeline_name)
        if url:
            ti.xcom_push(CONSOLE_URL_XCOM_KEY, url)
            # Airflow stores links only when a worker's session ends: too late for a synchronous wait.
            ti.xcom_push(PolysyncPipelineExecutionLink().xcom_key, url)
        self._push_record(
            context,
            ExecutionRecord(
                execution_arn=execution_arn,
                pipeline_name=request.pipeline_name,
                state=PolysyncState.RUNNING.value,
                parameters=request.pipeline_parameters,
            ),
        )

    def _publish_end(self, context: Context, end: ExecutionEvent, failed_steps: list[FailedStep]) -> None:
        ti = context["ti"]
        # What was sent, not what the templates would give now: they may look at the clock.
        sent = ti.xcom_pull(task_ids=ti.task_id, key="run", map_indexes=ti.map_index)
        record = record_of(
            end,
            pipeline_name=self.pipeline_name,
            parameters=(sent or {}).get("parameters", {}),
            failed_steps=failed_steps,
        )
        self._push_record(context, record)

    def _push_record(self, context: Context, record: ExecutionRecord) -> None:
        context["ti"].xcom_push("state", record.state)
        context["ti"].xcom_push("run", record.model_dump(mode="json"))


def _require_one_of(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ParametersError(f"{name} = {value!r} is not legal: give one of {', '.join(get_args(choices))}.")
